package actors

import (
	"context"
	"errors"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// batch handles events at hand in one transaction: as many as it may, until
// they took long enough, or it is to stop.
func (p *processor) batch(ctx context.Context) (next, error) {
	leave, err := p.queue()
	if err != nil {
		return p.notBegun(err)
	}
	defer leave()
	release, err := p.worker.acquireBatch(ctx, p.fence.Projection)
	if err != nil {
		return next{}, err
	}
	defer release()
	events, upTo := p.head()
	b, err := p.beginInTurn(ctx, upTo)
	if err != nil {
		return p.notBegun(err)
	}
	defer b.Rollback(ctx) // does nothing unless something below panics
	began := time.Now()
	call := p.call(ctx, b, events)
	if call == nil {
		return next{}, nil // abandoned; it is stopping
	}
	handled, handlerErr := call.handled, call.err
	if handlerErr != nil || handled == 0 {
		return p.rolledBack(ctx, b, events, handled, handlerErr, time.Since(began))
	}
	if handled < events.Len() {
		upTo = events.Position(handled - 1)
	}
	recovered := p.recordIn(b, events.Slice(0, handled))
	if err := p.commit(ctx, b, upTo); err != nil {
		switch {
		case errors.Is(err, pgcoord.ErrNoRecord) && b.Alive():
			p.failing.apart = true
			return next{more: true}, nil
		case ctx.Err() != nil:
		case batchtx.IsConflict(err):
			return p.conflicted(ctx, events.Slice(0, handled), err), nil
		case p.wasIdle(err, time.Since(began)):
			return next{more: true}, nil
		case p.blames(err, batchtx.IsOfCommit(err)):
			return p.commitFailed(ctx, events.Slice(0, handled), p.explained(err)), nil
		}
		return next{}, err
	}
	p.turns.conflicts = 0
	p.recordLater(b, recovered)
	p.succeeded(ctx, handled, events.Len(), time.Since(began))
	return next{more: true}, nil
}

// notBegun decides what follows where no batch was begun.
func (p *processor) notBegun(err error) (next, error) {
	stopping := p.run.soft.Err() != nil
	switch {
	case stopping:
		return next{}, nil //nolint:nilerr // what failed because it is stopping is no failure
	case errors.Is(err, pgcoord.ErrTurn):
		return p.noTurn(), nil
	}
	return next{}, err
}

// rolledBack rolls back a batch whose handler failed, or handled nothing since it is to stop, and decides what follows.
func (p *processor) rolledBack(ctx context.Context, b *pgcoord.Batch, events packed.Events, handled int, handlerErr error, took time.Duration) (next, error) {
	// A context of the handler's own that ended closes the connection too.
	alive, conflict := b.Alive(), b.Conflict(handlerErr)
	b.Rollback(ctx)
	stopping := handlerErr == nil || ctx.Err() != nil
	switch {
	case stopping:
		return next{}, nil
	case conflict:
		return p.conflicted(ctx, events, handlerErr), nil
	case !alive && p.wasIdle(b.Cause(handlerErr), took):
		return next{more: true}, nil
	}
	ownTime := errors.Is(handlerErr, context.DeadlineExceeded) || errors.Is(handlerErr, context.Canceled)
	if !alive && !ownTime && !p.blames(handlerErr, true) {
		return next{}, handlerErr
	}
	return p.handlerFailed(ctx, events, handled, p.explained(handlerErr)), nil
}

// brokenMost is how many batches in a row may lose their connection before the
// events are blamed for it.
const brokenMost = 3

// blames says whether an error that came with a lost connection, or at COMMIT, is
// the handlers' doing rather than the database's: a constraint that is checked at
// COMMIT, a transaction that a handler ended, made read-only or let idle for too long, or what
// breaks again and again. ofHandlers says that the error may speak of what they wrote, rather than of the worker's own statements.
func (p *processor) blames(err error, ofHandlers bool) bool {
	for _, doing := range []error{batchtx.ErrOwner, batchtx.ErrReadOnly, batchtx.ErrRows} {
		if errors.Is(err, doing) {
			return true
		}
	}
	if ofHandlers && dbfault.Code(err) != "" && !ofDatabase(err) {
		return true
	}
	p.broken++
	return p.broken >= brokenMost
}

// ofDatabase says whether the database's answer speaks of the server or of concurrency
// rather than of the statement.
func ofDatabase(err error) bool {
	return dbfault.HasClass(err, "08", "40", "53", "57", "58", "XX") || dbguard.IsStandby(err)
}

// delivery is what handlers are told of the worker that calls them.
func (p *processor) delivery() projection.Delivery {
	return projection.Delivery{
		ReplicaSet: p.worker.Store.ReplicaSet(), Worker: p.fence.Worker, Generation: p.fence.Generation,
		PartitionKey: p.fence.Partition.Key, TotalPartitions: p.fence.Partition.Total,
	}
}

// head is the events of the next batch, and the position that it reaches.
func (p *processor) head() (packed.Events, int64) {
	first := p.supply.pages[0]
	if p.size.next < first.events.Len() {
		return first.events.Slice(0, p.size.next), first.events.Position(p.size.next - 1)
	}
	return first.events, first.upTo
}

// begin opens a batch's transaction, which holds the checkpoints below upTo.
func (p *processor) begin(ctx context.Context, upTo int64) (*pgcoord.Batch, error) {
	ctx, explain, cancel := p.worker.db.Limit(ctx)
	defer cancel()
	b, err := p.worker.Store.BeginBatch(ctx, p.worker.db, p.fence, p.pieces, upTo, p.worker.Batch.Settings)
	return b, explain(err)
}

// commitTimeout bounds a commit; it goes on when the handlers' time is over,
// since what they did is done.
const commitTimeout = 10 * time.Second

// commit commits what was handled up to and including handled.
func (p *processor) commit(ctx context.Context, b *pgcoord.Batch, handled int64) error {
	ctx, explain, cancel := p.worker.db.Limit(context.WithoutCancel(ctx))
	defer cancel()
	if err := explain(b.Commit(ctx, handled)); err != nil {
		p.known = false // the commit may have happened
		return err
	}
	p.pieces = slot.Lift(p.pieces, handled)
	p.worker.positions.believe(p.fence, p.pieces)
	p.readTo = max(p.readTo, handled)
	p.trouble, p.broken = 0, 0
	p.showPosition()
	return nil
}

// succeeded drops what was committed and lets the next batch be larger, or
// smaller if this one was cut.
func (p *processor) succeeded(ctx context.Context, handled, offered int, took time.Duration) {
	name, m := p.fence.Projection, p.worker.Metrics
	m.EventsHandled(name, handled)
	m.Batch(name, handled, took)
	last := p.supply.pages[0].events.Position(handled - 1)
	p.supply.handled(handled)
	p.size.learn(handled, offered, took)
	if p.failing.position != 0 && last >= p.failing.position {
		p.recovered()
	}
	p.settleFailures(ctx)
}

// commitFailed arranges for the event to be found that makes COMMIT fail.
func (p *processor) commitFailed(ctx context.Context, events packed.Events, err error) next {
	if events.Len() == 1 {
		return p.handlerFailed(ctx, events, 0, err)
	}
	p.halve(events, err)
	return next{more: true}
}

// halve makes the next batch half as large as one that failed as a whole.
func (p *processor) halve(events packed.Events, err error) {
	p.size.next = events.Len() / 2
	p.log.Warn("a batch failed, trying a smaller one", "error", err, "events", events.Len(),
		"first_position", events.Position(0), "last_position", events.Position(events.Len()-1))
}

// atFailing says whether the next event is the one that failed.
func (p *processor) atFailing() bool {
	first, ok := p.supply.first()
	return ok && p.failing.position != 0 && first.events.Len() > 0 && first.events.Position(0) == p.failing.position
}

// handlerFailed arranges for what came before the failing event to be committed
// first, and for the event to be retried. A batch of which only the whole is
// known to fail is halved until one event is left.
func (p *processor) handlerFailed(ctx context.Context, events packed.Events, handled int, err error) next {
	if errors.Is(err, batchtx.ErrOwner) {
		p.known = false // the handler has ended the transaction itself
	}
	if _, whole := p.handler.(handling.BatchHandler); whole && events.Len() > 1 {
		p.halve(events, err)
		return next{more: true}
	}
	event := events.At(handled)
	if p.failing.position != event.GlobalPosition {
		p.failing.position, p.failing.attempts, p.failing.tries, p.failing.panicked = event.GlobalPosition, 0, 0, ""
	}
	p.failing.unsettled = max(p.failing.unsettled, event.GlobalPosition)
	p.failing.attempts++ // also where the table cannot be reached
	p.failing.tries++
	delay := dbfault.Backoff{First: p.worker.Batch.RetryFirst, Max: p.worker.Batch.RetryMax}.After(p.failing.tries)
	p.failing.resume = time.Now().Add(delay)
	p.size.next = max(handled, 1)
	p.report(ctx, event, delay, err)
	return next{more: true}
}
