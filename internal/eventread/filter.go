package eventread

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// filteredSQL is the statement of a filtered read: $1 the lowest position, $2
// the highest, $3 the limit, and then what the shape asks for.
//
// It must walk the primary key and stop at the limit: any plan that sorts reads
// the whole backlog for every page. Two turns of phrase see to that, whatever the
// scope and however old the statistics. A filter written as nullif(…, false) IS
// NOT NULL fits no other index, and the planner takes it to hold for nearly every
// row, so it expects to meet the limit soon. And an upper bound written with ANY
// is not recognised as one half of a range, which, on a table without
// statistics, would be taken for 0.5 % of the rows. (On such a table, while it is
// only some pages long, sorting may still be chosen, and does not hurt.)
//
// Like the other filtered reads it fails where an empty answer could be a lie: on a standby, and where row-level security hides
// rows. Both guards are evaluated once, before the first row is looked for.
func filteredSQL(f shape) string {
	return `
SELECT ` + f.columns() + ` FROM {{events}}
WHERE global_position > $1::bigint AND global_position <= ANY (ARRAY[$2::bigint])` + f.filters(4) + `
ORDER BY global_position LIMIT {{limit on a primary}}`
}

// columns are what a shape selects.
func (f shape) columns() string {
	if f&withSlots != 0 {
		return eventrow.Columns + ", " + slot.SQL + "::int"
	}
	return eventrow.Columns
}

// filters are a shape's conditions besides positions and, with the scope index, types; their arguments begin with the number next.
func (f shape) filters(next int) string {
	var where strings.Builder
	and := func(format string, args ...any) {
		fmt.Fprintf(&where, "\n\tAND nullif("+format+", false) IS NOT NULL", args...)
	}
	if f&bySlotRange != 0 {
		and(slot.SQL+" >= $%d::bigint", next)
		and(slot.SQL+" < $%d::bigint", next+1)
		next += 2
	}
	if f&bySlot != 0 {
		and("global_position > ($%d::bigint[])[width_bucket("+slot.SQL+", $%d::bigint[])]", next+1, next)
		next += 2
	}
	if f&byAggregateType != 0 {
		and("aggregate_type = ANY ($%d::text[])", next)
		next++
	}
	if f&byBoundedContext != 0 {
		and("bounded_context = ANY ($%d::text[])", next)
	}
	return where.String()
}

// sql is the statement of a shape.
func (f shape) sql() string {
	switch {
	case f&byOneIndexedType != 0:
		return indexedTypeSQL(f)
	case f&byIndexedTypes != 0:
		return indexedTypesSQL(f)
	case f&bySlotKeys != 0:
		return slottedSQL(f)
	}
	return filteredSQL(f)
}

// read is the statement for q, which is valid, and its arguments. A result with fewer rows than complete has all
// that is wanted up to q.UpTo.
func (s *statements) read(q Query) (sql string, args []any, complete int) {
	var f shape
	args = append(make([]any, 0, 8), slot.Lowest(q.Pieces), q.UpTo, int64(q.Limit))
	complete = q.Limit
	types := slices.Compact(slices.Sorted(slices.Values(q.AggregateTypes)))
	switch byIndex := q.byScopeIndex && len(types) <= mostIndexedTypes; {
	case q.bySlotIndex:
		f |= bySlotKeys
		low, high := q.keys()
		args = append(args, low, high)
	case byIndex && len(types) == 1:
		f |= byOneIndexedType
		complete = min(q.Limit, mostWalked)
		args[2] = int64(complete)
		args = append(args, types[0])
	case byIndex && len(types) > 1:
		f |= byIndexedTypes
		limit, each := limitsOfTypes(q.Limit, len(types))
		complete, args[2] = each, int64(limit)
		args = append(args, types, int64(each))
	}
	bySlots, slots := q.slots()
	f |= bySlots
	args = append(args, slots...)
	if f&(byOneIndexedType|byIndexedTypes) == 0 && len(types) > 0 {
		f |= byAggregateType
		args = append(args, q.AggregateTypes)
	}
	if len(q.BoundedContexts) > 0 {
		f |= byBoundedContext
		args = append(args, q.BoundedContexts)
	}
	if q.WithSlots {
		f |= withSlots
	}
	return s.filtered[f](), args, complete
}

// unwanted is the position of slots that no piece covers: no event is above it.
const unwanted = math.MaxInt64

// steps is a function from slots to the position after which events are wanted:
// from slot from[i] on, up to the next one, it is position[i]. Slots below
// from[0] are unwanted. In SQL it is position[width_bucket(slot, from)].
type steps struct {
	from     []int64
	position []int64
}

// newSteps makes the steps from pieces that do not overlap.
func newSteps(pieces []slot.Piece) steps {
	ordered := inOrder(pieces)
	var s steps
	end := ordered[0].From
	for _, p := range ordered {
		if p.From > end {
			s.add(end, unwanted)
		}
		s.add(p.From, p.Position)
		end = p.To
	}
	if end < slot.Count {
		s.add(end, unwanted)
	}
	return s
}

// inOrder is the pieces ordered by their slots; the argument is not changed.
func inOrder(pieces []slot.Piece) []slot.Piece {
	bySlots := func(a, b slot.Piece) int { return cmp.Compare(a.From, b.From) }
	if slices.IsSortedFunc(pieces, bySlots) {
		return pieces
	}
	return slices.SortedFunc(slices.Values(pieces), bySlots)
}

// add appends a step, unless it is as high as the one before.
func (s *steps) add(from int, position int64) {
	if n := len(s.position); n > 0 && s.position[n-1] == position {
		return
	}
	s.from = append(s.from, int64(from))
	s.position = append(s.position, position)
}

// within returns the range from the first wanted slot to the last. level says whether events of all these slots are wanted after the same position.
func (s steps) within() (wanted slot.Range, level bool) {
	isWanted := func(position int64) bool { return position != unwanted }
	first := slices.IndexFunc(s.position, isWanted)
	last := len(s.position) - 1
	for last > first && !isWanted(s.position[last]) {
		last--
	}
	wanted = slot.Range{From: int(s.from[first]), To: slot.Count}
	if last+1 < len(s.from) {
		wanted.To = int(s.from[last+1])
	}
	return wanted, first == last
}

// slots returns the part of the shape that filters by slots, and its arguments. Comparing a slot with a range is cheaper than looking up its step, so the
// range comes first. The steps are only needed if the slots stand at different positions. The slot index has the slots in its keys.
func (q Query) slots() (f shape, args []any) {
	steps := newSteps(q.Pieces)
	wanted, alike := steps.within()
	switch {
	case q.bySlotIndex:
		alike = level(q.Pieces)
	case wanted != slot.All():
		f |= bySlotRange
		args = append(args, int64(wanted.From), int64(wanted.To))
	}
	if !alike {
		f |= bySlot
		args = append(args, steps.from, steps.position)
	}
	return f, args
}
