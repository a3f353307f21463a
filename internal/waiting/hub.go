package waiting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Question is what a look is to find out.
type Question struct {
	Projections []string
	Examine     []Wait
	// Outage is the time since the first of the looks that failed, until Database.Grace has passed after the first one that succeeded. Else it is 0. Workers
	// may have had no database to write their heartbeats to since then.
	Outage time.Duration
	// Restarts says that workers count until their timeouts have passed since the start of the server. This process may not have seen that the server was away.
	Restarts bool
}

// Answer is what a look has found, in one snapshot.
type Answer struct {
	Events    string // the events table, as schema.table
	Standings map[string]Standing
	Examined  []Examined // in the order of Question.Examine
}

// Database is how a Hub uses the database. Only its poller does.
type Database struct {
	// Look answers a question with one statement.
	Look func(context.Context, Question) (Answer, error)
	// Ask asks the workers of other processes to write down at once how far a projection is, for FlushFor.
	Ask func(ctx context.Context, projection string, standing Standing)
	// Waited says which of the projections somebody waits for in another process that has asked a worker without notifications.
	Waited func(ctx context.Context, projections []string) (waited []string, err error)
	// Why says more about the reason of a wait's failure, an error that wraps one of this package; empty if there is nothing to say.
	Why func(ctx context.Context, w Wait, failure error) string
	// MayPass says whether a look that failed may succeed later.
	MayPass func(error) bool
	// Grace is how long after looks that failed workers have to write their heartbeats again.
	Grace time.Duration
}

// Hub is the waits of a process at one database, and the workers of the process that end them. It is safe for concurrent use. Its methods do nothing on
// nil.
type Hub struct {
	place    any // in the registry
	database Database

	waits atomic.Int64 // how many there are
	poked chan struct{}
	loops *health.Loops // with the poller

	mu       sync.Mutex
	users    int
	waiters  map[string]map[*waiter]struct{} // by projection
	polling  bool
	began    time.Time // when the last look did
	failed   error     // why the last look did; nil if it has not
	outage   outage
	asked    map[string]time.Time // when workers were asked last
	runs     map[string]int       // how many workers of the process run the projection, or are about to
	flushers map[string]map[*Flusher]struct{}
	poller   *health.Loop

	unwritten     int // flushers whose checkpoints stay behind
	watching      bool
	watcher       *health.Loop
	written       chan struct{} // no checkpoint stays behind
	nextWatch     time.Time
	watchFailures int
}

// waiter is a call of Wait.
type waiter struct {
	Wait
	since   time.Time
	slot    int // negative while it is not known
	examine bool
	at      int64 // the lowest of the positions that it waits for, as last seen
	ended   chan error
}

var hubs = struct {
	sync.Mutex
	of map[any]*Hub
}{of: map[any]*Hub{}}

// Join returns the hub of a place, such as a pool and a schema, which is comparable. Whoever joins must leave.
func Join(place any, database Database) *Hub {
	hubs.Lock()
	defer hubs.Unlock()
	h := hubs.of[place]
	if h == nil {
		h = &Hub{
			loops: health.NewLoops(time.Second, nil),
			place: place, database: database, poked: make(chan struct{}, 1), written: make(chan struct{}, 1), waiters: map[string]map[*waiter]struct{}{}, asked: map[string]time.Time{},
			runs: map[string]int{}, flushers: map[string]map[*Flusher]struct{}{},
		}
		hubs.of[place] = h
	}
	h.users++
	return h
}

// Waiting is how many calls wait now.
func (h *Hub) Waiting() int { return int(h.waits.Load()) }

// Status is how the poller is, if there is one.
func (h *Hub) Status() []health.Status { return h.loops.Status() }

// Leave ends the use of the hub.
func (h *Hub) Leave() {
	hubs.Lock()
	defer hubs.Unlock()
	if h.users--; h.users == 0 {
		delete(hubs.of, h.place)
	}
}

// Runs says that a worker of this process runs the projections, or is about to, until the function is called.
func (h *Hub) Runs(projections []string) (end func()) {
	add := func(n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, name := range projections {
			if h.runs[name] += n; h.runs[name] == 0 {
				delete(h.runs, name)
			}
		}
		h.poke()
	}
	add(1)
	return func() { add(-1) }
}

