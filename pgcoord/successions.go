package pgcoord

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

const sqlSuccessions = `
SELECT projection, replaced FROM {{schema}}orchestrator_successions
WHERE cut_over_at IS NOT NULL AND (projection = ANY ($1::text[]) OR replaced = ANY ($1::text[])) AND ` + dbguard.Primary + ` LIMIT {{all successions}}`

// Successions reads which of the projections have replaced others, and which were replaced. What a worker does with it is fenced by the revision of the projections'
// checkpoints, if it has read those before: a cut-over raises it.
func (s *Store) Successions(ctx context.Context, db DB, projections ...string) ([]replicaset.Succession, error) {
	rows, err := db.Query(ctx, s.q(sqlSuccessions), projections)
	var all []replicaset.Succession
	if err == nil {
		all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[replicaset.Succession])
	}
	if err != nil {
		return nil, fmt.Errorf("reading what has replaced %q: %w", projections, err)
	}
	return all, nil
}
