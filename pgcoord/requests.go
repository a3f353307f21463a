package pgcoord

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Requests are what operators ask of the owner of a projection's slots, since it needs the handler: to retry or to try parked letters, or to reset. Here they are read, and a
// batch records what came of one. Package admin writes them.

// requestChanged is a parameter that does not exist, which the failures of the statements name.
const requestChanged = "pupsourcing.request_changed"

const sqlRequests = `
SELECT operation, projection, bounded_context, aggregate_type, aggregate_id, (hashtextextended(aggregate_id, 0) & 65535)::int, kind, coalesce(target, 0)
FROM {{schema}}orchestrator_requests AS r
WHERE projection = $1 AND state = 'waiting' AND (hashtextextended(aggregate_id, 0) & 65535) >= $2::int AND (hashtextextended(aggregate_id, 0) & 65535) < $3::int
  AND ` + dbguard.Primary + `
ORDER BY (kind = 'reset') DESC, EXISTS (
    SELECT FROM {{schema}}orchestrator_checkpoints AS c WHERE c.projection = r.projection AND c.position >= c.hold_at AND coalesce(c.hold_until > now(), true)
      AND (hashtextextended(r.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(r.aggregate_id, 0) & 65535) < c.slot_to),
  row_number() OVER (PARTITION BY operation ORDER BY aggregate_id, aggregate_type, bounded_context), operation
LIMIT $4::bigint`

// Requests reads the requests that need the projection's handler, for aggregates in a range of slots, in order. Resets
// come first, since a projection that is paused is reset too. Those whose slots are paused come last, since they must wait.
// Operations take turns, so that one of many requests does not keep the others out of the list, which has no more than the
// number most.
func (s *Store) Requests(ctx context.Context, db dbguard.Transactions, projection string, slots slot.Range, most int) ([]replicaset.Request, error) {
	rows, err := db.Waiting(recordPatience).Query(ctx, s.q(sqlRequests), projection, slots.From, slots.To, most)
	var requests []replicaset.Request
	if err == nil {
		requests, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r replicaset.Request, err error) {
			return r, row.Scan(&r.Operation, &r.Projection, &r.BoundedContext, &r.Type, &r.ID, &r.Slot, &r.Kind, &r.Target)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reading the requests for projection %q: %w", projection, err)
	}
	return requests, nil
}

// ofRequest are the arguments that name a request's aggregate, as $1 to $4.
func ofRequest(r replicaset.Request, more ...any) []any {
	return append([]any{r.Projection, r.BoundedContext, r.Type, r.ID}, more...)
}

// parkedLetters selects the letters of a parked aggregate. $1 is the projection; $2 to $4 name the aggregate.
const parkedLetters = `projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text AND state = 'parked'`

const sqlLetters = `
SELECT global_position, event_id FROM {{schema}}orchestrator_dead_letters
WHERE ` + parkedLetters + ` AND ` + dbguard.Primary + `
ORDER BY global_position LIMIT {{letters $5}}`

// ParkedEvent is an event of a parked aggregate.
type ParkedEvent struct {
	Position int64
	EventID  uuid.UUID
}

// Letters reads the first letters of the request's aggregate, in order. It returns no more than the number most. If the
// worker has read the slot's checkpoint before, its revision fences what the worker does with the letters.
func (s *Store) Letters(ctx context.Context, db DB, r replicaset.Request, most int) ([]ParkedEvent, error) {
	rows, err := db.Query(ctx, s.q(sqlLetters), ofRequest(r, most)...)
	if err == nil {
		var letters []ParkedEvent
		if letters, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l ParkedEvent, err error) { return l, row.Scan(&l.Position, &l.EventID) }); err == nil {
			return letters, nil
		}
	}
	return nil, fmt.Errorf("reading the letters of %s: %w", r, err)
}

// sqlRetried says of letters that they were handled. Each must be a letter still.
var sqlRetried = `
WITH letter AS (
    UPDATE {{schema}}orchestrator_dead_letters
    SET state = 'handled', handled_at = pg_catalog.now(), worker_id = $7::uuid, generation = $8::bigint
    WHERE ` + parkedLetters + ` AND global_position = ANY ($5::bigint[])
    RETURNING 1
), parked AS (
    UPDATE {{schema}}orchestrator_parked_aggregates AS p SET letters = greatest(1, letters - $6::bigint), global_position = coalesce((
        SELECT pg_catalog.min(global_position) FROM {{schema}}orchestrator_dead_letters
        WHERE ` + parkedLetters + ` AND global_position <> ALL ($5::bigint[])), p.global_position)
    WHERE projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text
    RETURNING 1
)
SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM letter) <> $6::bigint OR (SELECT pg_catalog.count(*) FROM parked) <> 1
    THEN ` + dbguard.Raise(requestChanged) + ` END`

// sqlUnpark ends the parking of an aggregate that has no letters.
const sqlUnpark = `
DELETE FROM {{schema}}orchestrator_parked_aggregates
WHERE projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text
  AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_dead_letters WHERE ` + parkedLetters + ` LIMIT {{letters 1}})`

