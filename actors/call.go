package actors

import (
	"context"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// call is one call of a projection's handlers, for the events of a batch. It runs on a
// goroutine of its own, which uses nothing of the processor's that may change: the call
// may outlive the processor.
type call struct {
	done    chan struct{} // closed when the handlers have returned
	handled int
	err     error
	first   time.Duration // what the first event took, unless they are handled as a whole
}

// acquire waits until the processor may begin a batch.
func (p *processor) acquire(ctx context.Context) (release func(), err error) {
	p.loop.Rest()
	defer p.endRound()
	return p.worker.acquireBatch(ctx, p.fence.Projection)
}

// lastWait is how long an abandoned call has to return after its connection was closed.
const lastWait = 50 * time.Millisecond

// call has the batch's events handled. It returns nil if the handlers did not return
// within the grace after their context had ended: the batch is rolled back then, and the
// worker knows of the handler that it has abandoned.
func (p *processor) call(ctx context.Context, b *pgcoord.Batch, events packed.Events) *call {
	return p.callAs(ctx, b, events, p.handler, p.delivery(), p.policy.Timeout, p.worker.Batch.Time)
}

// callAs is call with a handler in place of the projection's own, with a delivery, where each call of the handler may take timeout, unless that is 0, and for
// about limit in all.
func (p *processor) callAs(
	ctx context.Context, b *pgcoord.Batch, events packed.Events, handler handling.Projection, d projection.Delivery, timeout, limit time.Duration,
) *call {
	c, run, began := &call{done: make(chan struct{})}, p.run, time.Now()
	watch := p.worker.handlers.watch(p, events)
	p.loop.Rest()
	defer p.endRound()
	ctx = handling.WithDelivery(ctx, d)
	tx := b.Tx()
	go func() {
		defer close(c.done)
		c.handled, c.err = handling.HandleWithin(ctx, timeout, handler, tx, events, func(i int) bool {
			watch.at(i)
			if i == 1 {
				c.first = time.Since(began)
			}
			return run.soft.Err() == nil && (i == 0 || time.Since(began) < limit)
		})
		if c.handled == 1 {
			c.first = time.Since(began)
		}
	}()
	select {
	case <-c.done:
		watch.end()
		return c
	case <-run.abandon.Done():
	}
	select {
	case <-c.done:
		watch.end()
		return c
	default:
	}
	closeConnection := b.Abandon(p.worker.Pool)
	select {
	case <-c.done:
		closeConnection()
		watch.end()
		p.log.Warn("a handler returned only when its connection was closed; what it did is rolled back", "error", c.err)
		return nil
	case <-time.After(lastWait):
	}
	watch.abandon()
	go func() {
		<-c.done
		closeConnection()
		watch.returned(c.err)
	}()
	return nil
}
