package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// Causes of a generation, as the table and the metric name them.
const (
	CauseFirst   = "first"    // there was none
	CauseJoined  = "joined"   // a worker came
	CauseLeft    = "left"     // a worker left
	CauseLost    = "lost"     // a worker died, froze or was cut off
	CauseChanged = "changed"  // several of these at once
	CauseTimeout = "excluded" // a worker did not stop in time
)

// Change is the request for a new generation.
type Change struct {
	// From is the current generation's number as the leader saw it, 0 for none.
	From int64
	// Cause and Reason say why, in a word and in a sentence.
	Cause, Reason string
	// By is the worker that prepares it.
	By uuid.UUID
	// Lost are workers to be declared dead with it.
	Lost []Loss
}

// Loss is a worker that the leader holds for dead.
type Loss struct {
	Worker uuid.UUID
	// Detail says why, for people.
	Detail string
	// SessionGone says that the evidence is the missing session lock; otherwise
	// it is that the heartbeat is older than Stale.
	SessionGone bool
	Stale       time.Duration
}

const sqlCurrent = `
SELECT number, state FROM {{schema}}orchestrator_generations
WHERE replica_set = $1 AND state <> 'superseded' FOR UPDATE`

const sqlSupersede = `
UPDATE {{schema}}orchestrator_generations SET state = 'superseded', superseded_at = now()
WHERE replica_set = $1 AND number = $2 AND state = 'active'`

const sqlPrepare = `
WITH prepared AS (
    INSERT INTO {{schema}}orchestrator_generations (replica_set, number, state, cause, reason, prepared_by)
    SELECT $1, coalesce(max(number), 0) + 1, 'preparing', $2, $3, $4
    FROM {{schema}}orchestrator_generations WHERE replica_set = $1
    RETURNING number
)
SELECT number, pg_notify($5, 'generation ' || $4::text) FROM prepared`

// The evidence is looked at again in the statement that acts on it.
const sqlMarkDead = `
UPDATE {{schema}}orchestrator_workers AS w
SET state = 'dead', state_changed_at = now(), detail = $2
WHERE w.worker_id = $1 AND w.state NOT IN ('stopped', 'dead')
  AND CASE WHEN $3 THEN NOT EXISTS (
        SELECT 1 FROM pg_locks AS l
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND ((l.classid::bigint << 32) | l.objid::bigint) = w.session_key)
      ELSE NOT EXISTS (
        SELECT 1 FROM {{schema}}orchestrator_heartbeats AS h
        WHERE h.worker_id = w.worker_id AND h.last_heartbeat >= now() - $4::interval) END`

// Prepare supersedes the generation change.From and enters the next one,
// preparing. It returns 0 if somebody else changed the generation first: the
// current generation's row is locked, so of two leaders one wins.
func (s *Store) Prepare(ctx context.Context, db DB, change Change) (int64, error) {
	number := int64(0)
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		current, state, err := s.lockCurrent(ctx, tx)
		if err != nil {
			return err
		}
		if current != change.From || (current != 0 && state != Active) {
			return nil
		}
		if _, err := tx.Exec(ctx, s.q(sqlSupersede), s.replicaSet, current); err != nil {
			return fmt.Errorf("superseding it: %w", err)
		}
		if err := s.MarkDead(ctx, tx, change.Lost); err != nil {
			return err
		}
		row := tx.QueryRow(ctx, s.q(sqlPrepare), s.replicaSet, change.Cause, change.Reason, change.By, s.Channel())
		return row.Scan(&number, nil)
	})
	if isUniqueViolation(err) { // nobody had a row to lock: the other inserted the first generation
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("preparing the generation after %d of replica set %q: %w", change.From, s.replicaSet, err)
	}
	return number, nil
}

// lockCurrent locks the row of the current generation; 0 if there is none.
func (s *Store) lockCurrent(ctx context.Context, tx pgx.Tx) (number int64, state GenerationState, err error) {
	err = tx.QueryRow(ctx, s.q(sqlCurrent), s.replicaSet).Scan(&number, &state)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("locking the current generation: %w", err)
	}
	return number, state, nil
}

