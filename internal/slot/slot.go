package slot

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Count is the number of slots. It must never change: checkpoints of running
// deployments are expressed in it.
const Count = 1 << 16

// SQL is an event's slot, as an expression of the columns of the events table.
const SQL = `(pg_catalog.hashtextextended(aggregate_id, 0) & 65535)`

// The slot index finds events by their block, which is BlockLength positions, and their slot.
const (
	blockBits = 10
	// BlockLength is how many positions a block has.
	BlockLength = 1 << blockBits
	// MostKeyed is the highest position whose key is in the keys' order.
	MostKeyed = 1<<56 - 1
	// KeySQL is an event's key in the slot index, as an expression of the columns of the events table. It must never change: indexes are built on it.
	KeySQL = `(((global_position::bigint >> 10) << 16) | ` + SQL + `)`
)

// Block is the block of a position.
func Block(position int64) int64 { return position >> blockBits }

// BlockStart is the position before a block's first one.
func BlockStart(block int64) int64 { return block<<blockBits - 1 }

// Key is the key of a block and a slot. Count is one more than the last slot's.
func Key(block int64, slot int) int64 { return block*Count + int64(slot) }

// Range is a half open range of slots, [From, To).
type Range struct {
	From, To int
}

// All is the range of every slot.
func All() Range { return Range{From: 0, To: Count} }

// Len is the number of slots in the range.
func (r Range) Len() int { return r.To - r.From }

// Contains says whether the range holds slot s.
func (r Range) Contains(s int) bool { return r.From <= s && s < r.To }

// Valid says whether the range is not empty and lies within [0, Count).
func (r Range) Valid() bool { return 0 <= r.From && r.From < r.To && r.To <= Count }

// String writes the range as [from,to).
func (r Range) String() string { return fmt.Sprintf("[%d,%d)", r.From, r.To) }

// Intersect is the part that both ranges share; ok is false if there is none.
func (r Range) Intersect(o Range) (both Range, ok bool) {
	both = Range{From: max(r.From, o.From), To: min(r.To, o.To)}
	return both, both.From < both.To
}

// Partition names part Key of Total of the stream in one generation.
type Partition struct {
	Key, Total int
}

// String writes the partition as k/N.
func (p Partition) String() string { return fmt.Sprintf("%d/%d", p.Key, p.Total) }

// Valid says whether the partition can exist: 0 ≤ Key < Total ≤ Count.
func (p Partition) Valid() bool { return 0 <= p.Key && p.Key < p.Total && p.Total <= Count }

// Range is the slots that the partition owns: [k·Count/N, (k+1)·Count/N).
func (p Partition) Range() Range {
	return Range{From: p.Key * Count / p.Total, To: (p.Key + 1) * Count / p.Total}
}

// Piece is a range of slots and the position up to which its events have been
// handled.
type Piece struct {
	Range
	Position int64
	// Revision is raised by every change that the range's owner must know about.
	Revision int64
	// Stopped is the position of the event at which the projection is stopped: nothing from there on is handled. It is 0 where it is not stopped.
	Stopped int64
	// Held is the position from which on nothing is handled because somebody holds the range back. It is 0 where nobody does. HeldUntil is when that
	// ends, in microseconds since 1970; 0 if it has no end.
	Held, HeldUntil int64
}

// Rests says whether nothing of the piece may be handled: it is stopped, or has come to where it is held.
func (p Piece) Rests() bool { return p.Stopped != 0 || p.IsHeld() }

// IsHeld says whether the piece has come to where it is held.
func (p Piece) IsHeld() bool { return p.Held != 0 && p.Position >= p.Held-1 }

// Divide returns the pieces that may be handled, and those that rest.
func Divide(pieces []Piece) (running, resting []Piece) {
	for _, p := range pieces {
		if p.Rests() {
			resting = append(resting, p)
			continue
		}
		running = append(running, p)
	}
	return running, resting
}

// Ceiling is the highest position up to which all of the pieces may be handled.
func Ceiling(pieces []Piece) int64 {
	ceiling := int64(math.MaxInt64)
	for _, p := range pieces {
		if p.Held != 0 {
			ceiling = min(ceiling, p.Held-1)
		}
	}
	return ceiling
}

// Lowest is the lowest position among the pieces, where reading has to begin;
// 0 if there are none.
func Lowest(pieces []Piece) int64 {
	if len(pieces) == 0 {
		return 0
	}
	low := pieces[0].Position
	for _, p := range pieces[1:] {
		low = min(low, p.Position)
	}
	return low
}

// Advance returns the pieces after every event up to and including position has
// been handled: pieces below it are raised, the others keep their position.
// The argument is not changed.
func Advance(pieces []Piece, position int64) []Piece {
	advanced := slices.Clone(pieces)
	for i := range advanced {
		advanced[i].Position = max(advanced[i].Position, position)
	}
	return advanced
}

