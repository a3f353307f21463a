package eventread

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Reads by the slot index. Its key is an event's block, which is 1024 positions, and its slot within the block: see slot.KeySQL. So what
// a range of slots has in one block lies side by side, and a worker's part of a block is found without looking at the events of others.
//
// A block's events come in the order of their slots. They are put in order here, since the server would copy each to sort them. A statement that
// is cut, by its limit or its bytes, has all blocks but the last one.

// slottedSQL is the statement that reads by the slot index: $1 the lowest position, $2 the highest, $3 the limit, $4 and $5 the ranges of keys,
// from $4 on and below $5, in order, and then what the shape asks for.
//
// No other index can serve it, since the bounds of the positions are filters. The planner does not know how many ranges there are and takes
// them for ten. With the inner limit, which is all that a range may have, it expects few rows however large the table is, so it does not compile the
// statement (jit_above_cost).
func slottedSQL(f shape) string {
	return `
SELECT event.* FROM unnest((SELECT $4::bigint[]), (SELECT $5::bigint[])) AS part (low, high), LATERAL (
	SELECT ` + f.columns() + ` FROM {{events}}
	WHERE ` + slot.KeySQL + ` >= part.low AND ` + slot.KeySQL + ` < part.high
		AND nullif(global_position > $1::bigint AND global_position <= $2::bigint, false) IS NOT NULL` + f.filters(6) + `
	LIMIT ` + strconv.Itoa(slot.BlockLength) + `
) AS event
LIMIT {{limit on a primary}}`
}

const (
	// leastSlotted is the least limit of a read by the slot index: the events of one block, and one of the next, which shows that
	// the block is complete.
	leastSlotted = slot.BlockLength + 1
	// fewBlocks are passed over as quickly by the primary key.
	fewBlocks = 4 * slot.BlockLength
	// mostBlocks is how many blocks a statement reads.
	mostBlocks = 1024
	// slottedPart is the part of the slots up to which the index is the quicker way. Each event that it finds costs the server half as much again as
	// one that is read by the primary key, which passes over one in a quarter of the time.
	slottedPart = 4
)

// slotted says whether a query may be read by the slot index, and whether that is quicker.
func (q Query) slotted() bool {
	wanted := 0
	for _, p := range q.Pieces {
		wanted += p.Len()
	}
	return wanted*slottedPart <= slot.Count && q.Limit >= leastSlotted && q.UpTo <= slot.MostKeyed && slot.Lowest(q.Pieces) >= 0
}

// keys are the ranges of keys of a query's slots in its blocks, in order.
func (q Query) keys() (low, high []int64) {
	var ranges []slot.Range
	for _, p := range inOrder(q.Pieces) {
		if n := len(ranges); n > 0 && ranges[n-1].To == p.From {
			ranges[n-1].To = p.To
			continue
		}
		ranges = append(ranges, p.Range)
	}
	first, last := slot.Block(slot.Lowest(q.Pieces)+1), slot.Block(q.UpTo)
	for block := first; block <= last; block++ {
		for _, r := range ranges {
			low = append(low, slot.Key(block, r.From))
			high = append(high, slot.Key(block, r.To))
		}
	}
	return low, high
}

// level says whether all pieces are at one position.
func level(pieces []slot.Piece) bool {
	return !slices.ContainsFunc(pieces, func(p slot.Piece) bool { return p.Position != pieces[0].Position })
}

// errCutBlock says that a statement was cut before it had one block.
var errCutBlock = errors.New("a block of the slot index has more bytes than a read")

// errDisorder says that blocks came out of order, so it is not known which are complete.
var errDisorder = errors.New("the blocks of the slot index came out of order")

// blocks takes in the rows of a read by the slot index.
type blocks struct {
	q    Query
	size int
	take func(Part)

	scan     eventrow.Scanner
	complete int   // events of the list whose blocks are complete; they are in order
	block    int64 // of the events after them
	reached  bool  // a block is complete
	bytes    int64 // of the lists before
}

// collectBlocks scans the rows of a read by the slot index, hands them over in parts, and closes it. Fewer than limit rows are all. Where size is
// the query's limit there is one part.
func collectBlocks(rows pgx.Rows, q Query, limit, size int, take func(Part), abandon context.CancelFunc) error {
	defer rows.Close()
	b := blocks{
		q: q, size: size, take: take, block: -1,
		scan: eventrow.Scanner{WithSlot: q.WithSlots, List: packed.Builder{Expected: min(size, q.Limit, eventrow.MostExpected)}},
	}
	events := 0
	for rows.Next() {
		row, err := b.scan.Row(rows)
		if err != nil {
			return fmt.Errorf("scanning an event: %w", err)
		}
		if err := b.add(&row); err != nil {
			abandon()
			return err
		}
		if events++; q.MaxBytes > 0 && b.bytes+b.scan.List.Bytes() >= q.MaxBytes {
			abandon()
			return b.cut()
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if events >= limit {
		return b.cut()
	}
	b.finish()
	b.hand(b.complete, q.UpTo)
	return nil
}

// add takes in a row.
func (b *blocks) add(row *packed.Row) error {
	switch block := slot.Block(row.Position); {
	case block < b.block:
		return errDisorder
	case block > b.block:
		last := b.scan.List.Len() - b.complete
		b.reached = b.reached || b.block >= 0
		b.finish()
		if b.size < b.q.Limit && b.complete > 0 && b.complete+last > b.size {
			b.hand(b.complete, slot.BlockStart(block))
		}
		b.block = block
	}
	b.scan.List.Add(row)
	return nil
}

// finish puts the events of the last block in order.
func (b *blocks) finish() {
	b.scan.List.SortFrom(b.complete)
	b.complete = b.scan.List.Len()
}

// cut hands over the complete blocks.
func (b *blocks) cut() error {
	if !b.reached {
		return errCutBlock
	}
	if b.complete > 0 { // else the part before has ended there
		b.hand(b.complete, slot.BlockStart(b.block))
	}
	return nil
}

// hand hands over the first n events of the list, which are all up to a position, and drops the others.
func (b *blocks) hand(n int, upTo int64) {
	size := b.scan.List.Bytes()
	list := b.scan.List.Cut()
	b.bytes += size
	b.complete = 0
	memory := list.Bytes()
	for ; n > b.size; n -= b.size {
		p := list.Slice(0, b.size)
		b.take(Part{Events: p, UpTo: p.Position(b.size - 1), Bytes: memory, size: size})
		list, memory, size = list.Slice(b.size, list.Len()), 0, 0 // which were counted for the first part
	}
	b.take(Part{Events: list.Slice(0, n), UpTo: upTo, Bytes: memory, size: size})
}