// MarkDead declares workers dead for which the evidence still holds.
func (s *Store) MarkDead(ctx context.Context, db DB, losses []Loss) error {
	for _, l := range losses {
		stale := pgtype.Interval{Microseconds: l.Stale.Microseconds(), Valid: true}
		if _, err := db.Exec(ctx, s.q(sqlMarkDead), l.Worker, l.Detail, l.SessionGone, stale); err != nil {
			return fmt.Errorf("declaring worker %s dead: %w", l.Worker, err)
		}
	}
	return nil
}

const sqlReadyWorkers = `
SELECT worker_id, projections, unpartitioned, partitions
FROM {{schema}}orchestrator_workers
WHERE replica_set = $1 AND state = 'ready' AND generation = $2
ORDER BY worker_id FOR SHARE`

const sqlLockCheckpoints = `
SELECT projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions
FROM {{schema}}orchestrator_checkpoints
WHERE replica_set = $1
ORDER BY projection, slot_from FOR UPDATE`

const sqlDeleteRanges = `
DELETE FROM {{schema}}orchestrator_checkpoints AS c
USING unnest($1::text[], $2::int[]) AS gone (projection, slot_from)
WHERE c.projection = gone.projection AND c.slot_from = gone.slot_from`

const sqlInsertRanges = `
INSERT INTO {{schema}}orchestrator_checkpoints (replica_set, events_table, generation,
    projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions)
SELECT $1, $2, $3, * FROM unnest($4::text[], $5::int[], $6::int[], $7::bigint[], $8::uuid[], $9::int[], $10::int[])`

const sqlReassignRanges = `
UPDATE {{schema}}orchestrator_checkpoints AS c
SET generation = $1, worker_id = new.worker_id, partition_key = new.partition_key,
    total_partitions = new.total_partitions, updated_at = now()
FROM unnest($2::text[], $3::int[], $4::uuid[], $5::int[], $6::int[])
    AS new (projection, slot_from, worker_id, partition_key, total_partitions)
WHERE c.projection = new.projection AND c.slot_from = new.slot_from`

const sqlActivate = `
UPDATE {{schema}}orchestrator_generations
SET state = 'active', activated_at = now(), members = $3
WHERE replica_set = $1 AND number = $2`

const sqlExclude = `
UPDATE {{schema}}orchestrator_workers
SET state = 'dead', state_changed_at = now(), detail = $4
WHERE replica_set = $1 AND worker_id = ANY($3)
  AND state IN ('pending', 'ready', 'running') AND NOT (state = 'ready' AND generation = $2)`

const sqlNotify = `SELECT pg_notify($1, $2)`

// Activation is the request to activate a generation in preparation.
type Activation struct {
	Number int64
	By     uuid.UUID
	// Exclude are workers that are not ready and are not waited for any longer;
	// Detail says why, for people.
	Exclude []uuid.UUID
	Detail  string
}

// Activate divides the projections among the workers that are ready and makes
// the generation active. It waits for batches in flight, whose rows it
// rewrites. It returns false if the generation is not in preparation any more,
// or if nobody is ready.
//
// tx must be fresh; Activate neither commits nor rolls back.
func (s *Store) Activate(ctx context.Context, tx pgx.Tx, a Activation) (bool, error) {
	activated, err := s.activate(ctx, tx, a)
	if err != nil {
		return false, fmt.Errorf("activating generation %d of replica set %q: %w", a.Number, s.replicaSet, err)
	}
	return activated, nil
}

func (s *Store) activate(ctx context.Context, tx pgx.Tx, a Activation) (bool, error) {
	current, state, err := s.lockCurrent(ctx, tx)
	if err != nil || current != a.Number || state != Preparing {
		return false, err
	}
	members, err := s.readyMembers(ctx, tx, a.Number)
	if err != nil || len(members) == 0 {
		return false, err
	}
	old, err := s.lockCheckpoints(ctx, tx)
	if err != nil {
		return false, err
	}
	planned, err := Plan(old, members)
	if err != nil {
		return false, err
	}
	if err := s.rewrite(ctx, tx, a.Number, old, planned); err != nil {
		return false, err
	}
	ids := make([]uuid.UUID, len(members))
	for i, m := range members {
		ids[i] = m.ID
	}
	var batch pgx.Batch
	batch.Queue(s.q(sqlExclude), s.replicaSet, a.Number, a.Exclude, a.Detail)
	batch.Queue(s.q(sqlActivate), s.replicaSet, a.Number, ids)
	batch.Queue(sqlNotify, s.Channel(), NotifyGeneration+" "+a.By.String())
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return false, fmt.Errorf("recording it: %w", err)
	}
	return true, nil
}

