package actors

import (
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// A batch's transaction ends on the server if nothing is sent in it for BatchConfig.Settings.IdleTimeout. The bound frees the rows of a worker
// that is frozen. A handler that only computes, or waits for another system, looks the same to the server. So where a batch was
// ended by it, the projection's later batches on this worker get more time, up to batchtx.MoreIdle's bound.

// idleTimes is the idle timeouts that a worker's projections were found to need. It outlives the processors.
type idleTimes struct {
	mu    sync.Mutex
	found map[string]time.Duration
}

// of is the idle timeout of a projection, at least that of the settings.
func (t *idleTimes) of(projection string, settings time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(settings, t.found[projection])
}

// raise remembers that a projection needs so long.
func (t *idleTimes) raise(projection string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		t.found = map[string]time.Duration{}
	}
	t.found[projection] = max(d, t.found[projection])
}

// idleTimeout is the idle timeout of the next batch.
func (p *processor) idleTimeout() time.Duration {
	return p.worker.idle.of(p.fence.Projection, p.worker.Batch.Settings.IdleTimeout)
}

// giveMoreIdle gives the next batch more time, after one was ended because its handler had sent nothing for too long.
func (p *processor) giveMoreIdle(d handling.Decision) {
	idle := p.idleTimeout()
	p.worker.idle.raise(p.fence.Projection, d.Idle)
	p.log.Warn("a handler sent no statement for too long, so the server ended its transaction and the batch is repeated; it gets more time",
		"error", d.Err, "idle_timeout", idle, "next_idle_timeout", d.Idle)
}
