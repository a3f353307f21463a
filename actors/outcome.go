package actors

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// What the error policy says of an event that failed is done when the event is the next one, in a transaction without handlers: the events
// before it were committed by themselves. The record of the event is part of that transaction. If it cannot be made, the partition waits.

// rows is the partition's checkpoints, those included that are stopped, in order of their slots.
func (p *processor) rows() []slot.Piece {
	if len(p.stopped) == 0 {
		return p.pieces
	}
	rows := slices.Concat(p.pieces, p.stopped)
	slices.SortFunc(rows, func(a, b slot.Piece) int { return cmp.Compare(a.From, b.From) })
	return rows
}

// readFrom is the position after which events are to be read.
func readFrom(running, stopped []slot.Piece) int64 {
	if len(running) == 0 {
		return slot.Lowest(stopped)
	}
	return slot.Lowest(running)
}

// perform does what the policy says of the next event, which failed.
func (p *processor) perform(ctx context.Context) (next, error) {
	first := p.supply.pages[0]
	event := first.events.At(0)
	letter := pgcoord.Failure{Event: event, Attempts: p.failing.attempts, Error: p.failing.text, Kind: p.failing.kind, Frame: p.failing.frame}
	if p.failing.outcome == handling.Stop {
		b, err := p.begin(ctx, math.MaxInt64) // all that is not stopped
		if err != nil {
			return next{}, err
		}
		b.Stop(letter)
		if err := p.commit(ctx, b, event.GlobalPosition-1); err != nil {
			return next{}, err
		}
		p.conclude()
		p.known = false // the rows say that they are stopped
		return next{more: true}, nil
	}
	upTo := event.GlobalPosition
	if first.events.Len() == 1 {
		upTo = first.upTo
	}
	b, err := p.begin(ctx, upTo)
	if err != nil {
		return next{}, err
	}
	if p.failing.outcome == handling.Park {
		b.Park(letter, p.policy.MaxParked)
	} else {
		b.Skip(letter)
	}
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
		p.park(aggregateOf(event))
	}
	p.supply.handled(1)
	p.performed()
	return next{more: true}, nil
}

// performed notices by the rows that the outcome of the event that failed was committed.
func (p *processor) performed() {
	switch p.failing.outcome {
	case handling.Skip, handling.Park:
		if len(p.pieces) > 0 && slot.Lowest(p.pieces) < p.failing.position {
			return
		}
	case handling.Stop:
		if len(p.pieces) > 0 {
			return
		}
	default:
		return
	}
	p.conclude()
}

// conclude tells that the outcome of the event that failed was committed.
func (p *processor) conclude() {
	f := p.failing
	switch f.outcome {
	case handling.Skip:
		p.worker.Metrics.Skipped(p.fence.Projection)
		p.log.Error("an event could not be handled, and the error policy has skipped it: no handler has handled it; orchestrator_dead_letters keeps it with the state skipped",
			"position", f.position, "attempts", f.attempts, "error", f.text)
	case handling.Park:
		p.log.Error("an event could not be handled, and its aggregate is parked: its events are put aside, in order, until a person decides; orchestrator_parked_aggregates lists it",
			"position", f.position, "attempts", f.attempts, "error", f.text)
	default: // noticeStopped logs it
		p.failures = handling.State{}
	}
	p.tellHook(f.last)
	p.notRetrying()
}

// noticeStopped logs that the projection is stopped for slots of the partition, once a minute, and sets the metric.
func (p *processor) noticeStopped() {
	name, partition := p.fence.Projection, p.fence.Partition.String()
	if len(p.stopped) > 0 || p.shownStopped {
		p.shownStopped = true
		p.worker.Metrics.Stopped(name, partition, len(p.stopped) > 0)
	}
	if len(p.stopped) == 0 || !p.worker.notices.due("stopped "+name+" "+partition, personInterval) {
		return
	}
	at := p.stopped[0].Stopped
	for _, piece := range p.stopped {
		at = min(at, piece.Stopped)
	}
	p.log.Error("the projection is stopped at an event that could not be handled, and its slots wait until a person decides; orchestrator_dead_letters has the error",
		"position", at, "all_slots", len(p.pieces) == 0,
		"remedy", "repair the handler, then UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1 WHERE projection = '"+name+"'; docs/errors.md says how to skip the event")
}

// lookAtStopped looks at the checkpoints now and then while some are stopped: a person may have them resume.
func (p *processor) lookAtStopped(ctx context.Context) (changed bool, err error) {
	if len(p.stopped) == 0 {
		return false, nil
	}
	if changed, err = p.look(ctx); err == nil && !changed {
		p.noticeStopped()
	}
	return changed, err
}
