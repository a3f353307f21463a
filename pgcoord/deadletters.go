package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// Failure is an event that a handler failed on.
type Failure struct {
	Event    es.PersistedEvent
	Attempts int
	// Error is what the handler said last.
	Error string
}

// A failure that is recorded late, after the batch that handled the event has committed, changes nothing: the row's checkpoint has
// passed the event by then.
const sqlRecordFailure = `
INSERT INTO {{schema}}orchestrator_dead_letters AS d (projection, global_position, replica_set, event_id, event_type,
    bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation)
SELECT $1, $2::bigint, $3, $4, $5, $6, $7, $8::text, 'retrying', $9::bigint, $10, $11, $12
FROM {{schema}}orchestrator_checkpoints
WHERE projection = $1 AND generation = $12 AND worker_id = $11 AND position < $2::bigint
  AND (hashtextextended($8::text, 0) & 65535) >= slot_from AND (hashtextextended($8::text, 0) & 65535) < slot_to
FOR SHARE
ON CONFLICT (projection, global_position) DO UPDATE
SET state = 'retrying', attempts = d.attempts + 1, last_error = excluded.last_error,
    worker_id = excluded.worker_id, generation = excluded.generation, last_failed_at = now(), handled_at = NULL, skipped_at = NULL
RETURNING attempts`

// RecordFailure records that the partition waits for an event that its handler
// fails on. It returns how often handlers have failed on the event, on this worker and others. It
// does nothing if the worker is fenced, or if the checkpoint has passed the event, and returns failure.Attempts.
func (s *Store) RecordFailure(ctx context.Context, db DB, f Fence, failure Failure) (attempts int, err error) {
	e := failure.Event
	err = db.QueryRow(ctx, s.q(sqlRecordFailure), f.Projection, e.GlobalPosition, s.replicaSet, e.EventID, e.EventType,
		e.BoundedContext, e.AggregateType, e.AggregateID, failure.Attempts, storable(failure.Error), f.Worker, f.Generation).Scan(&attempts)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return failure.Attempts, nil
	case err != nil:
		return failure.Attempts, fmt.Errorf("recording the failure of %s at position %d: %w", f, e.GlobalPosition, err)
	}
	return attempts, nil
}

// storable is text as a column of type text takes it: valid UTF-8 without zeros.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// sqlHandled is part of the transaction in which the events were handled.
const sqlHandled = `
UPDATE {{schema}}orchestrator_dead_letters SET state = 'handled', handled_at = now(), skipped_at = NULL
WHERE projection = $1 AND global_position = ANY($2::bigint[]) AND state <> 'handled'`

// An event whose handling committed is recorded as handled in the same transaction. So one that is still retried although its slot's
// checkpoint has passed it was handled by nobody.
const sqlRecordSkipped = `
UPDATE {{schema}}orchestrator_dead_letters AS d SET state = 'skipped', skipped_at = now()
FROM {{schema}}orchestrator_checkpoints AS c
WHERE d.projection = $1 AND d.state = 'retrying' AND c.projection = d.projection AND d.global_position <= c.position
  AND (hashtextextended(d.aggregate_id, 0) & 65535) >= c.slot_from
  AND (hashtextextended(d.aggregate_id, 0) & 65535) < c.slot_to
RETURNING d.global_position`

// RecordSkipped records which failed events of a projection a person has skipped by advancing a checkpoint, and returns their positions.
func (s *Store) RecordSkipped(ctx context.Context, db DB, projection string) ([]int64, error) {
	rows, err := db.Query(ctx, s.q(sqlRecordSkipped), projection)
	if err == nil {
		var skipped []int64
		if skipped, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err == nil {
			return skipped, nil
		}
	}
	return nil, fmt.Errorf("recording which failed events of projection %q were skipped: %w", projection, err)
}

const sqlRetrying = `
SELECT projection, max(global_position) FROM {{schema}}orchestrator_dead_letters
WHERE replica_set = $1 AND state = 'retrying' AND ` + dbguard.Primary + ` GROUP BY projection`

// Retrying is the highest position of an event that failed and has been neither handled nor skipped, for each projection that has one.
func (s *Store) Retrying(ctx context.Context, db DB) (map[string]int64, error) {
	rows, err := db.Query(ctx, s.q(sqlRetrying), s.replicaSet)
	if err != nil {
		return nil, fmt.Errorf("reading the failed events of replica set %q: %w", s.replicaSet, err)
	}
	highest := map[string]int64{}
	var projection string
	var position int64
	for rows.Next() {
		if err := rows.Scan(&projection, &position); err != nil {
			rows.Close()
			return nil, fmt.Errorf("reading the failed events of replica set %q: %w", s.replicaSet, err)
		}
		highest[projection] = position
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the failed events of replica set %q: %w", s.replicaSet, err)
	}
	return highest, nil
}
