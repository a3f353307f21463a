package pgcoord

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// sqlLetter records an event with its outcome, in the transaction that acts upon it. The time is the database's.
const sqlLetter = `
INSERT INTO {{schema}}orchestrator_dead_letters AS d (projection, global_position, replica_set, event_id, event_type,
    bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation, skipped_at, error_kind, error_frame)
VALUES ($1::text, $2::bigint, $3::text, $4::uuid, $5::text, $6::text, $7::text, $8::text, $9::text, $10::bigint, $11::text, $12::uuid, $13::bigint,
    CASE $9::text WHEN 'skipped' THEN pg_catalog.now() END, $14::text, $15::text)
ON CONFLICT (projection, global_position) DO UPDATE
SET state = excluded.state, last_error = excluded.last_error, ` + sqlOfEvent + `,
    attempts = CASE WHEN d.event_id = excluded.event_id THEN greatest(d.attempts, excluded.attempts) ELSE excluded.attempts END,
    error_kind = excluded.error_kind, error_frame = excluded.error_frame,
    worker_id = excluded.worker_id, generation = excluded.generation, last_failed_at = pg_catalog.now(),
    skipped_at = coalesce(excluded.skipped_at, d.skipped_at)`

// sqlStopRows is sqlAdvance that stops the row as well, after what has been handled. The owner reads its rows again afterwards, because of the revision.
var sqlStopRows = batchtx.ExactlyOne(`
UPDATE {{schema}}orchestrator_checkpoints SET position = greatest($1::bigint, $4::bigint), stopped_at = greatest($1::bigint, $4::bigint) + 1,
    revision = revision + 1, updated_at = pg_catalog.now()
WHERE projection = $2 AND slot_from = $3 AND position = $4 AND generation = $5 AND worker_id = $6 AND revision = $7`)

// Skip makes Commit record the event as skipped. The batch must pass it and have no handlers.
func (b *Batch) Skip(letter Letter) { b.record(letter, "skipped") }

// Stop makes Commit record that the projection stopped at the event, and stop all rows of the batch. The batch must end
// before the event, and hold all of the partition's rows that are not stopped.
func (b *Batch) Stop(letter Letter) {
	b.stops = true
	b.record(letter, "stopped")
}

func (b *Batch) record(letter Letter, state string) {
	e := letter.Event
	b.more = append(b.more, batchtx.Statement{SQL: batchtx.ExactlyOne(b.store.q(sqlLetter)), Args: []any{
		b.fence.Projection, e.GlobalPosition, b.store.replicaSet, e.EventID, e.EventType, e.BoundedContext, e.AggregateType, e.AggregateID,
		state, letter.Attempts, b.store.storable(letter.Error), b.fence.Worker, b.fence.Generation, b.store.storable(letter.Kind), b.store.storable(letter.Frame),
	}})
}
