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

// Successions reads which of the projections have replaced others, and which were replaced. If the worker has read the
// projections' checkpoints before, their revision fences what it does with the result, since a cut-over raises the
// revision.
func (s *Store) Successions(ctx context.Context, db DB, projections ...string) ([]replicaset.Succession, error) {
	var all []replicaset.Succession
	err := s.successions(&all, projections).alone(ctx, db)
	return all, err
}

func (s *Store) successions(into *[]replicaset.Succession, projections []string) read {
	return read{
		sql: s.q(sqlSuccessions), args: []any{projections},
		take: func(rows pgx.Rows) (err error) {
			*into, err = pgx.CollectRows(rows, pgx.RowToStructByPos[replicaset.Succession])
			return err
		},
		doing: fmt.Sprintf("reading what has replaced %q", projections),
	}
}
