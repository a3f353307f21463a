package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// Result is the result of Retry or Discard.
type Result struct {
	// Operation is the number of the row in orchestrator_operations.
	Operation int64 `json:"operation"`
	// Aggregates is how many parked aggregates the filter selected. Succeeded of them are no longer parked. Failed of
	// them are still parked, because one of their letters could not be handled. Waiting of them have yet to be handled.
	Aggregates int `json:"aggregates"`
	Succeeded  int `json:"succeeded"`
	Failed     int `json:"failed"`
	Waiting    int `json:"waiting"`
	// Events is how many letters were handled or discarded.
	Events int64 `json:"events"`
	// Failures are the first 100 letters that failed, with their errors.
	Failures []RetryFailure `json:"failures,omitempty"`
}

// RetryFailure is a letter that could not be handled.
type RetryFailure struct {
	Projection string    `json:"projection"`
	Aggregate  Aggregate `json:"aggregate"`
	Position   int64     `json:"position"`
	Error      string    `json:"error"`
}

// ErrCancelled means that somebody has cancelled an operation while it was being waited for, or has discarded or reset
// what it applied to.
var ErrCancelled = errors.New("the operation was cancelled")

// Trial is the result that a retry of a parked aggregate would have now.
type Trial struct {
	Projection string    `json:"projection"`
	Aggregate  Aggregate `json:"aggregate"`
	// Letters is how many events of the aggregate are set aside. Handled is how many of them the handler handled, in
	// order, before one failed. A trial takes at most 1,000 events and about 5 seconds.
	Letters int `json:"letters"`
	Handled int `json:"handled"`
	// FailedAt is the position of the event that failed, or 0 if none did. Error is the handler's error.
	FailedAt int64  `json:"failed_at"`
	Error    string `json:"error"`
}

// Retry makes workers handle the letters of parked aggregates again, in order. The owner of an aggregate's slot handles
// its letters. When no letter is left, the aggregate is no longer parked. If one fails, the letters before it stay
// handled, and the aggregate stays parked.
//
// Retry always takes whole aggregates, even if the filter selects only some of their letters. It waits until all have
// been retried. If ctx ends first, it returns the result so far and an error. The rest of the request remains, and is
// done when workers run the projection; Cancel removes it.
func (a *Admin) Retry(ctx context.Context, f Filter, reason string) (Result, error) {
	var result Result
	of, err := a.request(ctx, f, replicaset.Retry, reason)
	if err == nil {
		result, err = a.await(ctx, of)
	}
	return result, a.explain(ctx, askRights, "retrying parked aggregates", err)
}

// Try returns what Retry would achieve now. The owners of the slots call the handlers and roll back. Handlers are told
// (projection.Delivery.Trial), so that they can leave out effects that a rollback does not undo.
func (a *Admin) Try(ctx context.Context, f Filter) ([]Trial, error) {
	of, err := a.request(ctx, f, replicaset.Try, "")
	if err == nil {
		_, err = a.await(ctx, of)
	}
	if of.id == 0 {
		return nil, a.explain(ctx, askRights, "trying parked aggregates", err)
	}
	look, end := lastLook(ctx)
	defer end()
	trials, readErr := a.trials(look, of.id)
	if err == nil {
		err = readErr
	}
	return trials, a.explain(ctx, askRights, "trying parked aggregates", err)
}

const sqlRequest = `
INSERT INTO {{schema}}orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind)
SELECT $1::bigint, a.*, $6::text FROM ROWS FROM (unnest($2::text[]), unnest($3::text[]), unnest($4::text[]), unnest($5::text[])) AS a`

// asked is an operation that workers are to do, and of how many parts it is. what names these.
type asked struct {
	id    int64
	parts int
	what  string
}

