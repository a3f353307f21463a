package messages

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// ReaderReady says where to ask for events. Supervisor → partition → processor,
// when there is a reader, and again when another has taken its place: what was
// asked of the one before is not answered any more.
type ReaderReady struct {
	// Reader is the address of the actor, as text.
	Reader string
}

// ReadEvents asks for the next events: it is the credit that lets the reader
// run ahead. Processor → reader, which answers with EventsRead, at once or when
// there are events. A processor has one question open at a time.
type ReadEvents struct {
	// Consumer names the processor, Sequence the question.
	Consumer string
	Sequence uint64
	// Epoch is the horizon's, see HorizonAdvanced.
	Epoch uint64
	// Pieces are the slots wanted, each with the position after which.
	Pieces []slot.Piece
	// Partial says that the pieces are not all of the partition's slots.
	Partial bool
	// AggregateTypes and BoundedContexts are the scope; empty means all.
	AggregateTypes, BoundedContexts []string
}

// EventsRead answers ReadEvents. Reader → processor.
type EventsRead struct {
	// Sequence is the question's.
	Sequence uint64
	// Events are in order of their positions and shared with other processors.
	// If Filter is set, they are more than was asked for: the processor picks its
	// own.
	Events packed.Events
	// UpTo is the position that the answer reaches: of the wanted events up to
	// and including it none is missing.
	UpTo int64
	// Filter says that the scope is the processor's to check, FilterSlots the
	// slots too.
	Filter, FilterSlots bool
	// Err is why nothing could be read; the rest is empty then.
	Err error
}

// IgnoreDeadLetterLogging keeps events out of the actor library's log.
func (EventsRead) IgnoreDeadLetterLogging() {}

func (ReaderReady) toPartition()  {}
func (ReaderReady) toProcessor()  {}
func (ReadEvents) toReader()      {}
func (EventsRead) toProcessor()   {}
func (HorizonAdvanced) toReader() {}
