package eventread

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Source is the event store whose events are read.
type Source interface {
	// EventsTable is the events table's name, with the schema as the first of two parts if one is known.
	EventsTable() pgx.Identifier
	// HasScopeIndex says whether an index serves reads by type and position.
	HasScopeIndex(ctx context.Context, db DB) (bool, error)
	// HasSlotIndex says whether an index serves reads by slots.
	HasSlotIndex(ctx context.Context, db DB) (bool, error)
}

// Reader reads events in statements that each go over a bounded number of positions. They go over fewer after one
// that took longer than statement_timeout or transaction_timeout allows, and over more after quick ones.
//
// Where the scope index or the slot index is there and quicker, it reads by it: it measures which part of the positions
// that it passes over is wanted. It may be used by several goroutines.
type Reader struct {
	source Source
	log    *slog.Logger
	now    func() time.Time

	mu         sync.Mutex
	statements *statements
	scopeIndex index
	slotIndex  index
	large      time.Time // when a block of the slot index was last too large
	told       time.Time // when it was last logged that a statement was cut short
	densities  map[string]*density
}

// index is what is known of an optional index.
type index struct {
	has    bool
	looked time.Time // when it was last looked for
}

const (
	// indexKeeps is how long an index that was there is trusted to be:
	// without it, a read by it looks at all events.
	indexKeeps = time.Second
	// indexMissed is how long one that was not there is not looked for.
	indexMissed = 5 * time.Second
	// largeKeeps is how long events are taken for too large for the slot index.
	largeKeeps = 5 * time.Second
)

// New makes a reader of the source's events table that knows nothing yet. The source must be resolved, or each
// connection's search_path decides which table is read.
func New(source Source, log *slog.Logger) *Reader {
	return &Reader{
		source: source, statements: newStatements(source.EventsTable(), 0), log: log,
		now: time.Now, densities: map[string]*density{},
	}
}

// Read reads a page of the events that q wants: in one of its slots, above that
// slot's position, up to and including q.UpTo, within its scope. It reads by one statement, so a page may end before q.UpTo also without
// any events.
func (r *Reader) Read(ctx context.Context, db DB, q Query) (Page, error) {
	p, err := r.Next(ctx, db, q)
	if err != nil {
		return Page{}, err
	}
	return p.page(), nil
}