// request asks the owners of the slots for a retry or a trial.
func (a *Admin) request(ctx context.Context, f Filter, kind, reason string) (of asked, err error) {
	if err := f.check("parked"); err != nil {
		return asked{}, err
	}
	if err := checkText("the reason", reason, 0, mostReason); err != nil {
		return asked{}, err
	}
	err = a.change(ctx, func(c change) error {
		parked, err := c.parked(ctx, f)
		if err != nil {
			return fmt.Errorf("looking for parked aggregates: %w", err)
		}
		state, n := "waiting", len(parked.ids)
		if n == 0 {
			state = "done"
		}
		of = asked{parts: n, what: "aggregates"}
		of.id, err = c.record(ctx, operation{kind: kind, projection: f.Projection, arguments: f.described(), reason: reason}, state, map[string]any{"aggregates": n})
		if err != nil {
			return fmt.Errorf("recording the operation: %w", err)
		}
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlRequest), of.id, parked.projections, parked.contexts, parked.types, parked.ids, kind); err != nil {
			return fmt.Errorf("asking for it: %w", err)
		}
		return c.raise(ctx, parked)
	})
	return of, err
}

// mostReason bounds a reason, in bytes.
const mostReason = 4 << 10

const sqlProgress = `
SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'), count(*) FILTER (WHERE state = 'waiting'),
    coalesce(sum(handled), 0)::bigint, coalesce(string_agg(DISTINCT projection, ', ') FILTER (WHERE state = 'waiting'), ''),
    count(*) FILTER (WHERE state = 'cancelled'), coalesce(string_agg(DISTINCT nullif(error, ''), ', ') FILTER (WHERE state = 'cancelled'), 'somebody has cancelled it')
FROM {{schema}}orchestrator_requests WHERE operation = $1`

const (
	// firstWait and mostWait are how long to wait between looks at a request.
	firstWait = 20 * time.Millisecond
	mostWait  = 500 * time.Millisecond
)

