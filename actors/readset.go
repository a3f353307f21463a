package actors

import (
	"cmp"
	"slices"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// readSet is everything that the processors of an assignment want together.
type readSet struct {
	slots []slot.Range
	scope handling.Scope
	// several says that not all want the same, severalSlots that it is their
	// slots that differ: then each event's slot must be known.
	several, severalSlots bool
	// shares is into how many parts their slots divide what is read.
	shares int
}

// readSetOf joins an assignment's slots, and its projections' scopes.
func readSetOf(w *worker, a messages.Assignment) readSet {
	var u readSet
	var scopes []handling.Scope
	var ranges [][]slot.Range
	for _, p := range a.Partitions {
		for _, assigned := range p.Projections {
			own := []slot.Range{p.Partition.Range()}
			if !slices.ContainsFunc(ranges, func(r []slot.Range) bool { return slices.Equal(r, own) }) {
				ranges = append(ranges, own)
			}
			if scope, runs := w.scopes[assigned.Projection]; runs {
				scopes = append(scopes, scope)
			}
		}
	}
	for _, r := range ranges {
		u.slots = append(u.slots, r...)
	}
	u.slots = joined(u.slots)
	u.shares, u.severalSlots = len(ranges), len(ranges) > 1
	u.scope = joinedScope(scopes)
	u.several = u.severalSlots || slices.ContainsFunc(scopes, func(s handling.Scope) bool { return !sameScope(s, u.scope) })
	return u
}

// piecesAfter is the set's slots, each from one position on.
func (u readSet) piecesAfter(position int64) []slot.Piece {
	pieces := make([]slot.Piece, len(u.slots))
	for i, r := range u.slots {
		pieces[i] = slot.Piece{Range: r, Position: position}
	}
	return pieces
}

// wantsSlots says whether one of some slots is in the set.
func (u readSet) wantsSlots(slots []int32) bool {
	return slices.ContainsFunc(slots, func(s int32) bool {
		return slices.ContainsFunc(u.slots, func(r slot.Range) bool { return r.Contains(int(s)) })
	})
}

// joined merges ranges that overlap or touch.
func joined(ranges []slot.Range) []slot.Range {
	slices.SortFunc(ranges, func(a, b slot.Range) int { return cmp.Compare(a.From, b.From) })
	var merged []slot.Range
	for _, r := range ranges {
		if n := len(merged); n > 0 && r.From <= merged[n-1].To {
			merged[n-1].To = max(merged[n-1].To, r.To)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// joinedScope is the least scope that includes all.
func joinedScope(scopes []handling.Scope) handling.Scope {
	var u handling.Scope
	types, contexts := true, true // every scope names some
	for _, s := range scopes {
		types = types && len(s.AggregateTypes) > 0
		contexts = contexts && len(s.BoundedContexts) > 0
		u.AggregateTypes = append(u.AggregateTypes, s.AggregateTypes...)
		u.BoundedContexts = append(u.BoundedContexts, s.BoundedContexts...)
	}
	if !types {
		u.AggregateTypes = nil
	}
	if !contexts {
		u.BoundedContexts = nil
	}
	u.AggregateTypes = sorted(u.AggregateTypes)
	u.BoundedContexts = sorted(u.BoundedContexts)
	return u
}

// sorted is the list in order, each text once.
func sorted(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// sameScope says whether two scopes want the same events.
func sameScope(a, b handling.Scope) bool {
	return slices.Equal(sorted(a.AggregateTypes), sorted(b.AggregateTypes)) &&
		slices.Equal(sorted(a.BoundedContexts), sorted(b.BoundedContexts))
}
