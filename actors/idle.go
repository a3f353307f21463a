package actors

import (
	"fmt"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
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

// wasIdle says whether the batch, which had taken so long, was ended because its handler had sent nothing for too long, and gives
// the next one more time. The server's message may be lost with the connection.
func (p *processor) wasIdle(err error, took time.Duration) bool {
	idle := p.idleTimeout()
	more, ok := batchtx.MoreIdle(idle)
	if !ok || !batchtx.MayBeIdleEnd(err, took, idle) {
		return false
	}
	p.worker.idle.raise(p.fence.Projection, more)
	p.log.Warn("a handler sent no statement for too long, so the server ended its transaction and the batch is repeated; it gets more time",
		"error", err, "idle_timeout", idle, "next_idle_timeout", more)
	return true
}

// explained says what ended the batch where the server's error does not.
func (p *processor) explained(err error) error {
	if !batchtx.IsIdleEnd(err) {
		return err
	}
	return fmt.Errorf("the handler sent no statement for longer than idle_in_transaction_session_timeout (the worker gives it %s), "+
		"so the server ended its transaction; a handler that takes so long for one event should do that work elsewhere: %w", p.idleTimeout(), err)
}
