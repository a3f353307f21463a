package pgcoord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

const sqlReadyWorkers = `
SELECT worker_id, name, array_remove(projections, NULL), array_remove(unpartitioned, NULL), partitions, partition_keys::text, array_remove(left_out, NULL), coalesce(drained, false)
FROM {{schema}}orchestrator_workers AS w
WHERE replica_set = $1 AND state = 'ready' AND generation = $2
ORDER BY worker_id LIMIT {{all rows}} FOR SHARE OF w`

const sqlLockCheckpoints = `
SELECT projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions, generation, revision, coalesce(stopped_at, 0), ` + heldColumns + `
FROM {{schema}}orchestrator_checkpoints
WHERE replica_set = $1
ORDER BY projection, slot_from LIMIT {{all rows}} FOR UPDATE`

// sqlRenumber replaces the generation in preparation by one with a number above every row's.
const sqlRenumber = `
WITH old AS (
    UPDATE {{schema}}orchestrator_generations SET state = 'superseded', superseded_at = now()
    WHERE replica_set = $1 AND number = $2 AND state = 'preparing' RETURNING cause, changes, reason)
INSERT INTO {{schema}}orchestrator_generations (replica_set, number, state, cause, changes, reason, prepared_by)
SELECT $1, $3::bigint + 1, 'preparing', cause, changes, reason, $4 FROM old`

const sqlDeleteRanges = `
DELETE FROM {{schema}}orchestrator_checkpoints AS c
USING unnest($1::text[], $2::int[]) AS gone (projection, slot_from)
WHERE c.projection = gone.projection AND c.slot_from = gone.slot_from`

const sqlInsertRanges = `
INSERT INTO {{schema}}orchestrator_checkpoints (replica_set, events_table, generation,
    projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions, revision, stopped_at, hold_at, hold_until)
SELECT $1, $2, $3, projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions, revision, stopped_at, held - 1,
    CASE WHEN held IS NOT NULL THEN timestamptz 'epoch' + held_until * interval '1 microsecond' END
FROM unnest($4::text[], $5::int[], $6::int[], $7::bigint[], $8::text[]::uuid[], $9::int[], $10::int[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
    AS new (projection, slot_from, slot_to, position, worker_id, partition_key, total_partitions, revision, stopped_at, held, held_until)`

const sqlReassignRanges = `
UPDATE {{schema}}orchestrator_checkpoints AS c
SET generation = $1, worker_id = new.worker_id, partition_key = new.partition_key,
    total_partitions = new.total_partitions, updated_at = now()
FROM unnest($2::text[], $3::int[], $4::text[]::uuid[], $5::int[], $6::int[])
    AS new (projection, slot_from, worker_id, partition_key, total_partitions)
WHERE c.projection = new.projection AND c.slot_from = new.slot_from`

const sqlActivate = `
UPDATE {{schema}}orchestrator_generations
SET state = 'active', activated_at = now(), members = $3::text[]::uuid[], cause = $4, changes = $5::text::jsonb, reason = $6
WHERE replica_set = $1 AND number = $2`

const sqlExclude = `
UPDATE {{schema}}orchestrator_workers
SET state = 'dead', state_changed_at = now(), detail = $4
WHERE replica_set = $1 AND worker_id = ANY($3::text[]::uuid[])
  AND state IN ('pending', 'ready', 'running') AND NOT (state = 'ready' AND generation = $2)`

const sqlRememberKeys = `
UPDATE {{schema}}orchestrator_workers AS w
SET partition_keys = CASE WHEN jsonb_typeof(w.partition_keys) = 'object' THEN w.partition_keys ELSE '{}' END || new.keys::jsonb,
    left_out = ARRAY(SELECT jsonb_array_elements_text(new.left_out::jsonb)), drained = new.drained
FROM unnest($1::text[]::uuid[], $2::text[], $3::text[], $4::boolean[]) AS new (worker_id, keys, left_out, drained)
WHERE w.worker_id = new.worker_id`

// Activated is the result of an Activation.
type Activated struct {
	// Active is true if the generation was activated.
	Active bool
	// Died is how many of the excluded workers were declared dead.
	Died int
	// Noticed lists what was changed by hand, and how it was repaired. The generation's reason includes it.
	Noticed []replicaset.Change

	// WithoutAids says why the abandoned handlers, or the drains, could not be read. The generation then leaves out what
	// the previous one did.
	WithoutAids error

	renumbered bool
}