// await waits until nothing of an operation waits any more.
func (a *Admin) await(ctx context.Context, of asked) (Result, error) {
	store, err := a.open(ctx)
	if err != nil {
		return Result{}, err
	}
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		result, waiting, cancelled, why := Result{Operation: of.id}, "", 0, ""
		look, end := lastLook(ctx)
		err := a.db.QueryRow(look, store.SQL(sqlProgress), of.id).Scan(
			&result.Aggregates, &result.Succeeded, &result.Failed, &result.Waiting, &result.Events, &waiting, &cancelled, &why)
		end()
		switch {
		case err != nil && ctx.Err() != nil && look == ctx:
			continue // how far it has come is looked up once more
		case err != nil:
			return result, fmt.Errorf("looking how far operation %d is: %w", of.id, err)
		case result.Aggregates < of.parts:
			return result, fmt.Errorf("operation %d: %d of %d %s are not in orchestrator_requests any more, since somebody has deleted them, so it is not known whether they were done",
				of.id, of.parts-result.Aggregates, of.parts, of.what)
		}
		if a.progress != nil {
			a.progress(result)
		}
		if result.Waiting == 0 {
			if result.Failed > 0 {
				look, end := lastLook(ctx)
				defer end()
				result.Failures, err = a.failures(look, of.id)
			}
			if err == nil && cancelled > 0 {
				err = fmt.Errorf("operation %d: %d of %d %s were not done (%s): %w", of.id, cancelled, result.Aggregates, of.what, why, ErrCancelled)
			}
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, fmt.Errorf("operation %d: %d of %d %s still wait for %s: %w", of.id, result.Waiting, result.Aggregates, of.what, a.waitsFor(ctx, of.id, waiting), context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

// sqlPausedOf is the paused projections that an operation waits for. A reset does not wait for that.
const sqlPausedOf = `
SELECT coalesce(string_agg(DISTINCT r.projection, ', '), '') FROM {{schema}}orchestrator_requests AS r
WHERE r.operation = $1 AND r.state = 'waiting' AND r.kind <> 'reset' AND EXISTS (
    SELECT FROM {{schema}}orchestrator_checkpoints AS c
    WHERE c.projection = r.projection AND c.position >= c.hold_at AND (c.hold_until IS NULL OR c.hold_until > now())
      AND (hashtextextended(r.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(r.aggregate_id, 0) & 65535) < c.slot_to)`

// waitsFor says what an operation of these projections waits for, after ctx has ended.
func (a *Admin) waitsFor(ctx context.Context, id int64, projections string) string {
	look, end := lastLook(ctx)
	defer end()
	paused := ""
	if store, err := a.open(look); err == nil {
		_ = a.db.QueryRow(look, store.SQL(sqlPausedOf), id).Scan(&paused) // without an answer, none is known to be paused
	}
	if paused != "" {
		return fmt.Sprintf("the pause of %s to end, and are done then", paused)
	}
	return fmt.Sprintf("a worker that runs %s, and are done when there is one", projections)
}

// lastLook is ctx or, after that has ended, a context for one look more.
func lastLook(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}

const sqlFailures = `
SELECT projection, bounded_context, aggregate_type, aggregate_id, failed_position, error
FROM {{schema}}orchestrator_requests WHERE operation = $1 AND state = 'failed'
ORDER BY failed_position, projection LIMIT 100`

func (a *Admin) failures(ctx context.Context, id int64) ([]RetryFailure, error) {
	store, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, store.SQL(sqlFailures), id)
	if err != nil {
		return nil, fmt.Errorf("reading what failed in operation %d: %w", id, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f RetryFailure, err error) {
		return f, row.Scan(&f.Projection, &f.Aggregate.BoundedContext, &f.Aggregate.Type, &f.Aggregate.ID, &f.Position, &f.Error)
	})
}

const sqlTrials = `
SELECT r.projection, r.bounded_context, r.aggregate_type, r.aggregate_id, coalesce(p.letters, 0), r.handled, coalesce(r.failed_position, 0), r.error
FROM {{schema}}orchestrator_requests AS r
LEFT JOIN {{schema}}orchestrator_parked_aggregates AS p USING (projection, aggregate_id, aggregate_type, bounded_context)
WHERE r.operation = $1 AND r.state IN ('succeeded', 'failed')
ORDER BY r.projection, r.aggregate_id, r.aggregate_type, r.bounded_context`

func (a *Admin) trials(ctx context.Context, id int64) ([]Trial, error) {
	store, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, store.SQL(sqlTrials), id)
	if err != nil {
		return nil, fmt.Errorf("reading what came of operation %d: %w", id, err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Trial, err error) {
		return t, row.Scan(&t.Projection, &t.Aggregate.BoundedContext, &t.Aggregate.Type, &t.Aggregate.ID, &t.Letters, &t.Handled, &t.FailedAt, &t.Error)
	})
}

const sqlCancelRequests = `
UPDATE {{schema}}orchestrator_requests AS r SET state = 'cancelled', finished_at = now()
FROM {{schema}}orchestrator_operations AS o
WHERE o.id = $1 AND o.replica_set = $2 AND o.state = 'waiting' AND r.operation = o.id AND r.state = 'waiting'`

const sqlCancel = `
UPDATE {{schema}}orchestrator_operations SET state = 'cancelled', finished_at = now(),
    result = result || jsonb_build_object('cancelled_by', $3::text, 'cancelled_because', $4::text)
WHERE id = $1 AND replica_set = $2 AND state = 'waiting'`

// Cancel ends the waiting part of an operation. Work that workers have already done stays. If the operation is a
// cut-over, its holds are removed. It is an error if the operation is not waiting.
func (a *Admin) Cancel(ctx context.Context, operation int64, reason string) error {
	err := checkText("the reason", reason, 0, mostReason)
	if err == nil {
		err = a.change(ctx, func(c change) error {
			cutOvers, err := c.waitingCutOvers(ctx, waitingCutOvers{id: operation})
			switch {
			case err != nil:
				return err
			case len(cutOvers) > 0:
				return c.cancelCutOver(ctx, operation, reason)
			}
			if _, err := c.tx.Exec(ctx, c.store.SQL(sqlCancelRequests), operation, a.replicaSet); err != nil {
				return err
			}
			tag, err := c.tx.Exec(ctx, c.store.SQL(sqlCancel), operation, a.replicaSet, a.actor, reason)
			if err == nil && tag.RowsAffected() == 0 {
				return errNotWaiting
			}
			return err
		})
	}
	return a.explain(ctx, cancelRights, fmt.Sprintf("cancelling operation %d", operation), err)
}

// cancelCutOver ends a cut-over that has begun. It is an error if that has been done meanwhile, since it cannot be taken back.
func (c change) cancelCutOver(ctx context.Context, operation int64, reason string) error {
	ended, err := c.endCutOvers(ctx, waitingCutOvers{id: operation}, reason)
	if err == nil && ended == 0 {
		return errNotWaiting
	}
	return err
}
