package projection

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// failing is the event that a handler fails on.
type failing struct {
	event    handling.FailedEvent // at position 0: no event fails
	attempts int                  // as the table counts them, over restarts
	text     string               // its last error, abridged
	err      error                // and as it was
	panicked string               // the panic whose stack was logged last
	outcome  handling.Outcome     // what the policy says of it
	last     *Failure             // the latest failure, for the hook
}

// errAgain means that an event was dealt with, and that the stream must be read again from the checkpoint, not before
// runner.retryAt.
var errAgain = errors.New("the events are read again")

// eventFailed schedules a retry of the event, or its outcome.
func (r *runner) eventFailed(ctx context.Context, event es.PersistedEvent, d handling.Decision) {
	f, now := &r.failing, time.Now()
	if f.event.GlobalPosition != event.GlobalPosition {
		*f = failing{event: handling.FailedEventOf(event)}
	}
	f.attempts++ // also where the table cannot be reached
	f.text, f.err = handling.Abridged(fmt.Sprint(d.Err)), d.Err
	if r.policied && d.Outcome == handling.Retry {
		r.recordAttempt(ctx)
		if outcome, _ := r.policy.After(f.attempts, d.Class); outcome != handling.Retry {
			d.Outcome, d.Delay = outcome, 0 // it was tried before a restart too
		}
	}
	f.outcome, r.retryAt = d.Outcome, now.Add(d.Delay)
	f.last = r.failureOf(d)
	r.report(ctx, d)
	if d.Outcome == handling.Retry {
		r.hook.Tell(*f.last)
	}
}

// recordAttempt records a failed attempt in the table, and takes the count from there. If that fails, the event is
// retried all the same.
func (r *runner) recordAttempt(ctx context.Context) {
	if r.letters == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	f := &r.failing
	r.unsettled = max(r.unsettled, f.event.GlobalPosition) // also where it is not known whether it was recorded
	attempts, err := r.letters.attempt(ctx, r.db.InTransactions(), r.own, f.event, f.attempts, f.text)
	if err != nil && ctx.Err() == nil {
		r.log.WarnContext(ctx, "a failed attempt could not be recorded; handling goes on", "error", err)
	}
	f.attempts = max(f.attempts, attempts)
}

// failureOf returns the failure that is passed to the hook.
func (r *runner) failureOf(d handling.Decision) *Failure {
	return &Failure{
		PartitionKey: r.partition.Key, TotalPartitions: r.partition.Total, Projection: r.name, Event: FailedEvent(r.failing.event), Attempt: r.failing.attempts,
		Class: Class(d.Class), Retry: d.Outcome == handling.Retry, Delay: d.Delay, Outcome: handling.Public[Outcome](d.Outcome), Err: publicError(d.Err),
	}
}

// report logs a failed attempt.
func (r *runner) report(ctx context.Context, d handling.Decision) {
	f := &r.failing
	if !r.policied {
		return // Run returns it
	}
	attrs := []any{
		"error", f.text, "class", d.Class.String(), "event_id", f.event.EventID, "event_type", f.event.EventType, "aggregate_id", f.event.AggregateID,
		"position", f.event.GlobalPosition, "attempt", f.attempts,
	}
	if panicked, ok := errors.AsType[*handling.PanicError](d.Err); ok && f.panicked != f.text {
		f.panicked = f.text // its stack is logged once
		attrs = append(attrs, "stack", string(panicked.Stack))
	}
	if d.Outcome != handling.Retry {
		r.log.ErrorContext(ctx, "a handler failed; the error policy applies its outcome to the event", append(attrs, "outcome", d.Outcome.String())...)
		return
	}
	r.log.ErrorContext(ctx, "a handler failed; the partition waits for the event", append(attrs, "next_try", d.Delay)...)
}

// pending reports whether the failed event has an outcome that has not been performed yet.
func (r *runner) pending() bool {
	return r.failing.event.GlobalPosition != 0 && r.failing.outcome != handling.Retry
}

