package eventread

import (
	"errors"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Query says which events a filtered read wants.
type Query struct {
	// Pieces are the wanted slots, each with the position after which its events
	// are wanted, in any order. There must be at least one, and none may overlap.
	Pieces []slot.Piece
	// UpTo is the last position that may be read: the horizon.
	UpTo int64
	// Table is the oid of the table for which the horizon was found. The read fails where another table has the name by now: events of the
	// first that it lacks would be skipped. 0 reads any.
	Table uint32
	// AggregateTypes are the wanted types. Empty means all.
	AggregateTypes []string
	// BoundedContexts are the wanted contexts. Empty means all.
	BoundedContexts []string
	// Limit is the highest number of events to return; at least 1.
	Limit int
	// MaxBytes ends the read after the event that brings the bytes of its events to it. It
	// costs the connection, so choose a Limit that mostly ends the read before. 0 means
	// no bound.
	MaxBytes int64
	// WithSlots asks for the slots of the events, see [packed.Events.Slot].
	WithSlots bool

	// byScopeIndex asks for the events to be found by the scope index, in place of looking through all positions. It must
	// be there: without it, every read sorts all events of the table. Which way is quicker depends on how many events are wanted;
	// [Reader] decides. It is ignored without AggregateTypes, and with more than 32 of them.
	byScopeIndex bool
	// bySlotIndex asks for the events to be found by the slot index, likewise. Without it, every read looks at all events of the table for each block.
	bySlotIndex bool
}

// Page is what a filtered read found.
type Page struct {
	// Events are the wanted events in order of their positions.
	Events []es.PersistedEvent
	// UpTo is the position that the page reaches: of the wanted events up to and
	// including it none is missing. It is the query's UpTo, or the last event's
	// position if the limit or the bytes cut the page. By an index a page may be cut
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

// page is the part as a page.
func (p Part) page() Page { return Page{Events: p.Events.All(), UpTo: p.UpTo, Bytes: p.size} }

// validate says what is wrong with a query.
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
