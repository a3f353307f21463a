package statuspage

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// seen is what the database said at one moment.
type seen struct {
	snapshot admin.Snapshot
	groups   []admin.FailureGroup
	timeline []admin.Entry // newest last
}

// timelineSpan is how far back the timeline goes, and entriesMost how many entries it has.
const (
	timelineSpan = time.Hour
	entriesMost  = 200
)

// look asks the database. The timeline is that since a time.
func look(ctx context.Context, a *admin.Admin, since time.Time) (s seen, err error) {
	if s.snapshot, err = a.Snapshot(ctx); err != nil {
		return s, err
	}
	if s.groups, err = a.FailureGroups(ctx, admin.Filter{}); err != nil {
		return s, err
	}
	if since.IsZero() {
		since = s.snapshot.At.Add(-timelineSpan)
	}
	s.timeline, err = a.Timeline(ctx, since)
	s.timeline = s.timeline[max(0, len(s.timeline)-entriesMost):]
	return s, err
}

// state is what a page is made from.
type state struct {
	seen
	known   bool // something has been seen
	history history
	colours colours
	err     error     // of the last look
	at      time.Time // when the last look began; the process's clock
	seenAt  time.Time // when the last look that succeeded began
}

// watch asks the database for all who watch: once in an interval, and only when somebody asks.
type watch struct {
	interval time.Duration
	look     func(ctx context.Context, since time.Time) (seen, error)

	mu      sync.Mutex
	current state
	due     time.Time     // until when current is new enough
	looking chan struct{} // closed when the look that is under way has ended; nil if none is
	outrun  bool          // something has changed since that look began
}

func newWatch(look func(context.Context, time.Time) (seen, error)) *watch {
	return &watch{interval: defaultInterval, look: look}
}

// latest is the state, at most an interval old. Its error is that of ctx.
func (w *watch) latest(ctx context.Context) (state, error) {
	w.mu.Lock()
	if time.Now().Before(w.due) {
		defer w.mu.Unlock()
		return w.current, nil
	}
	looking := w.looking
	if looking == nil {
		looking = make(chan struct{})
		w.looking = looking
		go w.refresh(context.WithoutCancel(ctx), w.since(), looking) // the others wait for it too
	}
	w.mu.Unlock()
	select {
	case <-looking:
	case <-ctx.Done():
		return state{}, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current, nil
}

// since is from when on the timeline is read: not further back than what is shown.
func (w *watch) since() time.Time {
	if entries := w.current.timeline; len(entries) == entriesMost {
		return entries[0].At
	}
	return time.Time{}
}

func (w *watch) refresh(ctx context.Context, since time.Time, done chan struct{}) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	began := time.Now()
	s, err := w.look(ctx, since)
	took := time.Since(began)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current.at, w.current.err = began, err
	if err == nil {
		w.current.seen, w.current.known, w.current.seenAt = s, true, began
		w.current.history = w.current.history.with(s.snapshot)
		w.current.colours = w.current.colours.with(s.snapshot)
	}
	// A database that answers slowly is asked less often.
	if w.due = began.Add(max(w.interval, 10*took)); w.outrun {
		w.due = time.Time{}
	}
	w.looking, w.outrun = nil, false
	close(done)
}

// forget has the next request ask the database.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due, w.outrun = time.Time{}, w.looking != nil
}

// history is how positions and lags were, oldest first. It is never changed, only replaced.
type history []sample

type sample struct {
	at          time.Time // the database's
	projections map[string]progress
}

type progress struct{ position, lag int64 }

// historySpan is how far back plots go, and samplesMost bounds the samples.
const (
	historySpan = 5 * time.Minute
	samplesMost = 600
)

// with adds a snapshot.
func (h history) with(s admin.Snapshot) history {
	last := sample{at: s.At, projections: make(map[string]progress, len(s.Projections))}
	for _, p := range s.Projections {
		last.projections[p.Name] = progress{p.Position, p.Lag}
	}
	first, _ := slices.BinarySearchFunc(h, s.At.Add(-historySpan), func(s sample, at time.Time) int { return s.at.Compare(at) })
	first = max(first, len(h)-samplesMost+1)
	return append(slices.Clone(h[first:]), last)
}

// colours are the numbers of the colours of workers that are there. A worker keeps its own. It is never changed, only replaced.
type colours map[uuid.UUID]int

// with gives new workers the lowest numbers that are free.
func (c colours) with(s admin.Snapshot) colours {
	next, taken := colours{}, map[int]bool{}
	for _, w := range s.Workers {
		if number, has := c[w.ID]; has && !ended(w) {
			next[w.ID], taken[number] = number, true
		}
	}
	number := 0
	for _, w := range s.Workers {
		if _, has := next[w.ID]; has || ended(w) {
			continue
		}
		for taken[number] {
			number++
		}
		next[w.ID], taken[number] = number, true
	}
	return next
}

// ended says whether a worker has left or was declared dead.
func ended(w admin.Worker) bool { return w.State == "stopped" || w.State == "dead" }