// perform applies the policy to the failed event, which is the next one. It uses a transaction without handlers, since
// the events before it were committed separately. It returns errAgain when the projection can continue after the event,
// and the error that ends Run if the projection stops.
func (r *runner) perform(ctx context.Context) error {
	f := &r.failing
	upTo, lockBelow := f.event.GlobalPosition, f.event.GlobalPosition
	var statements []batchtx.Statement
	switch f.outcome {
	case handling.Retry:
		r.size = 1 // so that a batch handler gets it alone
		return errAgain
	case handling.Skip:
		statements = []batchtx.Statement{r.letters.letter(f.event, "skipped", f.attempts, f.text)}
	case handling.Park:
		statements = append(r.letters.park(f.event, r.policy.MaxParked), r.letters.letter(f.event, "parked", f.attempts, f.text))
	case handling.Stop:
		if !r.policied {
			return r.stopped(ctx)
		}
		upTo, lockBelow = upTo-1, math.MaxInt64 // so that other processors of the partition find the stop
		statements = []batchtx.Statement{r.letters.letter(f.event, "stopped", f.attempts, f.text)}
	}
	err := r.write(ctx, upTo, lockBelow, statements)
	switch {
	case errors.Is(err, errTooManyParked):
		f.outcome, f.text = handling.Stop, f.text+" ("+err.Error()+")"
		f.err = errors.Join(f.err, errTooManyParked)
		if f.last != nil {
			f.last.Outcome = Stop
		}
		return r.perform(ctx)
	case err != nil:
		return err
	case f.outcome == handling.Park:
		if r.parked == nil {
			r.parked = map[aggregate]int{}
		}
		r.parked[aggregate{context: f.event.BoundedContext, kind: f.event.AggregateType, id: f.event.AggregateID}]++
	}
	if f.outcome == handling.Stop {
		return r.stopped(ctx)
	}
	r.conclude(ctx)
	return errAgain
}

// stopped concludes a stop, and returns the error that ends Run.
func (r *runner) stopped(ctx context.Context) error {
	event, cause := r.failing.event, r.failing.err
	r.conclude(ctx)
	return r.stoppedAt(event, cause)
}

// conclude reports that the outcome of the failed event was committed.
func (r *runner) conclude(ctx context.Context) {
	f := r.failing
	attrs := []any{"position", f.event.GlobalPosition, "event_id", f.event.EventID, "attempts", f.attempts, "error", f.text}
	switch f.outcome {
	case handling.Skip:
		r.log.ErrorContext(ctx, "an event could not be handled, and the error policy has skipped it: no handler has handled it; the table of dead letters keeps it with the state skipped", attrs...)
	case handling.Park:
		r.log.ErrorContext(ctx, "an event could not be handled, and its aggregate is parked: its events are put aside, in order, until a person decides", attrs...)
	case handling.Stop: // Run returns it
	case handling.Retry: // nothing is concluded
	}
	if f.last != nil {
		r.hook.Tell(*f.last)
	}
	r.failing, r.failures = failing{}, r.failures.Committed(f.event.GlobalPosition)
}

// stopFull stops the projection at the event, whose aggregate is parked and has reached its limit of letters.
func (r *runner) stopFull(event es.PersistedEvent) {
	r.failing = failing{event: handling.FailedEventOf(event), text: handling.TooManyLetters, err: errors.New(handling.TooManyLetters), outcome: handling.Stop}
}

// write commits statements, and advances the rows of the checkpoint to upTo. It locks those below lockBelow.
func (r *runner) write(ctx context.Context, upTo, lockBelow int64, statements []batchtx.Statement) error {
	b, err := r.begin(ctx, lockBelow)
	if err != nil {
		return err
	}
	defer b.release()
	return r.commit(ctx, b, upTo, statements)
}

// waitToRetry waits until the next attempt. It reads the checkpoint from time to time, because a person may skip the
// event or begin a rebuild, and must not wait for the retry.
func (r *runner) waitToRetry(ctx context.Context) error {
	for ctx.Err() == nil {
		left := time.Until(r.retryAt)
		if left <= 0 {
			return nil
		}
		wait(ctx, min(left, keepEvery))
		if left < keepEvery {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, roundTrip)
		own, err := r.rows.read(limited, r.db)
		cancel()
		switch {
		case err != nil:
			return err
		case !slices.Equal(own, r.own):
			return errCheckpointMoved
		}
	}
	return nil
}

// noticeMoved forgets the delay before the next attempt if it is not for the events that come next: somebody has moved the rows of the checkpoint. If they were
// set back, the event that failed is handed to its handler again.
func (r *runner) noticeMoved(own []manual.Piece) {
	now, before := manual.Slots(own), manual.Slots(r.own)
	switch {
	case slot.IsSetBack(now, before):
		r.retryAt, r.failing, r.failures = time.Time{}, failing{}, handling.State{}
	case r.failing.event.GlobalPosition == 0 && !slot.Level(now, before): // it was for several events
		r.retryAt = time.Time{}
	}
}

// publicError converts an error to its public form.
func publicError(err error) error {
	if panicked, ok := errors.AsType[*handling.PanicError](err); ok {
		return (*PanicError)(panicked)
	}
	return err
}

// stoppedAt returns the error with which an event ends Run.
func (r *runner) stoppedAt(event handling.FailedEvent, err error) error {
	return &StoppedError{Projection: r.name, Position: event.GlobalPosition, EventID: event.EventID, EventType: event.EventType, Err: publicError(err)}
}