// Activate divides the projections among the ready workers and makes the generation active. It rewrites the rows of
// batches in flight, so it waits for these batches. If checkpoints of a projection of these workers were deleted, their
// slots start again at the beginning of the stream. Activate adds the workers that came or left since the preparation to
// the generation's changes. It does nothing if the generation is no longer in preparation, or if no worker is ready.
//
// A row may have come from another replica set with a generation that is not lower. The number is a fencing token, which
// must not go back for a projection. Activate then does not activate the generation, and prepares another one with a
// number above that.
//
// If began is not nil, Activate calls it with its backend before it waits, so that Blockers can find what it waits for.
// It calls it again if the activation starts again without the aids.
func (s *Store) Activate(ctx context.Context, db Conn, a replicaset.Activation, began func(pid int)) (Activated, error) {
	var result Activated
	run := func() error {
		return s.inTransaction(ctx, db, a.By, func(tx pgx.Tx, pid int) (err error) {
			if began != nil {
				began(pid)
			}
			result, err = s.activate(ctx, tx, a)
			return err
		})
	}
	err := run()
	if without, ok := errors.AsType[aidError](err); ok && mayDoWithout(err) {
		s.aids.rest()
		if err = run(); err == nil {
			result.WithoutAids = without
		}
	}
	if err != nil {
		return Activated{}, fmt.Errorf("activating generation %d of replica set %q: %w", a.Number, s.replicaSet, err)
	}
	if result.Active || result.renumbered {
		s.tell(ctx, db, NotifyGeneration, a.By)
	}
	return result, nil
}

func (s *Store) activate(ctx context.Context, tx pgx.Tx, a replicaset.Activation) (result Activated, err error) {
	current, state, err := s.lockCurrent(ctx, tx)
	if err != nil || current != a.Number || state != replicaset.Preparing {
		return result, err
	}
	members, turnover, err := s.readyMembers(ctx, tx, a.Number)
	if err != nil || len(members) == 0 {
		return result, err
	}
	stored, elsewhere, err := s.lockCheckpoints(ctx, tx, members)
	if err != nil {
		return result, err
	}
	if highest := highestGeneration(stored); highest >= a.Number {
		if _, err := tx.Exec(ctx, s.q(sqlRenumber), s.replicaSet, a.Number, highest, a.By); err != nil {
			return result, fmt.Errorf("giving it a number above %d, which a checkpoint has: %w", highest, err)
		}
		return Activated{renumbered: true}, nil
	}
	repaired, members, noticed := replicaset.Repair(stored, members, elsewhere)
	planned, err := replicaset.Plan(repaired, members)
	if err != nil {
		return result, err
	}
	if err := s.rewrite(ctx, tx, a.Number, stored, planned); err != nil {
		return result, err
	}
	changes := slices.Concat(turnover.complete(members, a), noticed, replicaset.LeftOutBy(members))
	died, err := s.recordActive(ctx, tx, a, turnover.first, members, planned, changes)
	return Activated{Active: true, Died: died, Noticed: noticed}, err
}

// recordActive makes the generation active, and writes into the members' rows what they have of it. It declares the
// excluded workers dead, and returns how many those were.
func (s *Store) recordActive(ctx context.Context, tx pgx.Tx, a replicaset.Activation, first bool, members []replicaset.Member,
	planned []replicaset.Checkpoint, changes []replicaset.Change,
) (died int, err error) {
	ids, keys, leftOut, drained, err := membersInColumns(members, planned)
	if err != nil {
		return 0, err
	}
	cause, encoded, reason, err := changeColumns(first, changes)
	if err != nil {
		return 0, err
	}
	var batch pgx.Batch
	batch.Queue(s.q(sqlRememberKeys), texts(ids), keys, leftOut, drained)
	batch.Queue(s.q(sqlExclude), s.replicaSet, a.Number, texts(a.Exclude), a.Detail).Exec(func(tag pgconn.CommandTag) error {
		died = int(tag.RowsAffected())
		return nil
	})
	batch.Queue(s.q(sqlActivate), s.replicaSet, a.Number, texts(ids), cause, encoded, reason)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return 0, fmt.Errorf("recording it: %w", err)
	}
	return died, nil
}

// membersInColumns is the members' ids, and what their rows are to say, as JSON: the
// partition numbers that they have, and the projections that they leave out; and whether they are drained.
func membersInColumns(members []replicaset.Member, planned []replicaset.Checkpoint) (ids []uuid.UUID, keys, leftOut []string, drained []bool, err error) {
	for _, m := range members {
		encoded, err := json.Marshal(replicaset.Keys(planned, m.ID))
		if err != nil {
			return nil, nil, nil, nil, fmt.Errorf("encoding the partition numbers of worker %s: %w", m.ID, err)
		}
		without, err := json.Marshal(nonNil(m.LeftOut))
		if err != nil {
			return nil, nil, nil, nil, fmt.Errorf("encoding what worker %s leaves out: %w", m.ID, err)
		}
		ids, keys, leftOut, drained = append(ids, m.ID), append(keys, string(encoded)), append(leftOut, string(without)), append(drained, m.Drained)
	}
	return ids, keys, leftOut, drained, nil
}

