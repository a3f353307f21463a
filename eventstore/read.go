package eventstore

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// ReadEvents reads up to limit events of the whole stream with positions above
// fromPosition, in order; none, and no error, at its end. Limit must be at least
// 1.
//
// A caller that remembers the last position and reads on from there loses the
// events of transactions that commit late: bound what it remembers by the
// horizon, or use Read.
func (s *Store) ReadEvents(ctx context.Context, db DB, fromPosition int64, limit int) ([]es.PersistedEvent, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("reading events: limit must be at least 1, got %d", limit)
	}
	if err := refuseNil("reading events", "db", db); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, s.sql.readAll, fromPosition, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading events after position %d: %w", fromPosition, err)
	}
	events, err := collect(rows, limit)
	if err != nil {
		return nil, fmt.Errorf("reading events after position %d: %w", fromPosition, err)
	}
	return events, nil
}

// ReadAggregateStream reads an aggregate's events from fromVersion up to
// toVersion, both inclusive; nil means from the first and up to the last. An
// aggregate that does not exist gives an empty stream and no error.
func (s *Store) ReadAggregateStream(ctx context.Context, db DB, boundedContext, aggregateType, aggregateID string, fromVersion, toVersion *int64) (es.Stream, error) {
	if err := s.usable("reading an aggregate", db); err != nil {
		return es.Stream{}, err
	}
	from, to := int64(0), int64(math.MaxInt64)
	if fromVersion != nil {
		from = *fromVersion
	}
	if toVersion != nil {
		to = *toVersion
	}
	rows, err := db.Query(ctx, s.sql.stream, boundedContext, aggregateType, aggregateID, from, to)
	if err != nil {
		return es.Stream{}, fmt.Errorf("reading %s: %w", aggregate(boundedContext, aggregateType, aggregateID), err)
	}
	events, err := collect(rows, 0)
	if err != nil {
		return es.Stream{}, fmt.Errorf("reading %s: %w", aggregate(boundedContext, aggregateType, aggregateID), err)
	}
	return es.Stream{BoundedContext: boundedContext, AggregateType: aggregateType, AggregateID: aggregateID, Events: events}, nil
}

// LatestPosition is the highest position that is visible, 0 if there are no
// events. Lower ones may still appear.
func (s *Store) LatestPosition(ctx context.Context, db DB) (int64, error) {
	if err := s.usable("reading the latest position", db); err != nil {
		return 0, err
	}
	var position int64
	if err := db.QueryRow(ctx, s.sql.latest).Scan(&position); err != nil {
		return 0, fmt.Errorf("reading the latest position: %w", err)
	}
	return position, nil
}

// next is the position before the next event after one, upTo at most.
func (s *Store) next(ctx context.Context, db DB, after, upTo int64) (int64, error) {
	var position int64
	if err := db.QueryRow(ctx, s.sql.next, after).Scan(&position); err != nil {
		return 0, fmt.Errorf("looking for the next event after position %d: %w", after, err)
	}
	if position == 0 {
		return upTo, nil
	}
	return min(position-1, upTo), nil
}

// Query says which events a filtered read wants.
type Query struct {
	// Pieces are the wanted slots, each with the position after which its events
	// are wanted, in any order. There must be at least one, and none may overlap.
	Pieces []slot.Piece
	// UpTo is the last position that may be read: the horizon.
	UpTo int64
	// AggregateTypes are the wanted types. Empty means all.
	AggregateTypes []string
	// BoundedContexts are the wanted contexts. Empty means all.
	BoundedContexts []string
	// Limit is the highest number of events to return; at least 1.
	Limit int
	// MaxBytes ends the read after the event that brings the bytes of its events to it. It
	// costs the connection, so choose Limit such that it happens seldom. 0 means
	// no bound.
	MaxBytes int64
	// WithSlots asks for the slots of the events, see [packed.Events.Slot].
	WithSlots bool
	// ByScopeIndex asks for the events to be found by the index of
	// [Store.InstallScopeIndex], in place of looking through all positions. It must
	// be there: without it, every read sorts all events of the table. Which way is quicker depends on how many events are wanted;
	// [ScopedReader] decides. It is ignored without AggregateTypes, and with more than 32 of them.
	ByScopeIndex bool
}

