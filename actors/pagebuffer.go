package actors

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// pageBuffer is the pages that a processor has read and not committed, and its open
// question to the reader. It belongs to the processor's goroutine.
type pageBuffer struct {
	consumer string
	scope    handling.Scope
	reader   *actor.PID // nil before it is known
	sequence uint64     // of the last question
	asked    bool       // it is open
	pages    []page
	end      int64 // position that the pages reach
	partial  bool  // it wants not all slots of its partition
}

// page is events in order, all that are wanted up to and including upTo.
type page struct {
	events packed.Events
	upTo   int64
}

// begins is the lowest position that handling the page reaches.
func (p page) begins() int64 {
	if p.events.Len() > 0 {
		return p.events.Position(0)
	}
	return p.upTo
}

// pagesAhead is how many pages a processor keeps: the one it handles, and the
// next.
const pagesAhead = 2

// reset drops what was read, and the open question, and begins after a position.
func (b *pageBuffer) reset(end int64) {
	b.sequence++ // an answer to the question before is dropped
	b.asked, b.pages, b.end = false, nil, end
}

// ask asks the reader for the next page if there is room and something to read.
func (b *pageBuffer) ask(c actor.Context, pieces []slot.Piece, horizon int64, epoch uint64) {
	if b.reader == nil || b.asked || len(b.pages) >= pagesAhead || horizon <= b.end {
		return
	}
	b.asked = true
	b.sequence++
	c.Request(b.reader, messages.ReadEvents{
		Consumer: b.consumer, Sequence: b.sequence, Epoch: epoch, Pieces: slot.Advance(pieces, b.end), Partial: b.partial,
		AggregateTypes: b.scope.AggregateTypes, BoundedContexts: b.scope.BoundedContexts,
	})
}

// take takes in an answer. It returns the error that the answer carries.
func (b *pageBuffer) take(m messages.EventsRead, pieces []slot.Piece) error {
	if !b.asked || m.Sequence != b.sequence {
		return nil
	}
	b.asked = false
	if m.Err != nil {
		return m.Err
	}
	next := page{events: m.Events, upTo: m.UpTo}
	if m.Filter {
		next.events = b.pick(m, pieces)
	}
	b.end = m.UpTo
	if n := len(b.pages); n > 0 && b.pages[n-1].events.Len() == 0 {
		b.pages[n-1] = next // it includes the stretch without events before it
		return nil
	}
	b.pages = append(b.pages, next)
	return nil
}

// pick is the events of a shared answer that are this processor's.
func (b *pageBuffer) pick(m messages.EventsRead, pieces []slot.Piece) packed.Events {
	return m.Events.Pick(func(i int) bool {
		return wanted(b.scope.AggregateTypes, m.Events.AggregateType(i)) && wanted(b.scope.BoundedContexts, m.Events.BoundedContext(i)) &&
			(!m.FilterSlots || hasSlot(pieces, m.Events.Slot(i)))
	})
}

// wanted says whether a scope's list includes a name; an empty one includes all.
func wanted(list []string, name string) bool {
	return len(list) == 0 || slices.Contains(list, name)
}

// hasSlot says whether one of the pieces contains a slot.
func hasSlot(pieces []slot.Piece, s int) bool {
	return slices.ContainsFunc(pieces, func(p slot.Piece) bool { return p.Contains(s) })
}

// first is the page to be handled next; ok is false if there is none.
func (b *pageBuffer) first() (first page, ok bool) {
	if len(b.pages) == 0 {
		return page{}, false
	}
	return b.pages[0], true
}

// handled drops the first n events of the first page, and the page with its
// last event.
func (b *pageBuffer) handled(n int) {
	first := &b.pages[0]
	if first.events = first.events.Slice(n, first.events.Len()); first.events.Len() == 0 {
		b.pages = b.pages[1:]
	}
}