// readyMembers is the workers that are ready for the generation. Their rows are
// locked, so that none leaves before its partitions are its own. In the same round
// trip it reads who came and went.
func (s *Store) readyMembers(ctx context.Context, tx pgx.Tx, generation int64) ([]replicaset.Member, turnover, error) {
	var t turnover
	var batch pgx.Batch
	batch.Queue(s.q(sqlReadyWorkers), s.replicaSet, generation)
	batch.Queue(s.q(sqlTurnover), s.replicaSet, generation)
	results := tx.SendBatch(ctx, &batch)
	defer func() { _ = results.Close() }()
	rows, err := results.Query()
	if err != nil {
		return nil, t, fmt.Errorf("reading the ready workers: %w", err)
	}
	members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m replicaset.Member, err error) {
		var keys string
		if err := row.Scan(&m.ID, &m.Name, &m.Projections, &m.Unpartitioned, &m.Partitions, &keys, &m.LeftOut, &m.Drained); err != nil {
			return m, err
		}
		if json.Unmarshal([]byte(keys), &m.Keys) != nil { // they are only a preference, and must not stop everybody
			m.Keys = nil
		}
		return m, nil
	})
	if err != nil {
		return nil, t, fmt.Errorf("reading the ready workers: %w", err)
	}
	if rows, err = results.Query(); err == nil {
		err = t.collect(rows)
	}
	if err != nil {
		return nil, t, fmt.Errorf("reading who came and went: %w", err)
	}
	if err := results.Close(); err != nil {
		return nil, t, fmt.Errorf("reading who came and went: %w", err)
	}
	return members, t, s.leaveOut(ctx, tx, generation, members)
}

// leaveOut takes from the members the projections of the handlers that they have abandoned, and from those that are drained all. Where that cannot
// be read, it takes from each what the generation before has.
func (s *Store) leaveOut(ctx context.Context, tx pgx.Tx, generation int64, members []replicaset.Member) error {
	if !s.aids.rests() {
		if err := s.readAids(ctx, tx, generation, members); err != nil {
			return err
		}
	}
	for i := range members {
		m := &members[i]
		m.LeaveOut(m.LeftOut)
		if m.Drained {
			m.Drain()
		}
	}
	return nil
}

// lockCheckpoints reads the replica set's checkpoints and locks them, after
// every batch in flight has ended. In the same round trip, but later, it reads which
// of the members' projections have checkpoints in other replica sets.
func (s *Store) lockCheckpoints(ctx context.Context, tx pgx.Tx, members []replicaset.Member) ([]replicaset.Checkpoint, map[string]string, error) {
	var batch pgx.Batch
	batch.Queue(s.q(sqlLockCheckpoints), s.replicaSet)
	batch.Queue(s.q(sqlElsewhere), replicaset.Projections(members), s.replicaSet)
	results := tx.SendBatch(ctx, &batch)
	defer func() { _ = results.Close() }()
	rows, err := results.Query()
	if err != nil {
		return nil, nil, fmt.Errorf("locking the checkpoints: %w", err)
	}
	checkpoints, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return nil, nil, fmt.Errorf("locking the checkpoints: %w", err)
	}
	var elsewhere map[string]string
	if rows, err = results.Query(); err == nil {
		elsewhere, err = collectElsewhere(rows)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading which projections are another replica set's: %w", err)
	}
	return checkpoints, elsewhere, nil
}

// rewrite replaces the old checkpoints by the planned ones. Ranges that stay
// keep their row.
func (s *Store) rewrite(ctx context.Context, tx pgx.Tx, generation int64, old, planned []replicaset.Checkpoint) error {
	gone, kept, added := replicaset.Compare(old, planned)
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
			c.projection, c.from, c.to, c.position, c.worker, c.key, c.total, c.revision, c.stopped, c.held, c.heldUntil)
	}
	if batch.Len() == 0 {
		return nil
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("rewriting the checkpoints: %w", err)
	}
	return nil
}

func highestGeneration(checkpoints []replicaset.Checkpoint) int64 {
	highest := int64(0)
	for _, c := range checkpoints {
		highest = max(highest, c.Generation)
	}
	return highest
}

// columns is checkpoints turned into one array a column, for unnest.
type columns struct {
	projection []string
	from, to   []int32
	position   []int64
	worker     []*string // see texts
	key, total []*int32
	revision   []int64
	stopped    []*int64
	held       []*int64
	heldUntil  []*int64
}

func columnsOf(checkpoints []replicaset.Checkpoint) columns {
	var c columns
	for i := range checkpoints {
		row := &checkpoints[i]
		c.projection = append(c.projection, row.Projection)
		c.from = append(c.from, int32(row.From))
		c.to = append(c.to, int32(row.To))
		c.position = append(c.position, row.Position)
		c.revision = append(c.revision, row.Revision)
		c.stopped = append(c.stopped, orNull(row.Stopped))
		c.held, c.heldUntil = append(c.held, orNull(row.Held)), append(c.heldUntil, orNull(row.HeldUntil))
		if row.Owner == uuid.Nil {
			c.worker, c.key, c.total = append(c.worker, nil), append(c.key, nil), append(c.total, nil)
			continue
		}
		owner, key, total := row.Owner.String(), int32(row.Partition.Key), int32(row.Partition.Total)
		c.worker, c.key, c.total = append(c.worker, &owner), append(c.key, &key), append(c.total, &total)
	}
	return c
}

// orNull is a position as a column takes it that is null where there is none.
func orNull(position int64) *int64 {
	if position == 0 {
		return nil
	}
	return &position
}

// texts is ids as text. The driver's modes that prepare nothing cannot encode an
// array of UUIDs.
func texts(ids []uuid.UUID) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.String()
	}
	return list
}