// readyMembers is the workers that are ready for the generation. Their rows are
// locked, so that none leaves before its partitions are its own.
func (s *Store) readyMembers(ctx context.Context, tx pgx.Tx, generation int64) ([]Member, error) {
	rows, err := tx.Query(ctx, s.q(sqlReadyWorkers), s.replicaSet, generation)
	if err != nil {
		return nil, fmt.Errorf("reading the ready workers: %w", err)
	}
	members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Member, err error) {
		return m, row.Scan(&m.ID, &m.Projections, &m.Unpartitioned, &m.Partitions)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the ready workers: %w", err)
	}
	return members, nil
}

// lockCheckpoints reads the replica set's checkpoints and locks them, after
// every batch in flight has ended.
func (s *Store) lockCheckpoints(ctx context.Context, tx pgx.Tx) ([]Checkpoint, error) {
	rows, err := tx.Query(ctx, s.q(sqlLockCheckpoints), s.replicaSet)
	if err != nil {
		return nil, fmt.Errorf("locking the checkpoints: %w", err)
	}
	checkpoints, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("locking the checkpoints: %w", err)
	}
	return checkpoints, nil
}

// rewrite replaces the old checkpoints by the planned ones. Ranges that stay
// keep their row.
func (s *Store) rewrite(ctx context.Context, tx pgx.Tx, generation int64, old, planned []Checkpoint) error {
	gone, kept, added := compare(old, planned)
	var batch pgx.Batch
	if len(gone) > 0 {
		c := columnsOf(gone)
		batch.Queue(s.q(sqlDeleteRanges), c.projection, c.from)
	}
	if len(kept) > 0 {
		c := columnsOf(kept)
		batch.Queue(s.q(sqlReassignRanges), generation, c.projection, c.from, c.worker, c.key, c.total)
	}
	if len(added) > 0 {
		c := columnsOf(added)
		batch.Queue(s.q(sqlInsertRanges), s.replicaSet, s.events, generation,
			c.projection, c.from, c.to, c.position, c.worker, c.key, c.total)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("rewriting the checkpoints: %w", err)
	}
	return nil
}

// compare sorts the rows of a change: those whose range is gone, those whose
// range stays, with their new owner, and those whose range is new.
func compare(old, planned []Checkpoint) (gone, kept, added []Checkpoint) {
	type key struct {
		projection string
		slots      slot.Range
	}
	stays := map[key]bool{}
	had := map[key]bool{}
	for _, c := range old {
		had[key{c.Projection, c.Range}] = true
	}
	for _, c := range planned {
		k := key{c.Projection, c.Range}
		if stays[k] = had[k]; had[k] {
			kept = append(kept, c)
		} else {
			added = append(added, c)
		}
	}
	for _, c := range old {
		if !stays[key{c.Projection, c.Range}] {
			gone = append(gone, c)
		}
	}
	return gone, kept, added
}

// columns is checkpoints turned into one array a column, for unnest.
type columns struct {
	projection []string
	from, to   []int32
	position   []int64
	worker     []*uuid.UUID
	key, total []*int32
}

func columnsOf(checkpoints []Checkpoint) columns {
	var c columns
	for i := range checkpoints {
		row := &checkpoints[i]
		c.projection = append(c.projection, row.Projection)
		c.from = append(c.from, int32(row.From))
		c.to = append(c.to, int32(row.To))
		c.position = append(c.position, row.Position)
		if row.Owner == uuid.Nil {
			c.worker, c.key, c.total = append(c.worker, nil), append(c.key, nil), append(c.total, nil)
			continue
		}
		key, total := int32(row.Partition.Key), int32(row.Partition.Total)
		c.worker, c.key, c.total = append(c.worker, &row.Owner), append(c.key, &key), append(c.total, &total)
	}
	return c
}

// isUniqueViolation says whether err is a violated unique index.
func isUniqueViolation(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == "23505"
}
