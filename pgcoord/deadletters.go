package pgcoord

import (
	"context"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Failure is an event that a handler failed on.
type Failure struct {
	Event    es.PersistedEvent
	Attempts int
	// Error is what the handler said last.
	Error string
}

const sqlRecordFailure = `
INSERT INTO {{schema}}orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type,
    bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, 'retrying', $9, $10, $11, $12
WHERE EXISTS (SELECT 1 FROM {{schema}}orchestrator_checkpoints
              WHERE projection = $1 AND generation = $12 AND worker_id = $11)
ON CONFLICT (projection, global_position) DO UPDATE
SET state = 'retrying', attempts = orchestrator_dead_letters.attempts + 1, last_error = excluded.last_error,
    worker_id = excluded.worker_id, generation = excluded.generation, last_failed_at = now(), handled_at = NULL`

// RecordFailure records that the partition waits for an event that its handler
// fails on. It does nothing if the worker is fenced.
func (s *Store) RecordFailure(ctx context.Context, db DB, f Fence, failure Failure) error {
	e := failure.Event
	_, err := db.Exec(ctx, s.q(sqlRecordFailure), f.Projection, e.GlobalPosition, s.replicaSet, e.EventID, e.EventType,
		e.BoundedContext, e.AggregateType, e.AggregateID, failure.Attempts, failure.Error, f.Worker, f.Generation)
	if err != nil {
		return fmt.Errorf("recording the failure of %s at position %d: %w", f, e.GlobalPosition, err)
	}
	return nil
}

const sqlRecordHandled = `
UPDATE {{schema}}orchestrator_dead_letters SET state = 'handled', handled_at = now()
WHERE projection = $1 AND global_position = $2 AND state = 'retrying'`

// RecordHandled records that an event that had failed went through.
func (s *Store) RecordHandled(ctx context.Context, db DB, f Fence, position int64) error {
	if _, err := db.Exec(ctx, s.q(sqlRecordHandled), f.Projection, position); err != nil {
		return fmt.Errorf("recording that %s got past position %d: %w", f, position, err)
	}
	return nil
}
