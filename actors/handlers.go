package actors

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// handlers knows which handlers are running, for the one question that cannot
// be asked of an actor whose handler does not return: where is it? It is the
// only thing that a worker's actors share; nothing is decided by it.
type handlers struct {
	every time.Duration // how often a handler that does not return is logged

	mu     sync.Mutex
	active map[*handlerWatch]struct{}
}

func newHandlers(every time.Duration) *handlers {
	return &handlers{every: every, active: map[*handlerWatch]struct{}{}}
}

// handlerWatch is one batch whose handlers are running.
type handlerWatch struct {
	all     *handlers
	log     *slog.Logger
	fence   pgcoord.Fence
	events  packed.Events
	began   time.Time
	current atomic.Int64 // index of the event that is being handled
	ended   atomic.Bool
	timer   *time.Timer
}

// watch begins to watch a batch; the caller must call end.
func (h *handlers) watch(p *processor, events packed.Events) *handlerWatch {
	w := &handlerWatch{all: h, log: p.log, fence: p.fence, events: events, began: time.Now()}
	h.mu.Lock()
	h.active[w] = struct{}{}
	w.timer = time.AfterFunc(h.every, w.complain)
	h.mu.Unlock()
	return w
}

// at says that event i is being handled.
func (w *handlerWatch) at(i int) { w.current.Store(int64(i)) }

// end says that the handlers have returned.
func (w *handlerWatch) end() {
	w.ended.Store(true)
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	w.timer.Stop()
	delete(w.all.active, w)
}

// complain logs the event that the handler is at, and does so again.
func (w *handlerWatch) complain() {
	w.all.mu.Lock()
	defer w.all.mu.Unlock()
	if w.ended.Load() {
		return
	}
	event := w.events.At(int(w.current.Load()))
	w.log.Warn("a handler does not return", "event_id", event.EventID, "event_type", event.EventType,
		"position", event.GlobalPosition, "running_for", time.Since(w.began))
	w.timer.Reset(w.all.every)
}

// running describes the handlers that have not returned.
func (h *handlers) running() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var texts []string
	for w := range h.active {
		event := w.events.At(int(w.current.Load()))
		texts = append(texts, fmt.Sprintf("%s at event %s, position %d, for %s",
			w.fence, event.EventID, event.GlobalPosition, time.Since(w.began).Round(time.Millisecond)))
	}
	return texts
}
