package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// Letter is the record of a failed event in orchestrator_dead_letters.
type Letter struct {
	Event    es.PersistedEvent
	Attempts int
	// Error is the handler's last error.
	Error string
	// Kind and Frame identify similar failures. They are empty if they are not known. See handling.Alike.
	Kind, Frame string
}

// sqlOfEvent has a letter say which event it is of. There may be a letter of another event at the position, if somebody has emptied the events table. A letter
// that kept that event's aggregate would not be found when the aggregate is retried.
const sqlOfEvent = `replica_set = excluded.replica_set, event_id = excluded.event_id, event_type = excluded.event_type,
    bounded_context = excluded.bounded_context, aggregate_type = excluded.aggregate_type, aggregate_id = excluded.aggregate_id`

// A failure that is recorded late, after the batch that handled the event has committed, changes nothing: the row's checkpoint has
// passed the event by then.
const sqlRecordFailure = `
INSERT INTO {{schema}}orchestrator_dead_letters AS d (projection, global_position, replica_set, event_id, event_type,
    bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation, error_kind, error_frame)
SELECT $1, $2::bigint, $3, $4, $5, $6, $7, $8::text, 'retrying', $9::bigint, $10, $11, $12, $13, $14
FROM {{schema}}orchestrator_checkpoints
WHERE projection = $1 AND generation = $12 AND worker_id = $11 AND position < $2::bigint
  AND (hashtextextended($8::text, 0) & 65535) >= slot_from AND (hashtextextended($8::text, 0) & 65535) < slot_to
FOR SHARE
ON CONFLICT (projection, global_position) DO UPDATE
SET state = 'retrying', attempts = CASE WHEN d.state = 'retrying' AND d.event_id = excluded.event_id THEN d.attempts + 1 ELSE excluded.attempts END,
    last_error = excluded.last_error, ` + sqlOfEvent + `,
    error_kind = excluded.error_kind, error_frame = excluded.error_frame,
    worker_id = excluded.worker_id, generation = excluded.generation, last_failed_at = now()
RETURNING attempts`

// RecordFailure records that the partition waits for an event that its handler fails on. It returns the number of
// consecutive failures of the event, on this worker and others. If the worker is fenced, or the checkpoint has passed
// the event, it does nothing and returns letter.Attempts.
func (s *Store) RecordFailure(ctx context.Context, db dbguard.Transactions, f Fence, letter Letter) (attempts int, err error) {
	e := letter.Event
	err = db.Waiting(recordPatience).QueryRow(ctx, s.q(sqlRecordFailure), f.Projection, e.GlobalPosition, s.replicaSet, e.EventID, e.EventType,
		e.BoundedContext, e.AggregateType, e.AggregateID, letter.Attempts, s.storable(letter.Error), f.Worker, f.Generation,
		s.storable(letter.Kind), s.storable(letter.Frame)).Scan(&attempts)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return letter.Attempts, nil
	case err != nil:
		return letter.Attempts, fmt.Errorf("recording the failure of %s at position %d: %w", f, e.GlobalPosition, err)
	}
	return attempts, nil
}

// The record of failures is an aid (see aid): it must hold up nothing. So none of its statements waits long for a lock.
const (
	recordPatience    = 250 * time.Millisecond
	sqlRecordPatience = `SELECT pg_catalog.set_config('lock_timeout', '250', true)`
)

// sqlHandled is part of the transaction in which the events were handled, see batchtx.Tx.RunAside.
const sqlHandled = `
UPDATE {{schema}}orchestrator_dead_letters SET state = 'handled', handled_at = pg_catalog.now()
WHERE projection = ` + batchtx.AsideFirst + ` AND global_position = ANY((` + batchtx.AsideSecond + `)::pg_catalog.int8[]) AND state <> 'handled'`

// An event that has failed again since, in a rebuild, is still retried.
const sqlHandledBefore = `
UPDATE {{schema}}orchestrator_dead_letters AS d
SET state = 'handled', handled_at = t.at, skipped_at = CASE WHEN d.skipped_at < t.at THEN d.skipped_at END
FROM (SELECT now() - make_interval(secs => $3::float8) AS at) AS t
WHERE d.projection = $1 AND d.global_position = ANY($2::bigint[]) AND d.state <> 'handled' AND d.last_failed_at <= t.at`

