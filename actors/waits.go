package actors

import (
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// Somebody may wait until the projection has handled an event: see package waiting.

// waits is what a processor knows of those who wait for its projection.
type waits struct {
	flusher *waiting.Flusher
	asked   *atomic.Bool // a flushWanted is on its way
	until   time.Time    // the checkpoint must not stay behind
}

// flushWanted says that somebody waits for the projection.
type flushWanted struct{}

// flushAtOnce is how far the checkpoint may stay behind, in time, while somebody waits.
const flushAtOnce = 10 * time.Millisecond

// awaitWaits has the processor told when somebody waits for the projection. It has one such message in its mailbox at most.
func (p *processor) awaitWaits(c actor.Context) {
	root, self, asked := c.ActorSystem().Root, c.Self(), new(atomic.Bool)
	p.waits.asked = asked
	p.waits.flusher = p.worker.Waits.Flushes(p.fence.Projection, func() {
		if asked.CompareAndSwap(false, true) {
			root.Send(self, &flushWanted{})
		}
	})
}

// tellUnwritten tells whether the checkpoint stays behind, where no notification says that somebody waits.
func (p *processor) tellUnwritten() {
	if p.worker.Connect == nil {
		p.worker.Waits.Unwritten(p.waits.flusher, p.behind() > 0)
	}
}

// waited writes down how far the processor is, and goes on to do so for a while.
func (p *processor) waited(c actor.Context) {
	p.waits.asked.Store(false)
	p.waits.until = time.Now().Add(waiting.FlushFor)
	stopTimers(p.flush)
	p.flush, p.flushSoon = nil, true
	p.proceed(c)
}

// manyFlush is how many partitions of a projection are many.
const manyFlush = 16

// flushAfter is how far the checkpoint may stay behind, in time, while nothing is in scope. It is twice as far if the projection has many partitions, which
// would all write for one event of one of them.
func (p *processor) flushAfter() time.Duration {
	after := p.worker.Batch.FlushAfter
	if time.Now().Before(p.waits.until) {
		return min(flushAtOnce, after)
	}
	if p.fence.Partition.Total >= manyFlush {
		return 2 * after
	}
	return after
}

// flushIn is when the checkpoint is to be written though nothing was in scope: so long after it was last written, or from now on if that was before.
func (p *processor) flushIn() time.Duration {
	after := p.flushAfter()
	if rest := after - time.Since(p.committed); rest > 0 {
		return rest
	}
	return after
}

// tellWaits tells those who wait what was committed. What an error policy has put aside, or stopped at, they look up.
func (p *processor) tellWaits(began time.Time) {
	plain := len(p.parked) == 0 && p.failing.outcome == handling.Retry
	p.worker.Waits.Committed(p.fence.Projection, p.pieces, plain, began)
}

// tellHandled reports the committed events to the function that counts them.
func (p *processor) tellHandled(events, letters int) {
	if p.worker.Handled != nil {
		p.worker.Handled(p.fence.Projection, events, letters)
	}
}
