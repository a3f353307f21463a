package packed

import (
	mathbits "math/bits"
	"time"
	"unsafe"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Events is a list of events in order of their positions. It never changes, so goroutines may share it; the zero
// value is empty.
//
// What an unpacked event refers to is the list's memory: it must not be changed, and it keeps up to 64 KiB of the event's
// neighbours alive.
type Events struct {
	records []record
	pieces  [][]byte
	names   []string
	// shared says that the first piece was made for the list before.
	shared bool
}

// record is an event without what it refers to. It has no pointers.
type record struct {
	position, version, eventVersion int64
	created                         int64 // microseconds since 2000
	id                              [16]byte
	// boundedContext, aggregateType and eventType are indices of names.
	boundedContext, aggregateType, eventType uint32
	// The values lie in a piece one after the other, from offset on, in the order of these lengths; none is NULL.
	piece, offset                                                       uint32
	aggregateID, payload, traceID, correlationID, causationID, metadata int32
	slot                                                                uint16
}

// size is how many bytes the event's values take.
func (r *record) size() int {
	return int(max(r.aggregateID, 0) + max(r.payload, 0) + max(r.traceID, 0) + max(r.correlationID, 0) + max(r.causationID, 0) + max(r.metadata, 0))
}

// none is the length of a NULL.
const none = -1

// Overhead is the memory that an event takes beside its values, in bytes.
const Overhead = int(unsafe.Sizeof(record{}))

// Len is how many events there are.
func (l Events) Len() int { return len(l.records) }

// Position is the position of event i.
func (l Events) Position(i int) int64 { return l.records[i].position }

// BoundedContext is the bounded context of event i.
func (l Events) BoundedContext(i int) string { return l.names[l.records[i].boundedContext] }

// AggregateType is the aggregate type of event i.
func (l Events) AggregateType(i int) string { return l.names[l.records[i].aggregateType] }

// Slot is the slot of event i; 0 if the query did not ask for slots.
func (l Events) Slot(i int) int { return int(l.records[i].slot) }

// Slice is the events from index from up to, and without, to. They share the list's memory.
func (l Events) Slice(from, to int) Events {
	l.records = l.records[from:to:to]
	return l
}

// Pick is the events for which wanted returns true. They share the list's memory, but for what none of them refers to; a few of many
// have their own.
func (l Events) Pick(wanted func(i int) bool) Events {
	chosen, n := make([]uint64, (len(l.records)+63)/64), 0
	for i := range l.records {
		if wanted(i) {
			chosen[i/64] |= 1 << (i % 64)
			n++
		}
	}
	if n == len(l.records) {
		return l
	}
	if n == 0 {
		return Events{}
	}
	picked := Events{records: make([]record, 0, n), pieces: make([][]byte, len(l.pieces)), names: l.names, shared: l.shared}
	for word, bits := range chosen {
		for ; bits != 0; bits &= bits - 1 {
			r := l.records[word*64+mathbits.TrailingZeros64(bits)]
			picked.records = append(picked.records, r)
			if picked.pieces[r.piece] == nil {
				picked.pieces[r.piece] = l.pieces[r.piece]
			}
		}
	}
	if n < len(l.records)/fewPicked {
		return picked.compact()
	}
	return picked
}

// fewPicked decides when a pick is copied: when it has fewer than one in fewPicked of the events. Larger picks share the list's memory.
const fewPicked = 32

// Bytes is the memory that was made for the list. What two lists share is counted for the first.
func (l Events) Bytes() int64 {
	bytes := cap(l.records)*Overhead + cap(l.pieces)*int(unsafe.Sizeof([]byte{})) + cap(l.names)*int(unsafe.Sizeof(""))
	for i, p := range l.pieces {
		if i > 0 || !l.shared {
			bytes += cap(p)
		}
	}
	for _, n := range l.names {
		bytes += len(n)
	}
	return int64(bytes)
}

// At is event i.
func (l Events) At(i int) es.PersistedEvent {
	r := &l.records[i]
	values := values{piece: l.pieces[r.piece], offset: int(r.offset)}
	return es.PersistedEvent{
		GlobalPosition:   r.position,
		BoundedContext:   l.names[r.boundedContext],
		AggregateType:    l.names[r.aggregateType],
		AggregateID:      values.text(r.aggregateID),
		AggregateVersion: r.version,
		EventID:          r.id,
		EventType:        l.names[r.eventType],
		EventVersion:     int(r.eventVersion),
		Payload:          values.bytes(r.payload),
		TraceID:          values.nullText(r.traceID),
		CorrelationID:    values.nullText(r.correlationID),
		CausationID:      values.nullText(r.causationID),
		Metadata:         values.bytes(r.metadata),
		CreatedAt:        time.Unix(epoch2000+r.created/1e6, r.created%1e6*1e3).UTC(),
	}
}

// All is all events, in a list of their own; nil if there are none.
func (l Events) All() []es.PersistedEvent {
	if len(l.records) == 0 {
		return nil
	}
	all := make([]es.PersistedEvent, len(l.records))
	for i := range all {
		all[i] = l.At(i)
	}
	return all
}

// values are an event's values in a piece, from the next one on.
type values struct {
	piece  []byte
	offset int
}

// bytes is the next value; nil for NULL. Its capacity ends where it does: who appends to it does not write over the next.
func (v *values) bytes(length int32) []byte {
	if length == none {
		return nil
	}
	from := v.offset
	v.offset += int(length)
	return v.piece[from:v.offset:v.offset]
}

// text is the next value, "" for NULL.
func (v *values) text(length int32) string {
	b := v.bytes(length)
	return unsafe.String(unsafe.SliceData(b), len(b)) //nolint:gosec // a piece never changes once an event refers to it
}

// nullText is the next value, not valid for NULL.
func (v *values) nullText(length int32) es.NullString {
	return es.NullString{String: v.text(length), Valid: length != none}
}
