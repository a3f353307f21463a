package actors

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// batch handles events at hand in one transaction: as many as it may, until
// they took long enough, or it is to stop.
func (p *processor) batch(ctx context.Context) (next, error) {
	leave, err := p.queue(ctx)
	if err != nil {
		return p.notBegun(err)
	}
	defer leave()
	release, err := p.acquire(ctx)
	if err != nil {
		return next{}, err
	}
	defer release()
	q := p.portion()
	if q.full {
		p.stopFull(q.all.At(0))
		return next{more: true}, nil
	}
	events, upTo := q.handle, q.upTo
	b, err := p.beginInTurn(ctx, p.pieces, upTo)
	if err != nil {
		return p.notBegun(err)
	}
	defer b.Rollback(ctx) // does nothing unless something below panics
	began, handled := time.Now(), 0
	var end ending
	trace := ""
	if events.Len() > 0 {
		within, span := p.startSpan(ctx, events)
		defer func() { span.End(end.committed, end.err) }()
		trace = tracing.SampledTrace(within)
		call := p.callWatched(within, b, events)
		if call == nil {
			end.err = tracing.ErrAbandoned
			return next{}, nil // abandoned; it is stopping
		}
		if handled = call.handled; call.err != nil || handled == 0 {
			end.err = call.err
			return p.rolledBack(ctx, b, q, handled, call.err, time.Since(began))
		}
	}
	offered := q.all.Len()
	q = q.upToHandled(handled)
	upTo = q.upTo
	b.PutAside(q.aside)
	recovered := p.recordIn(b, q.handle)
	if err := p.commit(ctx, b, upTo); err != nil {
		end.err = err
		return p.notCommitted(ctx, b, q, err, time.Since(began))
	}
	end.committed = q.handle.Len()
	p.turns.conflicts = 0
	p.recordLater(b, recovered)
	p.setAside(q.aside)
	p.succeeded(ctx, q, offered, time.Since(began), trace)
	return next{more: true}, nil
}

// notCommitted decides what follows a batch whose commit failed with err, some time after it began.
func (p *processor) notCommitted(ctx context.Context, b *pgcoord.Batch, q portion, err error, took time.Duration) (next, error) {
	switch {
	case errors.Is(err, pgcoord.ErrNoRecord) && b.Alive():
		p.failing.apart = true
		return next{more: true}, nil
	case ctx.Err() != nil || q.handle.Len() == 0:
		return next{}, err
	}
	return p.decide(ctx, q, handling.Failure{Err: err, AtCommit: true, Lost: !b.Alive(), Took: took})
}

// ending is how a batch has ended, for its span.
type ending struct {
	committed int
	err       error
}

// startSpan begins the span of a batch.
func (p *processor) startSpan(ctx context.Context, events packed.Events) (context.Context, *tracing.Span) {
	w := p.worker
	if w.Tracer == nil {
		return ctx, nil
	}
	table := w.EventStore.EventsTable()
	return w.Tracer.Start(ctx, tracing.Batch{
		EventsTable: table[len(table)-1], Projection: p.fence.Projection, ReplicaSet: w.Store.ReplicaSet(),
		Partition: p.fence.Partition.String(), Worker: p.fence.Worker.String(), Generation: p.fence.Generation,
	}, events)
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
func (p *processor) rolledBack(ctx context.Context, b *pgcoord.Batch, q portion, handled int, handlerErr error, took time.Duration) (next, error) {
	// A context of the handler's own that ended closes the connection too.
	alive, conflict := b.Alive(), b.Conflict(handlerErr)
	b.Rollback(ctx)
	if stopping := handlerErr == nil || ctx.Err() != nil; stopping {
		return next{}, nil
	}
	return p.decide(ctx, q, handling.Failure{
		Err: handlerErr, Cause: b.Cause(), Conflict: conflict, Lost: !alive, Took: took, Handled: handled, Whole: p.wholeBatches(),
	})
}

// wholeBatches says whether the projection handles whole batches.
func (p *processor) wholeBatches() bool {
	_, whole := p.handler.(handling.BatchHandler)
	return whole
}

// delivery is what handlers are told of the worker that calls them.
func (p *processor) delivery() projection.Delivery {
	return projection.Delivery{
		ReplicaSet: p.worker.Store.ReplicaSet(), Worker: p.fence.Worker, Generation: p.fence.Generation,
		PartitionKey: p.fence.Partition.Key, TotalPartitions: p.fence.Partition.Total,
		Replay: p.succession.replay,
	}
}

// head is the events of the next batch, and the position that it reaches.
func (p *processor) head() (packed.Events, int64) {
	first, limit := p.buffer.pages[0], slot.Ceiling(p.pieces)
	events, upTo := first.events, first.upTo
	if upTo > limit {
		events, upTo = events.Slice(0, before(events, limit+1)), limit
	}
	if p.size.next < events.Len() {
		return events.Slice(0, p.size.next), events.Position(p.size.next - 1)
	}
	return events, upTo
}

// begin opens a batch's transaction, which holds the checkpoints below upTo.
func (p *processor) begin(ctx context.Context, upTo int64) (*pgcoord.Batch, error) {
	settings := p.worker.Batch.Settings
	ctx, lockWait, explain, cancel := p.limitLocks(ctx)
	defer cancel()
	settings.LockWait = lockWait
	b, err := p.worker.Store.BeginBatch(ctx, p.worker.db, p.fence, p.pieces, upTo, settings)
	return b, explain(err)
}

// commitTimeout bounds a commit; it goes on when the handlers' time is over,
// since what they did is done.
const commitTimeout = 10 * time.Second

// commit commits what was handled up to and including handled.
func (p *processor) commit(ctx context.Context, b *pgcoord.Batch, handled int64) error {
	ctx, explain, cancel := p.worker.db.Limit(context.WithoutCancel(ctx))
	defer cancel()
	began := time.Now()
	if err := explain(b.Commit(ctx, handled)); err != nil {
		p.known = false // the commit may have happened
		return err
	}
	p.pieces, p.committed, p.moved = slot.Advance(p.pieces, handled), began, 0
	p.tellWaits(began)
	if slices.ContainsFunc(p.pieces, slot.Piece.Rests) {
		p.known = false // to divide them again
	}
	p.worker.positions.believe(p.fence, p.rows())
	p.readTo = max(p.readTo, handled)
	p.databaseFailures, p.failures = 0, p.failures.Committed(handled)
	p.showPosition()
	return nil
}

// succeeded drops what was committed and lets the next batch be larger, or
// smaller if this one was cut.
func (p *processor) succeeded(ctx context.Context, q portion, offered int, took time.Duration, trace string) {
	name, m, handled := p.fence.Projection, p.worker.Metrics, q.all.Len()
	m.EventsHandled(name, q.handle.Len())
	p.tellHandled(q.handle.Len(), q.aside.Len())
	m.Batch(name, q.handle.Len(), took, trace)
	last := q.all.Position(handled - 1)
	p.buffer.handled(handled)
	p.size.learn(handled, offered, took)
	if p.failing.position != 0 && last >= p.failing.position {
		p.recovered()
	}
	p.settleFailures(ctx)
}

// atFailing says whether the next event is the one that failed.
func (p *processor) atFailing() bool {
	first, ok := p.buffer.first()
	return ok && p.failing.position != 0 && first.events.Len() > 0 && first.events.Position(0) == p.failing.position
}
