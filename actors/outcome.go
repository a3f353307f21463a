package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// What the error policy says of an event that failed is done when the event is the next one, in a transaction without handlers: the events
// before it were committed by themselves. The record of the event is part of that transaction. If it cannot be made, the partition waits.

// rows is the partition's checkpoints, those included that rest, in order of their slots.
func (p *processor) rows() []slot.Piece {
	if len(p.resting) == 0 {
		return p.pieces
	}
	rows := slices.Concat(p.pieces, p.resting)
	slices.SortFunc(rows, func(a, b slot.Piece) int { return cmp.Compare(a.From, b.From) })
	return rows
}

// readFrom is the position after which events are to be read.
func readFrom(running, resting []slot.Piece) int64 {
	if len(running) == 0 {
		return slot.Lowest(resting)
	}
	return slot.Lowest(running)
}

// perform does what the policy says of the next event, which failed.
func (p *processor) perform(ctx context.Context) (next, error) {
	event := p.buffer.pages[0].events.At(0)
	letter := pgcoord.Letter{Event: event, Attempts: p.failing.attempts, Error: p.failing.text, Kind: p.failing.kind, Frame: p.failing.frame}
	switch p.failing.outcome {
	case handling.Stop:
		return p.stopAt(ctx, letter)
	case handling.Skip:
		return p.pass(ctx, letter, func(b *pgcoord.Batch) { b.Skip(letter) })
	case handling.Park:
		return p.pass(ctx, letter, func(b *pgcoord.Batch) { b.Park(letter, p.policy.MaxParked) })
	default: // no transaction is begun
		panic(fmt.Sprintf("the outcome %d of an event that failed cannot be performed", p.failing.outcome))
	}
}

// stopAt stops the partition's slots, those that rest already excepted, before the event.
func (p *processor) stopAt(ctx context.Context, letter pgcoord.Letter) (next, error) {
	b, err := p.begin(ctx, math.MaxInt64) // all that does not rest
	if err != nil {
		return next{}, err
	}
	b.Stop(letter)
	if err := p.commit(ctx, b, letter.Event.GlobalPosition-1); err != nil {
		return next{}, err
	}
	p.conclude()
	p.known = false // the rows say that they are stopped
	return next{more: true}, nil
}

// pass has the processor go on behind the event. record has the batch record what becomes of it.
func (p *processor) pass(ctx context.Context, letter pgcoord.Letter, record func(*pgcoord.Batch)) (next, error) {
	first, upTo := p.buffer.pages[0], letter.Event.GlobalPosition
	if first.events.Len() == 1 {
		upTo = min(first.upTo, slot.Ceiling(p.pieces))
	}
	b, err := p.begin(ctx, upTo)
	if err != nil {
		return next{}, err
	}
	record(b)
	switch err := p.commit(ctx, b, upTo); {
	case errors.Is(err, pgcoord.ErrTooManyParked):
		p.failing.outcome, p.failing.text = handling.Stop, p.failing.text+" ("+err.Error()+")"
		if p.failing.last != nil {
			p.failing.last.Outcome = projection.Stop
		}
		return next{more: true}, nil
	case err != nil:
		return next{}, err
	}
	if p.failing.outcome == handling.Park {
		p.park(aggregateOf(letter.Event))
	}
	p.tellHandled(0, 1)
	p.buffer.handled(1)
	p.performed()
	return next{more: true}, nil
}

// performed notices by the rows, and by what is parked, that the outcome of the event that failed was committed. Rows that rest do not show it: somebody may
// have paused the projection before the event.
func (p *processor) performed() {
	var done bool
	switch p.failing.outcome {
	case handling.Skip:
		rows := p.pieces
		if len(rows) == 0 {
			rows = slices.DeleteFunc(slices.Clone(p.resting), func(one slot.Piece) bool { return one.Stopped != 0 })
		}
		done = slot.Lowest(rows) >= p.failing.position
	case handling.Park:
		done = p.parked.holds(p.failing.of)
	case handling.Stop:
		done = slices.ContainsFunc(p.resting, func(one slot.Piece) bool { return one.Stopped == p.failing.position })
	case handling.Retry: // nothing is to be performed
	}
	if done {
		p.conclude()
	}
}

// conclude tells that the outcome of the event that failed was committed.
func (p *processor) conclude() {
	f := p.failing
	switch f.outcome {
	case handling.Skip:
		p.worker.Metrics.Skipped(p.fence.Projection)
		p.log.Error("an event could not be handled, and the error policy has skipped it: no handler has handled it; orchestrator_dead_letters keeps it with the state skipped",
			"position", f.position, "aggregate_id", f.of.ID, "attempts", f.attempts, "error", f.text)
	case handling.Park:
		p.log.Error("an event could not be handled, and its aggregate is parked: its events are put aside, in order, until a person decides; orchestrator_parked_aggregates lists it",
			"position", f.position, "aggregate_id", f.of.ID, "attempts", f.attempts, "error", f.text)
	case handling.Stop: // noticeResting logs it
		p.failures = handling.State{}
	case handling.Retry: // nothing is concluded
	}
	p.tellFailed(f.last)
	p.notRetrying()
}
