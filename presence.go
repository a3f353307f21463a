package orchestrator

import (
	"sync"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// presence is whether a call of Run counts as one that runs its projections, or is about to, for those who wait in this process. While the worker is drained
// it does not, so that a wait for what nobody else runs fails.
type presence struct {
	waits *waiting.Hub
	names []string // of the projections

	mu    sync.Mutex
	leave func() // nil while it does not count
	over  bool   // Run has returned
}

// newPresence begins to count.
func newPresence(waits *waiting.Hub, names []string) *presence {
	p := &presence{waits: waits, names: names}
	p.drained(false)
	return p
}

// drained takes note of whether somebody has drained the worker.
func (p *presence) drained(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
	case !is && p.leave == nil:
		p.leave = p.waits.Runs(p.names)
	case is && p.leave != nil:
		p.leave()
		p.leave = nil
	}
}

// end ends the count.
func (p *presence) end() {
	p.drained(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}
