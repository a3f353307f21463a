package pgcoord

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

const sqlReplicaSets = `SELECT replica_set FROM %s UNION SELECT replica_set FROM %s ORDER BY 1`

// ReplicaSets returns the names of the replica sets that have a worker or a checkpoint in a schema, in order. If the
// role may not read the tables, the error says what to grant to read them and the events.
func ReplicaSets(ctx context.Context, db DB, schema string, events pgx.Identifier) ([]string, error) {
	var names []string
	rows, err := db.Query(ctx, fmt.Sprintf(sqlReplicaSets, pgx.Identifier{schema, "orchestrator_checkpoints"}.Sanitize(), pgx.Identifier{schema, "orchestrator_workers"}.Sanitize()))
	if err == nil {
		names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, fmt.Errorf("looking for replica sets: %w", dbrights.Explain(ctx, db, err, NeedsToRead(schema, events)))
	}
	return names, nil
}
