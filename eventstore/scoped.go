package eventstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// ScopedReader reads as its store does, in statements that each go over a bounded number of positions. They go over fewer after one
// that took longer than statement_timeout or transaction_timeout allows, and over more after quick ones.
//
// Where the scope index ([Store.InstallScopeIndex]) is there and quicker, it reads by it: it measures which part of the positions
// that it passes over is wanted. It may be used by several goroutines.
type ScopedReader struct {
	store *Store
	now   func() time.Time

	mu        sync.Mutex
	has       bool      // the index
	looked    time.Time // when it was last looked for
	told      time.Time // when it was last logged that a statement was cut short
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

// Read is [Store.Read], except that it reads by one statement: a page may end before q.UpTo also without any events.
func (r *ScopedReader) Read(ctx context.Context, db DB, q Query) (Page, error) {
	p, err := r.Next(ctx, db, q)
	if err != nil {
		return Page{}, err
	}
	return Page{Events: p.Events.All(), UpTo: p.UpTo, Bytes: p.size}, nil
}

// Next reads by one statement: see Read. It sets q.ByScopeIndex itself. A statement that takes longer than the server allows is
// repeated over fewer positions.
func (r *ScopedReader) Next(ctx context.Context, db DB, q Query) (Part, error) {
	if len(q.Pieces) == 0 {
		return Part{}, r.store.Stream(ctx, db, q, q.Limit, func(Part) {}) // which says what is wrong
	}
	for {
		var found Part
		taken := false
		_, err := r.step(ctx, db, q, q.Limit, func(p Part) { found, taken = p, true })
		switch {
		case err != nil:
			return Part{}, err
		case taken:
			return found, nil
		}
	}
}

// Stream is [Store.Stream], except that it reads by as many statements as it takes, and that each ends a part, which may be empty. It
// sets q.ByScopeIndex itself. Now and then it asks the database for the index first.
func (r *ScopedReader) Stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	if len(q.Pieces) == 0 {
		return r.store.Stream(ctx, db, q, size, take) // which says what is wrong
	}
	for {
		done, err := r.step(ctx, db, q, size, take)
		if err != nil || done.upTo >= q.UpTo {
			return err
		}
		q.Pieces = slot.Lift(q.Pieces, done.upTo)
		q.Limit -= done.events
		if q.MaxBytes > 0 {
			if q.MaxBytes -= done.bytes; q.MaxBytes <= 0 {
				return nil
			}
		}
		if q.Limit <= 0 {
			return nil
		}
	}
}

// step reads by one statement, and learns from it. It returns what was handed over, and no error if it was cut short and may be repeated
// over fewer positions.
func (r *ScopedReader) step(ctx context.Context, db DB, q Query, size int, take func(Part)) (done progress, err error) {
	if q.ByScopeIndex, err = r.byIndex(ctx, db, q); err != nil {
		return done, err
	}
	after, upTo := slot.Lowest(q.Pieces), q.UpTo
	r.mu.Lock()
	q.UpTo = r.density(q).span(q).end(after, q.UpTo)
	r.mu.Unlock()
	done.upTo = after
	began := r.now()
	err = r.store.Stream(ctx, db, q, size, func(p Part) {
		done.upTo = p.UpTo
		done.events += p.Events.Len()
		done.bytes += p.size
		take(p)
	})
	err = r.learn(ctx, q, done, r.now().Sub(began), err)
	if err != nil || done.events > 0 || done.upTo < q.UpTo || q.UpTo == upTo {
		return done, err
	}
	// Nothing was found. There may be no positions at all, as where the sequence was advanced by hand.
	next, err := r.store.next(ctx, db, done.upTo, upTo)
	if err == nil && next > done.upTo {
		done.upTo = next
		take(Part{UpTo: next})
	}
	return done, err
}

// progress is what statements have handed over.
type progress struct {
	upTo   int64
	events int
	bytes  int64
}

// learn takes in what a statement for q came to. It returns its error, unless it is worth repeating over fewer positions.
func (r *ScopedReader) learn(ctx context.Context, q Query, done progress, took time.Duration, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, after := r.density(q), slot.Lowest(q.Pieces)
	d.learn(done.upTo-after, done.events, q.Pieces)
	switch {
	case err == nil:
		d.span(q).passed(done.upTo-after, took)
		return nil
	case errors.Is(err, dbguard.ErrNoAnswer):
		d.span(q).cut(q.UpTo-after, took)
		return err
	case !dbfault.IsCutShort(err) || ctx.Err() != nil:
		return err
	}
	r.looked = time.Time{} // without the index, what reads by it takes long
	if !d.span(q).cut(q.UpTo-after, took) {
		return err
	}
	if now := r.now(); now.Sub(r.told) >= tellEvery {
		r.told = now
		r.store.log.Info("a read took longer than the server allows, and is repeated over fewer positions",
			"error", err, "positions", q.UpTo-after, "duration", took)
	}
	return nil
}

// tellEvery is how often it is logged that reads take too long.
const tellEvery = time.Minute

// byIndex says whether to read by the index, and looks for it if it is time to.
func (r *ScopedReader) byIndex(ctx context.Context, db DB, q Query) (bool, error) {
	if len(q.AggregateTypes) == 0 {
		return false, nil
	}
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
		d = &density{byKey: newSpan(firstSpan), byIndex: newSpan(firstIndexedSpan)}
		r.densities[key] = d
	}
	return d
}

// density is how many events of a scope were found in how many positions, lately, and over how many positions its statements go.
type density struct {
	events, positions float64
	byKey, byIndex    span
}

// span is the one of statements for q.
func (d *density) span(q Query) *span {
	if q.ByScopeIndex {
		return &d.byIndex
	}
	return &d.byKey
}

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
