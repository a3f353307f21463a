package orchestrator

import (
	"sync"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// presence tells the waits of this process whether a call of Run runs its projections or is about to. While the worker
// is drained it does not count, so a wait fails if no other worker runs the projection.
type presence struct {
	waits *waiting.Hub
	names []string // of the projections

	mu    sync.Mutex
	leave func() // nil while it does not count
	over  bool   // Run has returned
}

// newPresence returns a presence that counts.
func newPresence(waits *waiting.Hub, names []string) *presence {
	p := &presence{waits: waits, names: names}
	p.drained(false)
	return p
}

// drained records whether somebody has drained the worker.
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

// end makes the presence stop counting.
func (p *presence) end() {
	p.drained(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}