// Wait waits until the wait has ended, well or not, or ctx ends.
func (h *Hub) Wait(ctx context.Context, w Wait) error {
	one := &waiter{Wait: w, since: time.Now(), slot: -1, examine: w.Aggregate != nil, at: -1, ended: make(chan error, 1)}
	h.enter(one)
	select {
	case err := <-one.ended:
		return err
	case <-ctx.Done():
	}
	at, failed := h.giveUp(one)
	select {
	case err := <-one.ended: // both at once
		return err
	default:
	}
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(cause, err) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	switch {
	case failed != nil:
		return fmt.Errorf("%w; the last look at the checkpoints failed: %w", err, failed)
	case at >= 0:
		return fmt.Errorf("projection %q is at position %d, and position %d is waited for: %w", w.Projection, at, w.Position, err)
	}
	return err
}

// enter adds a waiter, and starts the poller if there is none.
func (h *Hub) enter(one *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiters[one.Projection] == nil {
		h.waiters[one.Projection] = map[*waiter]struct{}{}
	}
	h.waiters[one.Projection][one] = struct{}{}
	h.waits.Add(1)
	if !h.polling {
		h.polling = true
		h.poller = h.loops.Watch("waits", pollerRound)
		go h.poll()
		return
	}
	h.poke()
}

// giveUp takes out a waiter, and says what was last known.
func (h *Hub) giveUp(one *waiter) (at int64, failed error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(one)
	return one.at, h.failed
}

// remove takes a waiter out, unless somebody has. The caller has the mutex.
func (h *Hub) remove(one *waiter) bool {
	if _, waits := h.waiters[one.Projection][one]; !waits {
		return false
	}
	delete(h.waiters[one.Projection], one)
	if len(h.waiters[one.Projection]) == 0 {
		delete(h.waiters, one.Projection)
		delete(h.asked, one.Projection)
	}
	if h.waits.Add(-1) == 0 {
		h.poke() // the poller ends
	}
	return true
}

// end ends a wait. The caller has the mutex.
func (h *Hub) end(one *waiter, err error) {
	if h.remove(one) {
		one.ended <- err
	}
}

// poke has the poller look soon.
func (h *Hub) poke() {
	select {
	case h.poked <- struct{}{}:
	default:
	}
}

// Committed says that a worker of this process has committed checkpoints, and has begun to at that time. plain says that each event up to them was handled
// or skipped.
func (h *Hub) Committed(projection string, pieces []slot.Piece, plain bool, began time.Time) {
	if h == nil || h.waits.Load() == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for one := range h.waiters[projection] {
		switch {
		case !plain || one.since.After(began) || one.Aggregate != nil && one.slot < 0:
			h.poke()
		default:
			behind, covered := Standing{Pieces: pieces}.behind(one.Wait, one.slot)
			switch {
			case covered && len(behind) == 0:
				h.end(one, nil)
			case one.Aggregate == nil && len(behind) < len(pieces):
				h.poke() // other workers may have handled the rest
			}
		}
	}
}

// Changed says that a worker of this process has changed what is known of a projection, other than by its position.
func (h *Hub) Changed(projection string) { h.Committed(projection, nil, false, time.Time{}) }

// Flusher is a part of a projection that a worker of this process handles.
type Flusher struct {
	projection string
	flush      func()
	unwritten  bool // see Unwritten
}

// Flushes has the hub call flush when somebody waits for the projection, about twice a second, until Forget.
func (h *Hub) Flushes(projection string, flush func()) *Flusher {
	f := &Flusher{projection: projection, flush: flush}
	if h == nil {
		return f
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.flushers[projection] == nil {
		h.flushers[projection] = map[*Flusher]struct{}{}
	}
	h.flushers[projection][f] = struct{}{}
	return f
}

// Forget ends what Flushes began.
func (h *Hub) Forget(f *Flusher) {
	if h == nil || f == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setUnwritten(f, false)
	if delete(h.flushers[f.projection], f); len(h.flushers[f.projection]) == 0 {
		delete(h.flushers, f.projection)
	}
}

// Flush has the workers of this process write down how far they are with the projection. Somebody waits for it, here or elsewhere.
func (h *Hub) Flush(projection string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.flushers[projection] {
		f.flush()
	}
}