// RecordHandled records that events at the positions that had failed were handled, an age ago. It is for records that a
// batch could not make itself.
func (s *Store) RecordHandled(ctx context.Context, db dbguard.Transactions, projection string, positions []int64, age time.Duration) error {
	_, err := db.Waiting(recordPatience).Exec(ctx, s.q(sqlHandledBefore), projection, positions, age.Seconds())
	if err != nil {
		return fmt.Errorf("recording which failed events of projection %q were handled: %w", projection, err)
	}
	return nil
}

// An event whose handling committed is recorded as handled in the same transaction, or by RecordHandled before this. So one that is still
// retried although its slot's checkpoint has passed it was handled by nobody.
const sqlRecordSkipped = `
UPDATE {{schema}}orchestrator_dead_letters AS d SET state = 'skipped', skipped_at = now()
FROM {{schema}}orchestrator_checkpoints AS c
WHERE d.projection = $1 AND d.state IN ('retrying', 'stopped') AND c.projection = d.projection AND d.global_position <= c.position
  AND c.worker_id = $2 AND c.generation = $3 AND c.partition_key = $4
  AND (hashtextextended(d.aggregate_id, 0) & 65535) >= c.slot_from
  AND (hashtextextended(d.aggregate_id, 0) & 65535) < c.slot_to
RETURNING d.global_position`

// RecordSkipped records which failed events of a partition a person has skipped by advancing a checkpoint, and returns
// their positions.
func (s *Store) RecordSkipped(ctx context.Context, db dbguard.Transactions, f Fence) ([]int64, error) {
	rows, err := db.Waiting(recordPatience).Query(ctx, s.q(sqlRecordSkipped), f.Projection, f.Worker, f.Generation, f.Partition.Key)
	if err == nil {
		var skipped []int64
		if skipped, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err == nil {
			return skipped, nil
		}
	}
	return nil, fmt.Errorf("recording which failed events of projection %q were skipped: %w", f.Projection, err)
}

// An event that a person has skipped is handed to its handler again where the checkpoint was set back.
const sqlUnsettled = `
SELECT d.projection, max(d.global_position) FROM {{schema}}orchestrator_dead_letters AS d
WHERE d.replica_set = $1 AND ` + dbguard.Primary + ` AND (d.state IN ('retrying', 'stopped') OR d.state = 'skipped' AND EXISTS (
    SELECT FROM {{schema}}orchestrator_checkpoints AS c
    WHERE c.projection = d.projection AND c.position < d.global_position
      AND (hashtextextended(d.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(d.aggregate_id, 0) & 65535) < c.slot_to))
GROUP BY d.projection`

// Unsettled returns, for each projection that has one, the highest position of a failed event that must still be handled
// or skipped. A skipped event must be handled if its checkpoint was moved back.
func (s *Store) Unsettled(ctx context.Context, db Conn) (map[string]int64, error) {
	highest := map[string]int64{}
	if err := s.aside(ctx, db, s.unsettled(highest)); err != nil {
		return nil, err
	}
	return highest, nil
}

func (s *Store) unsettled(highest map[string]int64) read {
	return read{
		sql: s.q(sqlUnsettled), args: []any{s.replicaSet},
		take: func(rows pgx.Rows) error {
			var projection string
			var position int64
			_, err := pgx.ForEachRow(rows, []any{&projection, &position}, func() error {
				highest[projection] = position
				return nil
			})
			return err
		},
		doing: fmt.Sprintf("reading the failed events of replica set %q", s.replicaSet),
	}
}

// record runs statements on an aid in a transaction that does not wait long for a lock.
func (s *Store) record(ctx context.Context, db Conn, do func(pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, transaction)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, sqlRecordPatience); err == nil {
		err = do(tx)
	}
	if err == nil {
		return tx.Commit(ctx)
	}
	return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
}
