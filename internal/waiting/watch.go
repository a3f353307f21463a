package waiting

import (
	"context"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

const (
	// watchInterval is how often it looks for waits of other processes, while a checkpoint stays behind.
	watchInterval = 20 * time.Millisecond
	// watchTimeout bounds one such look, and the wait for its connection.
	watchTimeout = time.Second
	// watchRound is how long a step of the watch may take.
	watchRound = watchTimeout + 5*time.Second
)

// watchBackoff is how long after looks that failed the next one is. Nothing but the wait of others depends on them.
var watchBackoff = dbfault.Backoff{First: 100 * time.Millisecond, Max: time.Minute}

// Unwritten says whether the flusher's part has come further than its checkpoint says, on a worker that gets no notifications. While it has, the hub looks whether
// somebody in another process waits for the projection, and calls flush if so.
func (h *Hub) Unwritten(f *Flusher, is bool) {
	if h == nil || f == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setUnwritten(f, is)
}

// setUnwritten has the watch run while there is something to watch. The caller has the mutex.
func (h *Hub) setUnwritten(f *Flusher, is bool) {
	if f.unwritten == is {
		return
	}
	f.unwritten = is
	switch {
	case is:
		h.unwritten++
		if !h.watching {
			h.watching = true
			h.watcher = h.loops.Watch("flushes", watchRound)
			go h.watch()
		}
	default:
		if h.unwritten--; h.unwritten == 0 {
			select {
			case h.written <- struct{}{}: // the watch ends
			default:
			}
		}
	}
}

// watch looks for waits of other processes until no checkpoint stays behind.
func (h *Hub) watch() {
	for {
		due := h.restOfWatch()
		projections := h.toWatch()
		switch {
		case projections == nil:
			return // and has ended the watch
		case due:
			h.nextWatch = time.Now().Add(h.flushWaited(projections)) // only the watch uses it, and one follows the other
		}
	}
}

// restOfWatch waits until it is time for a look, or no checkpoint stays behind.
func (h *Hub) restOfWatch() (due bool) {
	timer := time.NewTimer(time.Until(h.nextWatch))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-h.written:
		return false
	}
}

// toWatch is the projections whose checkpoints stay behind. If there are none the watch has ended.
func (h *Hub) toWatch() (projections []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for projection, parts := range h.flushers {
		for f := range parts {
			if f.unwritten {
				projections = append(projections, projection)
				break
			}
		}
	}
	if projections == nil {
		h.watching = false
		h.watcher.End() // before there is another
	}
	return projections
}

// flushWaited looks once, has what somebody waits for written down, and returns when to look again.
func (h *Hub) flushWaited(projections []string) (after time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), watchTimeout)
	defer cancel()
	waited, err := h.database.Waited(ctx, projections)
	h.watcher.Round()
	if err != nil {
		h.watchFailures++
		after = watchBackoff.After(h.watchFailures)
		h.watcher.Allow(after + watchRound)
		return after
	}
	h.watchFailures = 0
	for _, projection := range waited {
		h.Flush(projection)
	}
	return watchInterval
}
