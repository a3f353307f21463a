package messages

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// ReaderReady tells a processor where to ask for events. Supervisor → partition → processor, when there is a reader, and
// again when another one has replaced it. Questions to the previous reader are not answered any more.
type ReaderReady struct {
	// Reader is the address of the actor, as text.
	Reader string
}

// ReadEvents asks for the next events. It is the credit that lets the reader run ahead. Processor → reader, which
// answers with EventsRead at once, or as soon as there are events. A processor has one open question at a time.
type ReadEvents struct {
	// Consumer names the processor, and Sequence numbers the question.
	Consumer string
	Sequence uint64
	// Epoch is that of the horizon, see HorizonAdvanced.
	Epoch uint64
	// Pieces are the wanted slots, each with the position after which its events are wanted.
	Pieces []slot.Piece
	// Partial says that the pieces are not all of the partition's slots.
	Partial bool
	// AggregateTypes and BoundedContexts are the scope; empty means all.
	AggregateTypes, BoundedContexts []string
}

// EventsRead answers ReadEvents. Reader → processor.
type EventsRead struct {
	// Sequence is that of the question.
	Sequence uint64
	// Events are ordered by position, and shared with other processors. If Filter is set, they include events that were
	// not asked for, and the processor selects its own.
	Events packed.Events
	// UpTo is the position that the answer reaches. No wanted event up to and including it is missing.
	UpTo int64
	// Filter says that the processor must check the scope, and FilterSlots that it must also check the slots.
	Filter, FilterSlots bool
	// Err says why nothing could be read. The other fields are then empty.
	Err error
}

// IgnoreDeadLetterLogging keeps events out of the actor library's log.
func (EventsRead) IgnoreDeadLetterLogging() {}

func (ReaderReady) toPartition()  {}
func (ReaderReady) toProcessor()  {}
func (ReadEvents) toReader()      {}
func (EventsRead) toProcessor()   {}
func (HorizonAdvanced) toReader() {}
