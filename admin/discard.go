package admin

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

var errNotWaiting = errors.New("there is no such operation that waits")

// ErrMoreLetters means that DiscardAtMost would have discarded more letters than it was allowed to.
var ErrMoreLetters = errors.New("there are more letters than may be discarded")

// of is the condition for a row's aggregate to be one of those in the arrays $1 to $4.
const of = `(projection, bounded_context, aggregate_type, aggregate_id) IN (
    SELECT * FROM ROWS FROM (unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::text[])) AS a)`

const sqlDiscardLetters = `DELETE FROM {{schema}}orchestrator_dead_letters WHERE state = 'parked' AND ` + of

const sqlDiscardParked = `DELETE FROM {{schema}}orchestrator_parked_aggregates WHERE ` + of

// sqlAnswerDiscarded ends the requests for aggregates that are not parked any more.
const sqlAnswerDiscarded = `
UPDATE {{schema}}orchestrator_requests SET state = 'cancelled', finished_at = now(), error = 'discarded' WHERE state = 'waiting' AND ` + of

const sqlDiscardSkipped = `
DELETE FROM {{schema}}orchestrator_dead_letters AS d WHERE ` + filterSQL + ` AND ` + dbguard.Primary

// Discard deletes the letters of parked aggregates. No handler will handle those events. The aggregates are no longer
// parked, so their next event is handled. Discard always takes whole aggregates, even if the filter selects only some of
// their letters.
//
// With Filter.State "skipped" it deletes the records of skipped events, and changes nothing else.
func (a *Admin) Discard(ctx context.Context, f Filter, reason string) (Result, error) {
	result, err := a.discard(ctx, f, reason, math.MaxInt64)
	return result, a.explain(ctx, discardRights, "discarding letters", err)
}

// DiscardAtMost is Discard for a number of letters that somebody has agreed to. If there are more than most by now, since
// workers put aside events all the time, it discards none, and returns an error that wraps ErrMoreLetters.
func (a *Admin) DiscardAtMost(ctx context.Context, f Filter, reason string, most int64) (Result, error) {
	if most < 0 {
		return Result{}, a.explain(ctx, discardRights, "discarding letters", wrong("most must not be negative, got %d", most))
	}
	result, err := a.discard(ctx, f, reason, most)
	return result, a.explain(ctx, discardRights, "discarding letters", err)
}

func (a *Admin) discard(ctx context.Context, f Filter, reason string, most int64) (result Result, err error) {
	if err := f.check("parked", "skipped"); err != nil {
		return Result{}, err
	}
	if err := checkText("the reason", reason, 0, mostReason); err != nil {
		return Result{}, err
	}
	err = a.change(ctx, func(c change) error {
		result = Result{}
		if f.State == "skipped" {
			tag, err := c.tx.Exec(ctx, c.store.SQL(sqlDiscardSkipped), f.args(a.replicaSet, []string{"skipped"})...)
			if err != nil {
				return err
			}
			result.Events = tag.RowsAffected()
		} else if err := c.discardParked(ctx, f, &result); err != nil {
			return err
		}
		if result.Events > most {
			return fmt.Errorf("%w: %d match, and the limit is %d", ErrMoreLetters, result.Events, most)
		}
		result.Operation, err = c.record(ctx, operation{kind: "discard", projection: f.Projection, arguments: f.described(), reason: reason}, "done",
			map[string]any{"aggregates": result.Aggregates, "events": result.Events})
		return err
	})
	if err != nil {
		return Result{}, err
	}
	return result, nil
}

func (c change) discardParked(ctx context.Context, f Filter, result *Result) error {
	parked, err := c.parked(ctx, f)
	if err != nil {
		return fmt.Errorf("looking for parked aggregates: %w", err)
	}
	if err := c.raise(ctx, parked); err != nil {
		return err
	}
	locked := parked.keys()
	if parked, err = c.parked(ctx, f); err != nil { // some may have been retried, and parked again for another reason
		return fmt.Errorf("looking for parked aggregates again: %w", err)
	}
	parked = parked.among(locked)
	aggregates := []any{parked.projections, parked.contexts, parked.types, parked.ids}
	letters, err := c.tx.Exec(ctx, c.store.SQL(sqlDiscardLetters), aggregates...)
	if err != nil {
		return fmt.Errorf("deleting the letters: %w", err)
	}
	gone, err := c.tx.Exec(ctx, c.store.SQL(sqlDiscardParked), aggregates...)
	if err != nil {
		return fmt.Errorf("unparking the aggregates: %w", err)
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlAnswerDiscarded), aggregates...); err != nil {
		return fmt.Errorf("ending the requests for the aggregates: %w", err)
	}
	if err := c.store.EndOperations(ctx, c.tx); err != nil {
		return fmt.Errorf("ending the operations that wait for nothing any more: %w", err)
	}
	n := int(gone.RowsAffected())
	result.Aggregates, result.Succeeded, result.Events = n, n, letters.RowsAffected()
	return nil
}
