package packed

import (
	"cmp"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Row is an event's values, to be packed. A nil slice is a NULL; what the slices hold is copied.
type Row struct {
	Position, AggregateVersion, EventVersion int64
	// Created is in microseconds since the beginning of 2000, UTC, which is how PostgreSQL counts.
	Created                                                             int64
	EventID                                                             [16]byte
	BoundedContext, AggregateType, EventType                            []byte
	AggregateID, Payload, TraceID, CorrelationID, CausationID, Metadata []byte
	Slot                                                                uint16
}

// epoch2000 is where Row.Created begins, in Unix seconds.
const epoch2000 = 946_684_800

// Microseconds is a time as Row.Created has it. What is below a microsecond is cut off.
func Microseconds(t time.Time) int64 {
	return (t.Unix()-epoch2000)*1e6 + int64(t.Nanosecond())/1e3
}

// The records of a list that is filled begin with room for firstCapacity, and have it for all when these are full: lists
// are mostly short, at the stream's head, or full.
const (
	firstCapacity  = 64
	secondCapacity = 1024
)

// Builder fills lists of events, one after the other. The zero value is ready.
type Builder struct {
	// Expected is about how many events a list that is full has. 0 means that it is not known.
	Expected int

	list  Events
	bytes int64
	full  bool // a list has had Expected events
	names []string
	// contexts, types and events know where in names they are.
	contexts, types, events nameColumn
	memory                  arena
}

// Len is how many events the list has so far.
func (b *Builder) Len() int { return len(b.list.records) }

// Bytes is the memory that the list's events take so far.
func (b *Builder) Bytes() int64 { return b.bytes }

// LastPosition is the position of the event that was added last; there must be one.
func (b *Builder) LastPosition() int64 { return b.list.records[b.Len()-1].position }

// SortFrom puts the events that were added from index i on in order of their positions.
func (b *Builder) SortFrom(i int) {
	added := b.list.records[i:]
	byPosition := func(a, b record) int { return cmp.Compare(a.position, b.position) }
	if !slices.IsSortedFunc(added, byPosition) {
		slices.SortFunc(added, byPosition)
	}
}

// Add adds an event to the list.
func (b *Builder) Add(row *Row) {
	size := len(row.AggregateID) + len(row.Payload) + len(row.TraceID) + len(row.CorrelationID) + len(row.CausationID) + len(row.Metadata)
	b.bytes += int64(Overhead + size)
	r := b.next()
	*r = record{
		position: row.Position, version: row.AggregateVersion, eventVersion: row.EventVersion, created: row.Created, id: row.EventID,
		boundedContext: b.contexts.index(&b.names, row.BoundedContext),
		aggregateType:  b.types.index(&b.names, row.AggregateType),
		eventType:      b.events.index(&b.names, row.EventType),
		slot:           row.Slot,
	}
	var into []byte
	into, r.piece, r.offset = b.memory.room(size)
	r.aggregateID = put(&into, row.AggregateID)
	r.payload = put(&into, row.Payload)
	r.traceID = put(&into, row.TraceID)
	r.correlationID = put(&into, row.CorrelationID)
	r.causationID = put(&into, row.CausationID)
	r.metadata = put(&into, row.Metadata)
}

// next is the record of an event to be added.
func (b *Builder) next() *record {
	n, most := len(b.list.records), b.Expected
	if most == 0 {
		most = secondCapacity
	}
	switch {
	case n == 0 && b.full:
		b.list.records = make([]record, 0, most)
	case n == 0:
		b.list.records = make([]record, 0, min(most, firstCapacity))
	case n == firstCapacity && n == cap(b.list.records) && n < most:
		b.list.records = append(make([]record, 0, most), b.list.records...)
	}
	b.list.records = append(b.list.records, record{})
	return &b.list.records[n]
}

// smallList is up to how many bytes of events a list is copied into as much memory as it needs.
const smallList = 16 << 10

// Cut ends the list and returns it; what is added from now on is of the next one. A list that is much smaller than its memory is
// copied: it may be kept for long, and there may be many of one event.
func (b *Builder) Cut() Events {
	done := b.list
	done.names = slices.Clip(b.names)
	done.pieces, done.shared = b.memory.cut()
	b.full = b.full || (b.Expected > 0 && done.Len() >= b.Expected)
	switch {
	case b.bytes <= smallList && done.Bytes() > 2*b.bytes:
		done = done.compact()
		b.memory.shared = false // the next list alone has the piece
	case cap(done.records) > 2*done.Len():
		done.records = slices.Clip(slices.Clone(done.records))
	}
	b.list, b.bytes = Events{}, 0
	return done
}

// Pack is a list of events, packed. Their times are cut to microseconds in UTC, as the database does.
func Pack(list []es.PersistedEvent) Events {
	b := Builder{Expected: len(list)}
	for i := range list {
		row := RowOf(&list[i])
		b.Add(&row)
	}
	return b.Cut()
}

// RowOf is an event's values.
func RowOf(e *es.PersistedEvent) Row {
	return Row{
		Position: e.GlobalPosition, AggregateVersion: e.AggregateVersion, EventVersion: int64(e.EventVersion),
		Created: Microseconds(e.CreatedAt), EventID: e.EventID,
		BoundedContext: []byte(e.BoundedContext), AggregateType: []byte(e.AggregateType), EventType: []byte(e.EventType),
		AggregateID: []byte(e.AggregateID), Payload: e.Payload, Metadata: e.Metadata,
		TraceID: ofNull(e.TraceID), CorrelationID: ofNull(e.CorrelationID), CausationID: ofNull(e.CausationID),
	}
}

func ofNull(s es.NullString) []byte {
	if !s.Valid {
		return nil
	}
	return []byte(s.String)
}

// put copies a value to the beginning of into, which then begins after it.
func put(into *[]byte, value []byte) (length int32) {
	if value == nil {
		return none
	}
	*into = (*into)[copy(*into, value):]
	return int32(len(value)) // PostgreSQL's values have less than 1 GiB
}

// nameColumn finds the names of a column of which few different values are expected.
type nameColumn struct {
	last  uint32 // index of the name before, and 1; 0 if there is none
	known map[string]uint32
}

// maxKnown bounds the names that a column remembers.
const maxKnown = 256

// index is where in names a name is. It is added if it is not known.
func (c *nameColumn) index(names *[]string, name []byte) uint32 {
	if c.last != 0 && string(name) == (*names)[c.last-1] {
		return c.last - 1
	}
	at, ok := c.known[string(name)]
	if !ok {
		at = uint32(len(*names))
		*names = append(*names, string(name))
		if c.known == nil {
			c.known = make(map[string]uint32)
		}
		if len(c.known) < maxKnown {
			c.known[(*names)[at]] = at
		}
	}
	c.last = at + 1
	return at
}

// arena is memory for values: a few large pieces in place of some for each event. A piece lives as long as anything in
// it, so who keeps an event keeps its neighbours' memory, up to maxPiece bytes.
type arena struct {
	pieces  [][]byte
	shared  bool // the first is of the list before
	current int  // the piece that is being filled
	used    int  // of it
	size    int  // of the last piece that was not made for one event
}

const (
	minPiece = 1 << 10
	maxPiece = 64 << 10
	// largeEvent is the most bytes of an event that has no piece of its own.
	largeEvent = maxPiece / 4
)

// room is memory for an event's values, and where it is. A large event has a piece of its own.
func (a *arena) room(size int) (into []byte, piece, offset uint32) {
	switch {
	case size > largeEvent:
		a.pieces = append(a.pieces, make([]byte, size))
		if len(a.pieces) == 1 {
			a.used = size // there is no piece to be filled yet
		}
		return a.pieces[len(a.pieces)-1], uint32(len(a.pieces) - 1), 0
	case len(a.pieces) == 0 || size > len(a.pieces[a.current])-a.used:
		a.size = max(minPiece, min(4*a.size, maxPiece), size)
		a.pieces = append(a.pieces, make([]byte, a.size))
		a.current, a.used = len(a.pieces)-1, 0
	}
	from := a.used
	a.used += size
	return a.pieces[a.current][from:a.used], uint32(a.current), uint32(from)
}

// cut is the pieces so far, and whether the first is of the list before. The next list's begin with the one that is being filled, if there
// is room in it.
func (a *arena) cut() (done [][]byte, shared bool) {
	done, shared = a.pieces, a.shared
	a.pieces, a.shared = nil, false
	if len(done) > 0 && a.used < len(done[a.current]) {
		a.pieces, a.shared = [][]byte{done[a.current]}, true
	}
	a.current = 0
	return done, shared
}