// Page is what a filtered read found.
type Page struct {
	// Events are the wanted events in order of their positions.
	Events []es.PersistedEvent
	// UpTo is the position that the page reaches: of the wanted events up to and
	// including it none is missing. It is the query's UpTo, or the last event's
	// position if the limit or the bytes cut the page. With ByScopeIndex a page may be cut
	// before it has Limit events, but not without any.
	UpTo int64
	// Bytes is about the memory that was read.
	Bytes int64
}

// Part is some of what a filtered read finds.
type Part struct {
	// Events are the wanted events above the part before, in order of their positions.
	Events packed.Events
	// UpTo is the position that the part reaches: of the wanted events up to and
	// including it none is missing, in this part and those before. It is the last
	// event's position, or, in a last part that neither limit nor bytes cut (see [Page]), the query's UpTo.
	UpTo int64
	// Bytes is the memory that was made for the events, see [packed.Events.Bytes].
	Bytes int64

	size int64 // what counts for Query.MaxBytes
}

// Read reads a page of the events that q wants: in one of its slots, above that
// slot's position, up to and including q.UpTo, within its scope.
func (s *Store) Read(ctx context.Context, db DB, q Query) (Page, error) {
	return page(func(take func(Part)) error { return s.Stream(ctx, db, q, q.Limit, take) })
}

// page is the one part of a stream that is not divided.
func page(stream func(take func(Part)) error) (Page, error) {
	var page Page
	err := stream(func(p Part) {
		page = Page{Events: p.Events.All(), UpTo: p.UpTo, Bytes: p.size}
	})
	if err != nil {
		return Page{}, err
	}
	return page, nil
}

// Stream reads what Read does, in one statement, and calls take with every size
// events as soon as they have arrived, and with the rest at the end. The parts
// follow each other without a gap; without an error there is at least one. After an error, those
// that were taken are still what they say. The statement stays open while take runs:
// it must not wait.
func (s *Store) Stream(ctx context.Context, db DB, q Query, size int, take func(Part)) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if err := q.validate(); err != nil {
		return fmt.Errorf("reading events: %w", err)
	}
	if size < 1 {
		return fmt.Errorf("reading events: size must be at least 1, got %d", size)
	}
	if q.UpTo <= slot.Lowest(q.Pieces) {
		take(Part{UpTo: q.UpTo})
		return nil
	}
	if err := refuseNil("reading events", "db", db); err != nil {
		return err
	}
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	sql, args, complete := s.read(q)
	rows, err := db.Query(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("reading events up to position %d: %w", q.UpTo, err)
	}
	if err := collectParts(rows, q, complete, size, take, abandon); err != nil {
		return fmt.Errorf("reading events up to position %d: %w", q.UpTo, err)
	}
	return nil
}

func (q Query) validate() error {
	if len(q.Pieces) == 0 {
		return errors.New("Pieces must not be empty")
	}
	for i, p := range q.Pieces {
		if !p.Valid() {
			return fmt.Errorf("Pieces[%d] must be a range that is not empty and lies in %v, got %v", i, slot.All(), p.Range)
		}
	}
	ordered := inOrder(q.Pieces)
	for i := 1; i < len(ordered); i++ {
		if ordered[i].From < ordered[i-1].To {
			return fmt.Errorf("Pieces must not overlap, got %v and %v", ordered[i-1].Range, ordered[i].Range)
		}
	}
	if q.Limit < 1 {
		return fmt.Errorf("Limit must be at least 1, got %d", q.Limit)
	}
	return nil
}
