package orchestrator

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// If a manual runner has run a projection and its checkpoints were not imported, the projection begins at the start of
// the stream. It then handles again what the runner has handled. The user may want that, so Run only warns.

// sqlReadable says whether the table exists and may be read. A worker's role need not have access to it.
const sqlReadable = `SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'SELECT'), false) WHERE ` + dbguard.Primary

// sqlManualRows reads the rows of manual runners, of this library's or pupsourcing's, that have handled something of the projections.
const sqlManualRows = `
SELECT projection_name, last_global_position FROM %s
WHERE last_global_position > 0 AND ` + dbguard.Primary + ` AND (projection_name = ANY ($1::pg_catalog.text[])
    OR pg_catalog.regexp_replace(projection_name, '(\[[0-9]+/[0-9]+(:[0-9]+-[0-9]+)?\]|_p[0-9]+)$', '') = ANY ($1::pg_catalog.text[]))
ORDER BY projection_name COLLATE "C" LIMIT 10`

// warnOfManualRows logs the projections that a manual runner has run and that have no checkpoints in the replica set
// yet. It must be called before they are entered.
func (o *Orchestrator) warnOfManualRows(ctx context.Context, db dbguard.Transactions, store *pgcoord.Store, events *eventstore.Store, names []string) {
	rows, err := manualRows(ctx, db, store, events.CheckpointsTable(), names)
	if err != nil {
		o.config.logger.DebugContext(ctx, "whether a manual runner has run the projections could not be looked up", "replica_set", o.replicaSet, "error", err)
		return
	}
	if len(rows) > 0 {
		o.config.logger.WarnContext(ctx, "a manual runner has checkpoints of a projection that has none in this replica set: it starts at the beginning of the stream, "+
			"and handles again what the runner has handled", "replica_set", o.replicaSet, "rows", rows,
			"remedy", "stop the workers, import the checkpoints (import-checkpoints, or admin.ImportCheckpoints), and start them again: docs/migration.md")
	}
}

// manualRows returns the rows of manual runners for the projections that have no checkpoints here.
func manualRows(ctx context.Context, db dbguard.Transactions, store *pgcoord.Store, table pgx.Identifier, names []string) ([]string, error) {
	entered, err := store.Entered(ctx, db, names)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(entered, name) })
	if len(names) == 0 {
		return nil, nil
	}
	var readable bool
	if err := db.QueryRow(ctx, sqlReadable, table.Sanitize()).Scan(&readable); err != nil || !readable {
		return nil, err
	}
	found, err := db.Query(ctx, fmt.Sprintf(sqlManualRows, table.Sanitize()), names)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", table.Sanitize(), err)
	}
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (text string, err error) {
		var name string
		var position int64
		err = row.Scan(&name, &position)
		return fmt.Sprintf("%s at %d", name, position), err
	})
}
