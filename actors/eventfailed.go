package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A handler has failed, or its batch's commit. handling.Decide says what that means; here its decision is carried out. Where an event has failed, the processor
// notes it in failing. What the error policy says of it is performed in outcome.go, when the event is the next one. What is wrong with the database, and no
// event's failure, is logged in databasefailed.go.

// failing is the event that a handler fails on.
type failing struct {
	position int64     // 0: no event fails
	attempts int       // as the table counts them, over restarts
	retryAt  time.Time // not before
	panicked string    // the panic whose stack was logged last
	text     string    // its last error

	kind, frame string // of its last error: which failures are like it
	of          replicaset.Aggregate

	outcome handling.Outcome    // what the policy says of it
	last    *projection.Failure // the latest failure, for the hook; nil before the first

	unsettled   int64     // highest position of an event that failed and must still be handled; 0: no such event
	unknown     bool      // unsettled must be read from the table first
	apart       bool      // batches cannot record what they handle
	recordAgain time.Time // until when the record is left alone, after it could not be read or written
}

// decide does what follows a batch that was not committed. The error is the database's.
func (p *processor) decide(ctx context.Context, q portion, f handling.Failure) (next, error) {
	events := q.handle
	n := next{more: true}
	f.Events, f.Position, f.Idle = events.Len(), events.Position(f.Handled), p.idleTimeout()
	if errors.Is(f.Err, batchtx.ErrOwner) {
		p.known = false // the handler has ended the transaction itself
	}
	var d handling.Decision
	p.failures, d = handling.Decide(p.policy, p.failures, f)
	switch d.Verdict {
	case handling.Conflict:
		return p.conflicted(ctx, events, d.Err), nil
	case handling.Idle:
		p.giveMoreIdle(d)
	case handling.Smaller:
		p.size.next = max(1, before(q.all, events.Position(d.Size)))
		p.size.again = time.Now().Add(d.Delay)
		p.log.Warn("a batch failed, trying a smaller one", "error", handling.Abridged(fmt.Sprint(d.Err)), "events", events.Len(),
			"first_position", events.Position(0), "last_position", events.Position(events.Len()-1))
	case handling.EventFailed:
		p.eventFailed(ctx, q, d)
	case handling.Database:
		if d.Size > 0 {
			p.size.next = max(1, before(q.all, events.Position(d.Size)))
		}
		if d.Delay > 0 {
			p.size.again = time.Now().Add(d.Delay)
		}
		return next{}, d.Err
	}
	return n, nil
}

// eventFailed arranges for what came before the failing event to be committed
// first, and for the event to be retried, or for its outcome.
func (p *processor) eventFailed(ctx context.Context, q portion, d handling.Decision) {
	event, now := q.handle.At(d.Event), time.Now()
	if p.failing.position != event.GlobalPosition {
		p.failing.position, p.failing.attempts, p.failing.panicked = event.GlobalPosition, 0, ""
	}
	p.failing.unsettled = max(p.failing.unsettled, event.GlobalPosition)
	p.failing.attempts++ // also where the table cannot be reached
	p.failing.text = handling.Abridged(fmt.Sprint(d.Err))
	p.failing.kind, p.failing.frame = handling.Alike(d.Err, p.handler)
	p.size.next = max(1, before(q.all, event.GlobalPosition))
	p.failing.of = replicaset.Aggregate{BoundedContext: strings.Clone(event.BoundedContext), Type: strings.Clone(event.AggregateType), ID: strings.Clone(event.AggregateID)}
	p.recordAttempt(ctx, event)
	if d.Outcome == handling.Retry {
		if outcome, _ := p.policy.After(p.failing.attempts, d.Class); outcome != handling.Retry {
			d.Outcome, d.Delay = outcome, 0 // other workers have tried it too
		}
	}
	p.failing.outcome, p.failing.retryAt = d.Outcome, now.Add(d.Delay)
	p.failing.last = p.failureOf(event, d)
	p.report(event, d)
	p.worker.Metrics.Failure(p.fence.Projection, d.Class.String(), d.Outcome.String())
	if d.Outcome == handling.Retry {
		p.tellFailed(p.failing.last)
	}
}

// changedSince says whether the failed event must be handed to its handler again because somebody has changed the checkpoints. That is so if they were
// set back, or if their revision was raised before the event's outcome was committed.
func (p *processor) changedSince(now []slot.Piece) bool {
	before := p.rows()
	return slot.IsSetBack(now, before) || p.failing.outcome != handling.Retry && isRevised(now, before)
}

// forgetFailing drops what is known of the event that failed. The table counts its attempts.
func (p *processor) forgetFailing() {
	p.failures = handling.State{}
	if p.failing.position != 0 {
		p.notRetrying()
	}
}