// Next reads what Read does, as a part. A statement that takes longer than the server allows is
// repeated over fewer positions.
func (r *Reader) Next(ctx context.Context, db DB, q Query) (Part, error) {
	if len(q.Pieces) == 0 {
		return Part{}, r.statementsFor(q).stream(ctx, db, q, q.Limit, func(Part) {}) // which says what is wrong
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

// Stream reads what Read does, by as many statements as it takes, and calls take with every size events as soon as they have arrived,
// and with the rest at the end of each statement, which may be none. The parts follow each other without a gap. After an error, those
// that were taken are still what they say. The statement stays open while take runs: it must not wait. Now and then Stream asks the
// database for the index first.
func (r *Reader) Stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	if len(q.Pieces) == 0 {
		return r.statementsFor(q).stream(ctx, db, q, size, take) // which says what is wrong
	}
	for {
		done, err := r.step(ctx, db, q, size, take)
		if err != nil || done.upTo >= q.UpTo {
			return err
		}
		q.Pieces = slot.Advance(q.Pieces, done.upTo)
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
func (r *Reader) step(ctx context.Context, db DB, q Query, size int, take func(Part)) (done progress, err error) {
	if q.byScopeIndex, err = r.byTypes(ctx, db, q); err != nil {
		return done, err
	}
	if q.bySlotIndex, err = r.bySlots(ctx, db, q); err != nil {
		return done, err
	}
	statements := r.statementsFor(q)
	after, upTo := slot.Lowest(q.Pieces), q.UpTo
	r.mu.Lock()
	q.UpTo = r.density(q).span(q).end(after, q.UpTo)
	r.mu.Unlock()
	if q.bySlotIndex {
		q.UpTo = min(q.UpTo, after+slottedSpan)
	}
	done.upTo = after
	began := r.now()
	err = statements.stream(ctx, db, q, size, func(p Part) {
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
	next, err := statements.next(ctx, db, done.upTo, upTo)
	if err == nil && next > done.upTo {
		done.upTo = next
		take(Part{UpTo: next})
	}
	return done, err
}

// statementsFor are those that read the table that q names. They are made again only when that is another one.
func (r *Reader) statementsFor(q Query) *statements {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.statements.table != q.Table {
		r.statements = newStatements(r.source.EventsTable(), q.Table)
	}
	return r.statements
}

// progress is what statements have handed over.
type progress struct {
	upTo   int64
	events int
	bytes  int64
}

// learn takes in what a statement for q came to. It returns its error, unless it is worth repeating over fewer positions.
func (r *Reader) learn(ctx context.Context, q Query, done progress, took time.Duration, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, after := r.density(q), slot.Lowest(q.Pieces)
	d.learn(done.upTo-after, done.events, q.Pieces)
	switch {
	case err == nil:
		d.span(q).passed(done.upTo-after, took)
		return nil
	case errors.Is(err, errDisorder) && done.upTo > after:
		r.large = r.now()
		return fmt.Errorf("after positions up to %d were taken for complete: %w", done.upTo, err)
	case errors.Is(err, errCutBlock), errors.Is(err, errDisorder):
		r.large = r.now() // and the primary key serves
		return nil
	case errors.Is(err, dbguard.ErrNoAnswer):
		d.span(q).cut(q.UpTo-after, took)
		return err
	case dbguard.IsReplaced(err):
		return fmt.Errorf("another table has the name of the events table; it is read once a horizon is known of it: %w", err)
	case !dbfault.IsCutShort(err) || ctx.Err() != nil:
		return err
	}
	r.scopeIndex.looked, r.slotIndex.looked = time.Time{}, time.Time{} // without the index, what reads by it takes long
	if !d.span(q).cut(q.UpTo-after, took) {
		return err
	}
	if now := r.now(); now.Sub(r.told) >= tellEvery {
		r.told = now
		r.log.Info("a read took longer than the server allows, and is repeated over fewer positions",
			"error", err, "positions", q.UpTo-after, "duration", took)
	}
	return nil
}

// tellEvery is how often it is logged that reads take too long.
const tellEvery = time.Minute

// byTypes says whether to read by the scope index.
func (r *Reader) byTypes(ctx context.Context, db DB, q Query) (bool, error) {
	if len(q.AggregateTypes) == 0 {
		return false, nil
	}
	r.mu.Lock()
	wanted := q.UpTo-slot.Lowest(q.Pieces) > fewPositions && r.density(q).sparse()
	r.mu.Unlock()
	return r.usable(ctx, db, wanted, &r.scopeIndex, r.source.HasScopeIndex)
}

// bySlots says whether to read by the slot index.
func (r *Reader) bySlots(ctx context.Context, db DB, q Query) (bool, error) {
	if q.byScopeIndex || !q.slotted() {
		return false, nil
	}
	r.mu.Lock()
	wanted := q.UpTo-slot.Lowest(q.Pieces) >= fewBlocks && r.now().Sub(r.large) >= largeKeeps
	r.mu.Unlock()
	return r.usable(ctx, db, wanted, &r.slotIndex, r.source.HasSlotIndex)
}

// usable says whether an index is wanted and there, and looks for it if it is wanted and time to.
func (r *Reader) usable(ctx context.Context, db DB, wanted bool, of *index, find func(context.Context, DB) (bool, error)) (bool, error) {
	r.mu.Lock()
	began := r.now()
	has, age := of.has, began.Sub(of.looked)
	r.mu.Unlock()
	if !wanted || age < indexKeeps || (!has && age < indexMissed) {
		return wanted && has, nil
	}
	has, err := find(ctx, db)
	if err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = index{has: has, looked: began}
	return has, nil
}

// density is that of a query's scope. The caller holds the mutex.
func (r *Reader) density(q Query) *density {
	key := strings.Join(slices.Concat(q.AggregateTypes, []string{""}, q.BoundedContexts), "\x00")
	d := r.densities[key]
	if d == nil {
		d = &density{byKey: newSpan(firstSpan), byIndex: newSpan(firstIndexedSpan), bySlots: newSpan(slottedSpan)}
		r.densities[key] = d
	}
	return d
}
