package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Of each projection that somebody runs, every slot has a checkpoint, all in one
// replica set. People change rows by hand, though, and must not stop the projections that
// they have left alone.

// ErrCheckpointsIncomplete means that checkpoints that a person entered leave slots out. CheckEntered returns an error
// that wraps it.
var ErrCheckpointsIncomplete = errors.New("checkpoints that were entered by hand leave slots out")

const sqlElsewhere = `
SELECT DISTINCT projection, replica_set FROM {{schema}}orchestrator_checkpoints
WHERE projection = ANY($1) AND replica_set <> $2 AND ` + dbguard.Primary + `
LIMIT {{all rows}}`

const sqlEntered = `
SELECT projection, slot_from, slot_to FROM {{schema}}orchestrator_checkpoints AS c
WHERE projection = ANY($1) AND replica_set = $2
  AND NOT EXISTS (SELECT 1 FROM {{schema}}orchestrator_checkpoints WHERE projection = c.projection AND generation > 0)
  AND ` + dbguard.Primary + `
ORDER BY projection LIMIT {{all rows}}`

// CheckEntered checks projections that no generation has divided yet. If a person entered checkpoints that leave slots
// out, it returns an error that wraps ErrCheckpointsIncomplete. Repairing such checkpoints would repeat what an earlier
// worker has handled.
func (s *Store) CheckEntered(ctx context.Context, db DB, projections []string) error {
	rows, err := db.Query(ctx, s.q(sqlEntered), projections, s.replicaSet)
	var entered map[string][]slot.Piece
	if err == nil {
		entered, err = collectEntered(rows)
	}
	if err != nil {
		return fmt.Errorf("checking the checkpoints of replica set %q: %w", s.replicaSet, err)
	}
	for _, projection := range slices.Sorted(maps.Keys(entered)) {
		if gaps := slot.Gaps(entered[projection]); len(gaps) > 0 {
			return fmt.Errorf("%w: projection %q has none of the slots %v: enter them into orchestrator_checkpoints, at position 0 where nothing was handled",
				ErrCheckpointsIncomplete, projection, gaps)
		}
	}
	return nil
}

// collectEntered takes the rows of sqlEntered.
func collectEntered(rows pgx.Rows) (map[string][]slot.Piece, error) {
	entered := map[string][]slot.Piece{}
	var projection string
	var p slot.Piece
	_, err := pgx.ForEachRow(rows, []any{&projection, &p.From, &p.To}, func() error {
		entered[projection] = append(entered[projection], p)
		return nil
	})
	return entered, err
}

// collectElsewhere takes the rows of sqlElsewhere: the replica set of each projection, or
// one of them.
func collectElsewhere(rows pgx.Rows) (map[string]string, error) {
	elsewhere := map[string]string{}
	var projection, replicaSet string
	_, err := pgx.ForEachRow(rows, []any{&projection, &replicaSet}, func() error {
		elsewhere[projection] = replicaSet
		return nil
	})
	return elsewhere, err
}
