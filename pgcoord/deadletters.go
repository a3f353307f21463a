package pgcoord

import (
	"context"
	"fmt"
	"strings"

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
		e.BoundedContext, e.AggregateType, e.AggregateID, failure.Attempts, storable(failure.Error), f.Worker, f.Generation)
	if err != nil {
		return fmt.Errorf("recording the failure of %s at position %d: %w", f, e.GlobalPosition, err)
	}
	return nil
}

// storable is text as a column of type text takes it: valid UTF-8 without zeros.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}

// It is the checkpoint that says what was handled, whoever did it.
const sqlRecordHandled = `
UPDATE {{schema}}orchestrator_dead_letters AS d SET state = 'handled', handled_at = now()
FROM {{schema}}orchestrator_checkpoints AS c
WHERE d.projection = $1 AND d.state = 'retrying' AND c.projection = d.projection AND d.global_position <= c.position
  AND (hashtextextended(d.aggregate_id, 0) & 65535) >= c.slot_from
  AND (hashtextextended(d.aggregate_id, 0) & 65535) < c.slot_to`

// RecordHandled records which events of a projection that had failed went
// through since.
func (s *Store) RecordHandled(ctx context.Context, db DB, projection string) error {
	if _, err := db.Exec(ctx, s.q(sqlRecordHandled), projection); err != nil {
		return fmt.Errorf("recording which failed events of projection %q went through: %w", projection, err)
	}
	return nil
}

const sqlRetrying = `
SELECT projection, max(global_position) FROM {{schema}}orchestrator_dead_letters
WHERE replica_set = $1 AND state = 'retrying' AND ` + dbguard.Primary + ` GROUP BY projection`

// Retrying is the highest position of an event that failed and has not been
// recorded as handled, for each projection that has one.
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
