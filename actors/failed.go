package actors

import (
	"context"
	"errors"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// policy says what follows when an event has failed.
func (p *processor) policy() handling.Policy {
	return handling.Policy{Backoff: dbfault.Backoff{First: p.worker.Batch.RetryFirst, Max: p.worker.Batch.RetryMax}}
}

// decide does what follows a batch that was not committed. The error is the database's.
func (p *processor) decide(ctx context.Context, events packed.Events, f handling.Failure) (next, error) {
	f.Events, f.Position, f.Idle = events.Len(), events.Position(f.Handled), p.idleTimeout()
	if errors.Is(f.Err, batchtx.ErrOwner) {
		p.known = false // the handler has ended the transaction itself
	}
	var d handling.Decision
	p.failures, d = handling.Decide(p.policy(), p.failures, f)
	switch d.Verdict {
	case handling.Conflict:
		return p.conflicted(ctx, events, d.Err), nil
	case handling.Idle:
		p.giveMoreIdle(d)
	case handling.Smaller:
		p.size.next = d.Size
		p.log.Warn("a batch failed, trying a smaller one", "error", d.Err, "events", events.Len(),
			"first_position", events.Position(0), "last_position", events.Position(events.Len()-1))
	case handling.EventFailed:
		p.eventFailed(ctx, events, d)
	case handling.Database:
		return next{}, d.Err
	}
	return next{more: true}, nil
}

// eventFailed arranges for what came before the failing event to be committed
// first, and for the event to be retried.
func (p *processor) eventFailed(ctx context.Context, events packed.Events, d handling.Decision) {
	event := events.At(d.Event)
	if p.failing.position != event.GlobalPosition {
		p.failing.position, p.failing.attempts, p.failing.panicked = event.GlobalPosition, 0, ""
	}
	p.failing.unsettled = max(p.failing.unsettled, event.GlobalPosition)
	p.failing.attempts++ // also where the table cannot be reached
	p.failing.resume = time.Now().Add(d.Delay)
	p.size.next = d.Size
	p.report(ctx, event, d.Delay, d.Err)
}
