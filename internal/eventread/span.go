package eventread

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// span is over how many positions a statement goes at most, so that each keeps some progress. A statement passes over a position in
// which nothing is wanted in 0.2 µs, so one up to the horizon may take longer than the server allows, and would be repeated
// forever. It is a value; its owner guards it.
type span struct {
	first     int64 // where it begins, and falls back to
	positions int64
	quick     time.Duration // statements that take less could go over more positions
}

const (
	// firstSpan is passed over in some 30 ms.
	firstSpan = 1 << 17
	// firstIndexedSpan holds about as many events of types that are read by the index: see sparseBelow.
	firstIndexedSpan = 8 * firstSpan
	// slottedSpan is the blocks of a statement by the slot index.
	slottedSpan = mostBlocks * slot.BlockLength
	// widestSpan bounds what spans grow to. There may be holes wider than any stretch of events.
	widestSpan = 1 << 62

	quickRead = 25 * time.Millisecond
	slowRead  = 100 * time.Millisecond
	// leastQuick is for a timeout that has not measured the statement, as where somebody cancelled it.
	leastQuick = time.Millisecond
)

func newSpan(first int64) span { return span{first: first, positions: first, quick: quickRead} }

// end is where a statement ends that begins after one position and is to read up to another.
func (s *span) end(after, upTo int64) int64 {
	if upTo-after > s.positions {
		return after + s.positions
	}
	return upTo
}

// passed learns from a statement that went over so many positions.
func (s *span) passed(positions int64, took time.Duration) {
	switch {
	case took > slowRead:
		s.positions = min(s.positions, s.first)
	case took < s.quick && positions >= s.positions:
		s.positions = 2 * min(s.positions, widestSpan/2)
	}
	s.quick = min(s.quick+s.quick/32, quickRead)
}

// cut learns from a statement over so many positions that took longer than the server allows. From now on statements have a
// quarter of that time before the span grows again, which is forgotten by and by. It says whether fewer positions are worth an attempt.
func (s *span) cut(positions int64, took time.Duration) bool {
	s.positions = max(1, min(positions/4, s.first))
	s.quick = min(s.quick, max(took/4, leastQuick))
	return positions > 1
}
