package pgcoord

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// heldColumns are slot.Piece's Held and HeldUntil. A hold that has ended is none.
const heldColumns = `CASE WHEN hold_at IS NULL OR hold_until <= now() THEN 0 ELSE least(hold_at, 9223372036854775806) + 1 END,
    CASE WHEN hold_at IS NULL OR hold_until IS NULL OR hold_until <= now() OR NOT isfinite(hold_until) THEN 0 ELSE (extract(epoch FROM hold_until) * 1000000)::bigint END`

const sqlAssignment = `
SELECT projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions, generation, revision, coalesce(stopped_at, 0), ` + heldColumns + `
FROM {{schema}}orchestrator_checkpoints
WHERE replica_set = $1 AND generation = $2 AND worker_id = $3 AND ` + dbguard.Primary + `
ORDER BY projection, slot_from`

// Assignment reads the checkpoints that the worker owns in the generation,
// ordered by projection and slot.
func (s *Store) Assignment(ctx context.Context, db DB, worker uuid.UUID, generation int64) ([]replicaset.Checkpoint, error) {
	var checkpoints []replicaset.Checkpoint
	err := s.assignment(&checkpoints, worker, generation).alone(ctx, db)
	return checkpoints, err
}

func (s *Store) assignment(into *[]replicaset.Checkpoint, worker uuid.UUID, generation int64) read {
	return read{
		sql: s.q(sqlAssignment), args: []any{s.replicaSet, generation, worker},
		take: func(rows pgx.Rows) (err error) {
			*into, err = pgx.CollectRows(rows, scanCheckpoint)
			return err
		},
		doing: fmt.Sprintf("reading the assignment of worker %s in generation %d", worker, generation),
	}
}

// Assigned is what a worker reads about its part of a generation before it handles events.
type Assigned struct {
	Generation  int64
	Checkpoints []replicaset.Checkpoint // see Store.Assignment
	Parked      []replicaset.Parked
	Successions []replicaset.Succession
	// Unsettled is what Store.Unsettled returns. Without it UnsettledErr says why; the rest is valid.
	Unsettled    map[string]int64
	UnsettledErr error
}

// ReadAssignment reads what the worker handles in the generation, and then what is parked for its projections and what has replaced them. The order matters: the revisions of the checkpoints fence what was read after them.
func (s *Store) ReadAssignment(ctx context.Context, db Conn, worker uuid.UUID, generation int64, projections []string) (Assigned, error) {
	return s.readAssignment(ctx, db, worker, generation, projections)
}

// readAssignment runs other reads before those of ReadAssignment.
func (s *Store) readAssignment(ctx context.Context, db Conn, worker uuid.UUID, generation int64, projections []string, before ...read) (Assigned, error) {
	a := Assigned{Generation: generation, Unsettled: map[string]int64{}}
	reads := append(before, s.assignment(&a.Checkpoints, worker, generation), s.parked(&a.Parked, projections), s.successions(&a.Successions, projections))
	var err error
	if a.UnsettledErr, err = s.inTurnAndAside(ctx, db, s.unsettled(a.Unsettled), reads...); err != nil {
		return Assigned{}, err
	}
	if a.UnsettledErr != nil {
		a.Unsettled = nil
	}
	return a, nil
}

const sqlReload = `
SELECT slot_from, slot_to, position, revision, coalesce(stopped_at, 0), ` + heldColumns + `
FROM {{schema}}orchestrator_checkpoints
WHERE projection = $1 AND partition_key = $2 AND total_partitions = $3 AND generation = $4 AND worker_id = $5 AND ` + dbguard.Primary + `
ORDER BY slot_from`

// Pieces reads the current checkpoints of one partition of a projection. An empty result means that the fence's worker
// no longer owns the whole partition in its generation. If somebody deletes or changes one row, the others alone must
// not lead to handling that row's events.
func (s *Store) Pieces(ctx context.Context, db DB, f Fence) ([]slot.Piece, error) {
	rows, err := db.Query(ctx, s.q(sqlReload), f.Projection, f.Partition.Key, f.Partition.Total, f.Generation, f.Worker)
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints of %s: %w", f, err)
	}
	pieces, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p slot.Piece, err error) {
		return p, row.Scan(&p.From, &p.To, &p.Position, &p.Revision, &p.Stopped, &p.Held, &p.HeldUntil)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoints of %s: %w", f, err)
	}
	if !f.Partition.Covers(pieces) {
		return nil, nil
	}
	return pieces, nil
}

func scanCheckpoint(row pgx.CollectableRow) (replicaset.Checkpoint, error) {
	var (
		c          replicaset.Checkpoint
		owner      *uuid.UUID
		key, total *int
	)
	err := row.Scan(&c.Projection, &c.From, &c.To, &c.Position, &owner, &key, &total, &c.Generation, &c.Revision, &c.Stopped, &c.Held, &c.HeldUntil)
	if err != nil {
		return replicaset.Checkpoint{}, err
	}
	if owner != nil && key != nil && total != nil {
		c.Owner, c.Partition = *owner, slot.Partition{Key: *key, Total: *total}
	}
	return c, nil
}
