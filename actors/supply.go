package actors

import (
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// supply is what a processor has read and not committed, and its open question
// to the reader. It belongs to the processor's goroutine.
type supply struct {
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
func (s *supply) reset(end int64) {
	s.sequence++ // an answer to the question before is dropped
	s.asked, s.pages, s.end = false, nil, end
}

// ask asks the reader for the next page if there is room and something to read.
func (s *supply) ask(c actor.Context, pieces []slot.Piece, horizon int64, epoch uint64) {
	if s.reader == nil || s.asked || len(s.pages) >= pagesAhead || horizon <= s.end {
		return
	}
	s.asked = true
	s.sequence++
	c.Request(s.reader, messages.ReadEvents{
		Consumer: s.consumer, Sequence: s.sequence, Epoch: epoch, Pieces: slot.Lift(pieces, s.end), Partial: s.partial,
		AggregateTypes: s.scope.AggregateTypes, BoundedContexts: s.scope.BoundedContexts,
	})
}

// take takes in an answer. It returns the error that the answer carries.
func (s *supply) take(m messages.EventsRead, pieces []slot.Piece) error {
	if !s.asked || m.Sequence != s.sequence {
		return nil
	}
	s.asked = false
	if m.Err != nil {
		return m.Err
	}
	next := page{events: m.Events, upTo: m.UpTo}
	if m.Filter {
		next.events = s.pick(m, pieces)
	}
	s.end = m.UpTo
	if n := len(s.pages); n > 0 && s.pages[n-1].events.Len() == 0 {
		s.pages[n-1] = next // it includes the stretch without events before it
		return nil
	}
	s.pages = append(s.pages, next)
	return nil
}

// pick is the events of a shared answer that are this processor's.
func (s *supply) pick(m messages.EventsRead, pieces []slot.Piece) packed.Events {
	return m.Events.Pick(func(i int) bool {
		return wanted(s.scope.AggregateTypes, m.Events.AggregateType(i)) && wanted(s.scope.BoundedContexts, m.Events.BoundedContext(i)) &&
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
func (s *supply) first() (first page, ok bool) {
	if len(s.pages) == 0 {
		return page{}, false
	}
	return s.pages[0], true
}

// handled drops the first n events of the first page, and the page with its
// last event.
func (s *supply) handled(n int) {
	first := &s.pages[0]
	if first.events = first.events.Slice(n, first.events.Len()); first.events.Len() == 0 {
		s.pages = s.pages[1:]
	}
}
