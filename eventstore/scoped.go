package eventstore

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// ScopedReader reads as its store does, and by the scope index
// ([Store.InstallScopeIndex]) where that is there and quicker: it measures which part of the positions
// that it passes over is wanted. It may be used by several goroutines.
type ScopedReader struct {
	store *Store
	now   func() time.Time

	mu        sync.Mutex
	has       bool      // the index
	looked    time.Time // when it was last looked for
	densities map[string]*density
}

const (
	// scopeIndexKeeps is how long an index that was there is trusted to be:
	// without it, a read by it sorts all events.
	scopeIndexKeeps = time.Second
	// scopeIndexMissed is how long one that was not there is not looked for.
	scopeIndexMissed = 5 * time.Second
)

// NewScopedReader makes a reader that knows nothing yet.
func NewScopedReader(s *Store) *ScopedReader {
	return &ScopedReader{store: s, now: time.Now, densities: map[string]*density{}}
}

// Read is [Store.Read].
func (r *ScopedReader) Read(ctx context.Context, db DB, q Query) (Page, error) {
	return page(func(take func(Part)) error { return r.Stream(ctx, db, q, q.Limit, take) })
}

// Stream is [Store.Stream]. It sets q.ByScopeIndex itself. Now and then it asks the database for the index first.
func (r *ScopedReader) Stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	if len(q.AggregateTypes) == 0 || len(q.Pieces) == 0 {
		q.ByScopeIndex = false
		return r.store.Stream(ctx, db, q, size, take)
	}
	var err error
	if q.ByScopeIndex, err = r.byIndex(ctx, db, q); err != nil {
		return err
	}
	after := slot.Lowest(q.Pieces)
	reached, events := after, 0
	err = r.store.Stream(ctx, db, q, size, func(p Part) {
		reached = p.UpTo
		events += p.Events.Len()
		take(p)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.density(q).learn(reached-after, events, q.Pieces)
	return err
}

// byIndex says whether to read by the index, and looks for it if it is time to.
func (r *ScopedReader) byIndex(ctx context.Context, db DB, q Query) (bool, error) {
	r.mu.Lock()
	wanted := q.UpTo-slot.Lowest(q.Pieces) > fewPositions && r.density(q).sparse()
	began := r.now()
	has, age := r.has, began.Sub(r.looked)
	r.mu.Unlock()
	if !wanted || age < scopeIndexKeeps || (!has && age < scopeIndexMissed) {
		return wanted && has, nil
	}
	has, err := r.store.HasScopeIndex(ctx, db)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.has, r.looked = has, began
	return has, nil
}

// density is that of a query's scope. The caller holds the mutex.
func (r *ScopedReader) density(q Query) *density {
	key := strings.Join(slices.Concat(q.AggregateTypes, []string{""}, q.BoundedContexts), "\x00")
	d := r.densities[key]
	if d == nil {
		d = &density{}
		r.densities[key] = d
	}
	return d
}

// density is how many events of a scope were found in how many positions, lately.
type density struct{ events, positions float64 }

const (
	// fewPositions are passed over as quickly by any way to read.
	fewPositions = 1000
	// densityMemory is how many positions are remembered.
	densityMemory = 100_000
	// sparseBelow is the part of the positions up to which the index is the quicker
	// way: it takes up to ten times as long for an event that it finds as the primary key for one that is passed over.
	sparseBelow = 0.1
)

// learn takes in that a read of some slots found events in so many positions.
func (d *density) learn(positions int64, events int, pieces []slot.Piece) {
	slots := 0
	for _, p := range pieces {
		slots += p.To - p.From
	}
	if positions <= 0 || slots == 0 {
		return
	}
	// The index has no slots: it must pass over the type's events in all of them.
	d.events += float64(events) * slot.Count / float64(slots)
	d.positions += float64(positions)
	if d.positions > densityMemory {
		d.events *= densityMemory / d.positions
		d.positions = densityMemory
	}
}

// sparse says whether the index is the quicker way, as far as is known. A scope of which nothing is known is read by the
// index, where a read costs little however many events are in scope.
func (d *density) sparse() bool {
	return d.positions < fewPositions || d.events < sparseBelow*d.positions
}
