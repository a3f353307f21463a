package actors

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Handlers records which handlers are running. An actor cannot answer for a handler that does not return, or that has
// outlived the actor. Handlers then says where it runs and whether it has returned. The other state that the worker's
// actors share is in fields of worker (config.go): positions, notices, late records, turns, and the share of the places
// for batches.
type Handlers struct {
	every   time.Duration // how often a handler that does not return is logged
	metrics *measure.ReplicaSet
	// pause is how long a projection is still left out after an abandoned handler of it
	// has returned. The first time it is not: only handlers that hang again and again
	// would otherwise cause one change of generation after the other.
	pause dbfault.Backoff

	mu        sync.Mutex
	active    map[*handlerWatch]struct{}
	abandoned map[*handlerWatch]replicaset.AbandonedHandler // until the pause after their return is over
	past      map[string]*crashes                           // when handlers were abandoned, by projection
	changed   func()                                        // abandoned has changed; may be nil
}

// abandonedWindow is for how long an abandoned handler counts for the next one's pause.
const abandonedWindow = 10 * time.Minute

// NewHandlers makes an empty record. It logs a handler that does not return each time that every has passed. m may be
// nil.
func NewHandlers(every time.Duration, m *measure.ReplicaSet) *Handlers {
	return &Handlers{
		every: every, metrics: m, pause: dbfault.Backoff{First: 5 * time.Second, Max: time.Minute},
		active: map[*handlerWatch]struct{}{}, abandoned: map[*handlerWatch]replicaset.AbandonedHandler{}, past: map[string]*crashes{},
	}
}

// handlerWatch is one batch whose handlers are running.
type handlerWatch struct {
	all     *Handlers
	log     *slog.Logger
	fence   pgcoord.Fence
	events  packed.Events
	began   time.Time
	current atomic.Int64 // index of the event that is being handled
	ended   atomic.Bool
	timer   *time.Timer
	pause   time.Duration // of an abandoned one, after its return
	hangs   bool          // it was logged; under the mutex of all
}

// watch begins to watch a batch; the caller must call end, or abandon and returned.
func (h *Handlers) watch(p *processor, events packed.Events) *handlerWatch {
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
	if w.hangs {
		w.all.countHanging(w.fence.Projection)
	}
}

// abandon says that the handlers are not waited for any longer. From then on the
// projection is left out until they have returned.
func (w *handlerWatch) abandon() {
	h, name, event := w.all, w.fence.Projection, w.events.At(int(w.current.Load()))
	h.mu.Lock()
	h.abandoned[w] = replicaset.AbandonedHandler{
		Projection: name, Partition: w.fence.Partition, Generation: w.fence.Generation,
		Position: event.GlobalPosition, EventID: event.EventID,
	}
	if h.past[name] == nil {
		h.past[name] = &crashes{window: abandonedWindow}
	}
	if times := h.past[name].add(time.Now()); times > 1 {
		w.pause = h.pause.After(times - 1)
	}
	h.count(name)
	h.mu.Unlock()
	w.log.Error("a handler does not return and was abandoned: what it did is rolled back, and this worker takes no partition of its projection until it returns; "+
		"repair the handler so that it returns when its context ends, and restart this process to end it",
		"event_id", event.EventID, "event_type", event.EventType, "position", event.GlobalPosition, "running_for", time.Since(w.began))
	h.tell()
}

// returned says that the handlers, which were abandoned, have returned with err. Nothing
// of what they did is committed.
func (w *handlerWatch) returned(err error) {
	w.end()
	h := w.all
	h.mu.Lock()
	h.count(w.fence.Projection)
	h.mu.Unlock()
	attrs := []any{"position", h.position(w), "running_for", time.Since(w.began), "left_out_for", w.pause}
	if err != nil {
		attrs = append(attrs, "error", handling.Abridged(fmt.Sprint(err)))
	}
	if panicked, ok := errors.AsType[*handling.PanicError](err); ok {
		attrs = append(attrs, "stack", string(panicked.Stack))
	}
	w.log.Warn("a handler that was abandoned has returned; what it did is rolled back", attrs...)
	if w.pause <= 0 {
		w.forgive()
		return
	}
	time.AfterFunc(w.pause, w.forgive)
}

// forgive says that the worker takes part in the projection again, unless another handler
// of it is abandoned.
func (w *handlerWatch) forgive() {
	w.all.mu.Lock()
	delete(w.all.abandoned, w)
	w.all.mu.Unlock()
	w.all.tell()
}

// count sets the metric of a projection. The caller holds the mutex.
func (h *Handlers) count(name string) {
	n := 0
	for w := range h.abandoned {
		if w.fence.Projection == name && !w.ended.Load() {
			n++
		}
	}
	h.metrics.AbandonedHandlers(name, n)
}

// countHanging sets the metric of a projection. The caller holds the mutex.
func (h *Handlers) countHanging(name string) {
	n := 0
	for w := range h.active {
		if w.hangs && w.fence.Projection == name {
			n++
		}
	}
	h.metrics.HangingHandlers(name, n)
}

// position is that of the event at which an abandoned handler was.
func (h *Handlers) position(w *handlerWatch) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.abandoned[w].Position
}

// notify has changed called after each change of what is abandoned; nil ends that.
func (h *Handlers) notify(changed func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changed = changed
}

func (h *Handlers) tell() {
	h.mu.Lock()
	changed := h.changed
	h.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// abandonedNow is the handlers that are abandoned, ordered by projection, generation and
// partition, those included whose return is too recent.
func (h *Handlers) abandonedNow() []replicaset.AbandonedHandler {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []replicaset.AbandonedHandler
	for _, handler := range h.abandoned {
		all = append(all, handler)
	}
	slices.SortFunc(all, func(a, b replicaset.AbandonedHandler) int {
		return cmp.Or(cmp.Compare(a.Projection, b.Projection), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Partition.Key, b.Partition.Key))
	})
	return all
}

// hasAbandoned says whether a handler of the projection is abandoned.
func (h *Handlers) hasAbandoned(name string) bool {
	return slices.ContainsFunc(h.abandonedNow(), func(a replicaset.AbandonedHandler) bool { return a.Projection == name })
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
	w.hangs = true
	w.all.countHanging(w.fence.Projection)
	w.timer.Reset(w.all.every)
}

// running describes the handlers that have not returned.
func (h *Handlers) running() []string {
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