// sqlProgress says how far a request is. It has succeeded when its aggregate is not parked any more.
var sqlProgress = `
WITH done AS (
    SELECT NOT EXISTS (
        SELECT FROM {{schema}}orchestrator_parked_aggregates
        WHERE projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text) AS all_of_it
), request AS (
    UPDATE {{schema}}orchestrator_requests SET handled = handled + $6::bigint, worker_id = $7::uuid,
        state = CASE WHEN all_of_it THEN 'succeeded' ELSE state END, finished_at = CASE WHEN all_of_it THEN pg_catalog.now() END
    FROM done
    WHERE operation = $5::bigint AND projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text
      AND state = 'waiting'
    RETURNING 1
)
SELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(requestChanged) + ` END FROM request`

// sqlAnswer ends a request.
var sqlAnswer = `
WITH request AS (
    UPDATE {{schema}}orchestrator_requests
    SET state = CASE WHEN $8::bigint IS NULL THEN 'succeeded' ELSE 'failed' END, handled = handled + $6::bigint, worker_id = $7::uuid,
        failed_position = $8::bigint, error = $9::text, finished_at = pg_catalog.now()
    WHERE operation = $5::bigint AND projection = $1::text AND bounded_context = $2::text AND aggregate_type = $3::text AND aggregate_id = $4::text
      AND state = 'waiting'
    RETURNING 1
)
SELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(requestChanged) + ` END FROM request`

// Those who end the last requests of an operation do so one after the other, so that one of them sees that none is left.
const sqlEndInTurn = `SELECT FROM {{schema}}orchestrator_operations WHERE id = $1 FOR NO KEY UPDATE`

// sqlEndOperation ends an operation none of whose requests is waiting.
const sqlEndOperation = `
UPDATE {{schema}}orchestrator_operations SET state = 'done', finished_at = pg_catalog.now(), result = result || (
    SELECT pg_catalog.jsonb_build_object('succeeded', pg_catalog.count(*) FILTER (WHERE state = 'succeeded'),
        'failed', pg_catalog.count(*) FILTER (WHERE state = 'failed'), 'events', coalesce(pg_catalog.sum(handled), 0))
    FROM {{schema}}orchestrator_requests WHERE operation = $1)
WHERE id = $1 AND state = 'waiting'
  AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_requests WHERE operation = $1 AND state = 'waiting')`

// Retried makes Commit record that the batch has handled these letters of the request's aggregate, and that no letter
// before them is left. If no letter is left at all, the aggregate is no longer parked, and the request has succeeded. If
// the request or a letter no longer exists, Commit returns ErrMoved.
func (b *Batch) Retried(r replicaset.Request, positions []int64) {
	n := len(positions)
	if n > 0 {
		b.add(sqlRetried, ofRequest(r, positions, n, b.fence.Worker, b.fence.Generation)...)
	}
	b.add(sqlUnpark, ofRequest(r)...)
	b.add(sqlProgress, ofRequest(r, r.Operation, n, b.fence.Worker)...)
	b.endOperation(r)
}

// sqlAttempted records an attempt at a letter.
var sqlAttempted = batchtx.ExactlyOne(`
UPDATE {{schema}}orchestrator_dead_letters SET attempts = attempts + 1, last_error = $6::text, last_failed_at = pg_catalog.now(),
    worker_id = $7::uuid, generation = $8::bigint, error_kind = $9::text, error_frame = $10::text
WHERE ` + parkedLetters + ` AND global_position = $5::bigint`)

// RetryFailed makes Commit record that the request has ended at a letter that could not be handled. The batch must have
// no handlers.
func (b *Batch) RetryFailed(r replicaset.Request, letter Letter) {
	b.add(sqlAttempted, ofRequest(r, letter.Event.GlobalPosition, b.store.storable(letter.Error), b.fence.Worker, b.fence.Generation,
		b.store.storable(letter.Kind), b.store.storable(letter.Frame))...)
	b.Tried(r, 0, letter.Event.GlobalPosition, letter.Error)
}

// Tried makes Commit record the answer to a request: how many letters were handled and, unless failedAt is 0, the error
// of the letter there. The batch must have no handlers.
func (b *Batch) Tried(r replicaset.Request, handled int, failedAt int64, text string) {
	var failed *int64
	if failedAt != 0 {
		failed = &failedAt
	}
	b.answer(r, handled, failed, text)
}

func (b *Batch) answer(r replicaset.Request, handled int, failed *int64, text string) {
	b.add(sqlAnswer, ofRequest(r, r.Operation, handled, b.fence.Worker, failed, b.store.storable(text))...)
	b.endOperation(r)
}

func (b *Batch) endOperation(r replicaset.Request) {
	b.add(sqlEndInTurn, r.Operation)
	b.add(sqlEndOperation, r.Operation)
}

// add has Commit run a statement.
func (b *Batch) add(sql string, args ...any) {
	b.more = append(b.more, batchtx.Statement{SQL: b.store.q(sql), Args: args})
}

// explainRequest says what a failure of the own conditions means.
func explainRequest(err error) error {
	if dbguard.Raised(err, requestChanged) {
		return fmt.Errorf("the request, or a letter of its aggregate, is not there any more: %w", errors.Join(ErrMoved, err))
	}
	return err
}

// CheckDeferred checks the handlers' deferred constraints, as Commit would.
func (b *Batch) CheckDeferred(ctx context.Context) error { return b.tx.Settle(ctx) }