// Level says whether both lists of pieces, each of which covers every slot, have the same position at each.
func Level(a, b []Piece) bool {
	for _, p := range a {
		for _, q := range b {
			if _, meet := p.Intersect(q.Range); meet && p.Position != q.Position {
				return false
			}
		}
	}
	return true
}

// IsSetBack says whether a slot has a lower position than it had before.
func IsSetBack(now, before []Piece) bool {
	return slices.ContainsFunc(now, func(n Piece) bool {
		return slices.ContainsFunc(before, func(b Piece) bool {
			_, meet := n.Intersect(b.Range)
			return meet && n.Position < b.Position
		})
	})
}

// Highest is the highest position among the pieces; 0 if there are none.
func Highest(pieces []Piece) int64 {
	high := int64(0)
	for _, p := range pieces {
		high = max(high, p.Position)
	}
	return high
}

// Recut cuts the pieces along the borders of total partitions. Element k of the
// result holds the pieces of partition k, ordered by slot; neighbours within a
// partition that have the same position, and are stopped and held at the same, are
// joined; the higher revision counts then. Every slot keeps exactly
// the position that it had, so nothing is replayed and nothing skipped.
//
// The pieces must cover every slot once; Recut returns an error that names the
// first slot where they do not, and leaves the argument unchanged.
func Recut(pieces []Piece, total int) ([][]Piece, error) {
	if total < 1 || total > Count {
		return nil, fmt.Errorf("recutting the slots: the number of partitions must be between 1 and %d, got %d", Count, total)
	}
	ordered := slices.SortedFunc(slices.Values(pieces), func(a, b Piece) int { return cmp.Compare(a.From, b.From) })
	if err := checkCover(ordered); err != nil {
		return nil, fmt.Errorf("recutting the slots: %w", err)
	}
	cut := make([][]Piece, total)
	next := 0
	for k := range total {
		own := Partition{Key: k, Total: total}.Range()
		for i := next; i < len(ordered) && ordered[i].From < own.To; i++ {
			both, ok := ordered[i].Intersect(own)
			if !ok {
				continue
			}
			piece := ordered[i]
			piece.Range = both
			cut[k] = appendJoined(cut[k], piece)
			next = i
		}
	}
	return cut, nil
}

// Gaps is the slots that no piece covers, as few ranges, in order. The pieces need not
// be in order.
func Gaps(pieces []Piece) []Range {
	var gaps []Range
	at := 0
	for _, p := range slices.SortedFunc(slices.Values(pieces), func(a, b Piece) int { return cmp.Compare(a.From, b.From) }) {
		if p.From > at {
			gaps = append(gaps, Range{From: at, To: p.From})
		}
		at = max(at, p.To)
	}
	if at < Count {
		gaps = append(gaps, Range{From: at, To: Count})
	}
	return gaps
}

// Covers says whether the pieces are exactly the partition's slots, each once. Their order does not matter.
func (p Partition) Covers(pieces []Piece) bool {
	if !p.Valid() || len(pieces) == 0 {
		return false
	}
	ordered := slices.SortedFunc(slices.Values(pieces), func(a, b Piece) int { return cmp.Compare(a.From, b.From) })
	at := p.Range().From
	for _, piece := range ordered {
		if piece.From != at || piece.To <= at {
			return false
		}
		at = piece.To
	}
	return at == p.Range().To
}

// appendJoined appends p to the pieces, or lengthens the last of them if p
// continues it at the same position.
func appendJoined(pieces []Piece, p Piece) []Piece {
	if n := len(pieces); n > 0 && pieces[n-1].To == p.From && pieces[n-1].Position == p.Position && pieces[n-1].Stopped == p.Stopped && pieces[n-1].sameHold(p) {
		pieces[n-1].To, pieces[n-1].Revision = p.To, max(pieces[n-1].Revision, p.Revision)
		return pieces
	}
	return append(pieces, p)
}

// sameHold says whether both pieces are held alike.
func (p Piece) sameHold(q Piece) bool { return p.Held == q.Held && p.HeldUntil == q.HeldUntil }

// checkCover says whether the ordered pieces cover every slot exactly once.
func checkCover(ordered []Piece) error {
	at := 0
	for _, p := range ordered {
		switch {
		case !p.Valid():
			return fmt.Errorf("the range %v is empty or outside [0,%d)", p.Range, Count)
		case p.From > at:
			return fmt.Errorf("no checkpoint covers slot %d", at)
		case p.From < at:
			return fmt.Errorf("two checkpoints cover slot %d", p.From)
		}
		at = p.To
	}
	if at != Count {
		return fmt.Errorf("no checkpoint covers slot %d", at)
	}
	return nil
}
