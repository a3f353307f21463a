package slot_test

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// totals draws a number of partitions: mostly a usual one, sometimes many.
func totals() *rapid.Generator[int] {
	return rapid.OneOf(rapid.IntRange(1, 64), rapid.IntRange(1, 64), rapid.IntRange(65, 1000))
}

// covers draws pieces that cover every slot once, in any order. Few positions
// are drawn from, so that neighbours are often equal.
func covers() *rapid.Generator[[]slot.Piece] {
	return rapid.Custom(func(t *rapid.T) []slot.Piece {
		borders := rapid.SliceOfNDistinct(rapid.IntRange(1, slot.Count-1), 0, 40, rapid.ID[int]).Draw(t, "borders")
		borders = append(borders, 0, slot.Count)
		slices.Sort(borders)
		pieces := make([]slot.Piece, 0, len(borders))
		for i, from := range borders[:len(borders)-1] {
			p := piece(from, borders[i+1], rapid.Int64Range(0, 5).Draw(t, "position"))
			p.Revision, p.Stopped = rapid.Int64Range(0, 3).Draw(t, "revision"), rapid.SampledFrom([]int64{0, 0, 0, 6, 7}).Draw(t, "stopped")
			p.Held, p.HeldUntil = rapid.SampledFrom([]int64{0, 0, 3}).Draw(t, "held"), rapid.SampledFrom([]int64{0, 0, 9}).Draw(t, "until")
			pieces = append(pieces, p)
		}
		return rapid.Permutation(pieces).Draw(t, "order")
	})
}

// positions is the position of every slot, and where it is stopped and held: the ranges between which they differ, in order.
func positions(pieces []slot.Piece) []slot.Piece {
	pieces = slices.SortedFunc(slices.Values(pieces), func(a, b slot.Piece) int { return cmp.Compare(a.From, b.From) })
	for i := range pieces {
		pieces[i].Revision = 0
	}
	all := pieces[:1]
	for _, p := range pieces[1:] {
		if last := &all[len(all)-1]; last.To == p.From && last.Position == p.Position && restsAlike(*last, p) {
			last.To = p.To
		} else {
			all = append(all, p)
		}
	}
	return all
}

// restsAlike says whether both pieces are stopped and held at the same.
func restsAlike(p, q slot.Piece) bool {
	return p.Stopped == q.Stopped && p.Held == q.Held && p.HeldUntil == q.HeldUntil
}

// raised returns the pieces cut at the range's ends, with those within it at a position or above.
func raised(pieces []slot.Piece, own slot.Range, position int64) []slot.Piece {
	var all []slot.Piece
	for _, p := range pieces {
		borders := []int{p.From, min(max(own.From, p.From), p.To), min(max(own.To, p.From), p.To), p.To}
		for i, at := range []int64{p.Position, max(p.Position, position), p.Position} {
			if borders[i] < borders[i+1] {
				part := piece(borders[i], borders[i+1], at)
				part.Revision, part.Stopped, part.Held, part.HeldUntil = p.Revision, p.Stopped, p.Held, p.HeldUntil
				all = append(all, part)
			}
		}
	}
	return all
}

// checkCut fails unless cut is what Recut promises for total partitions.
func checkCut(t *rapid.T, cut [][]slot.Piece, total int) {
	if len(cut) != total {
		t.Fatalf("%d partitions instead of %d", len(cut), total)
	}
	at := 0
	for k, pieces := range cut {
		own := slot.Partition{Key: k, Total: total}.Range()
		for i, p := range pieces {
			if !p.Valid() || p.From < own.From || p.To > own.To {
				t.Fatalf("piece %v of partition %d/%d is not within %v", p, k, total, own)
			}
			if p.From != at {
				t.Fatalf("after slot %d comes %v in partition %d/%d: a gap or an overlap", at, p, k, total)
			}
			if i > 0 && pieces[i-1].Position == p.Position && restsAlike(pieces[i-1], p) {
				t.Fatalf("neighbours %v and %v of partition %d/%d were not joined", pieces[i-1], p, k, total)
			}
			at = p.To
		}
	}
	if at != slot.Count {
		t.Fatalf("the pieces end at slot %d", at)
	}
}

func TestPropertyEverySlotKeepsItsPosition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := covers().Draw(t, "pieces")
		given := slices.Clone(pieces)
		want := positions(pieces)
		for i := range rapid.IntRange(1, 5).Draw(t, "recuts") {
			total := totals().Draw(t, "total")
			cut, err := slot.Recut(pieces, total)
			if err != nil {
				t.Fatalf("recut %d into %d: %v", i, total, err)
			}
			checkCut(t, cut, total)
			if i == 0 && !slices.Equal(given, pieces) {
				t.Fatalf("the argument was changed")
			}
			pieces = slices.Concat(cut...)
			if !slot.Level(given, pieces) {
				t.Fatalf("recut %d into %d: a slot has another position", i, total)
			}
			if got := positions(pieces); !slices.Equal(want, got) {
				t.Fatalf("recut %d into %d moved a slot's position", i, total)
			}
			for _, before := range given {
				for _, after := range pieces {
					if _, both := before.Intersect(after.Range); both && after.Revision < before.Revision {
						t.Fatalf("recut %d into %d lowered a slot's revision", i, total)
					}
				}
			}
		}
	})
}

// Handling events between the changes of N: the slots of a partition that
// handled everything up to a position stand at it or above, no other slot moves.
func TestPropertyAdvanceMovesOnlyItsPartition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := covers().Draw(t, "pieces")
		for range rapid.IntRange(1, 5).Draw(t, "generations") {
			total := totals().Draw(t, "total")
			cut, err := slot.Recut(pieces, total)
			if err != nil {
				t.Fatal(err)
			}
			k := rapid.IntRange(0, total-1).Draw(t, "partition")
			up := rapid.Int64Range(0, 8).Draw(t, "up to")
			want := positions(raised(pieces, slot.Partition{Key: k, Total: total}.Range(), up))
			cut[k] = slot.Advance(cut[k], up)
			pieces = slices.Concat(cut...)
			if !slices.Equal(want, positions(pieces)) {
				t.Fatalf("advancing partition %d/%d to %d gave wrong positions", k, total, up)
			}
		}
	})
}

func TestPropertyLiftedPiecesMeetAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := covers().Draw(t, "pieces")
		total := totals().Draw(t, "total")
		cut, err := slot.Recut(pieces, total)
		if err != nil {
			t.Fatal(err)
		}
		for k := range cut {
			for i := range cut[k] {
				cut[k][i] = piece(cut[k][i].From, cut[k][i].To, cut[k][i].Position) // as if resumed
			}
		}
		top := int64(0)
		for _, p := range pieces {
			top = max(top, p.Position)
		}
		for k := range cut {
			cut[k] = slot.Advance(cut[k], top)
		}
		again, err := slot.Recut(slices.Concat(cut...), total)
		if err != nil {
			t.Fatal(err)
		}
		for k, pieces := range again {
			own := slot.Partition{Key: k, Total: total}.Range()
			if len(pieces) != 1 || pieces[0] != (slot.Piece{Range: own, Position: top}) {
				t.Fatalf("partition %d/%d has %v instead of one piece at %d", k, total, pieces, top)
			}
		}
	})
}

func TestPropertyPartitionsDivideTheSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.OneOf(totals(), rapid.IntRange(1, slot.Count)).Draw(t, "total")
		at, least, most := 0, slot.Count, 0
		for k := range total {
			r := slot.Partition{Key: k, Total: total}.Range()
			if !r.Valid() || r.From != at {
				t.Fatalf("partition %d/%d has %v, the one before ended at %d", k, total, r, at)
			}
			at = r.To
			least, most = min(least, r.Len()), max(most, r.Len())
		}
		if at != slot.Count {
			t.Fatalf("%d partitions end at slot %d", total, at)
		}
		if most-least > 1 {
			t.Fatalf("the %d partitions have between %d and %d slots", total, least, most)
		}
	})
}

// What is missing from a cover is found, whatever it is, and nothing else.
func TestPropertyGapsAreWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := covers().Draw(t, "pieces")
		kept := rapid.SliceOfN(rapid.Bool(), len(all), len(all)).Draw(t, "kept")
		var pieces []slot.Piece
		for i, p := range all {
			if kept[i] {
				pieces = append(pieces, p)
			}
		}
		for i, gap := range slot.Gaps(pieces) {
			if i > 0 && pieces[len(pieces)-1].To == gap.From {
				t.Fatalf("the gap %v touches the one before", gap)
			}
			pieces = append(pieces, slot.Piece{Range: gap})
		}
		if _, err := slot.Recut(pieces, 1); err != nil {
			t.Fatalf("with the gaps: %v", err)
		}
	})
}

// A cover that is damaged anywhere is refused, never silently repaired.
func TestPropertyDamagedCoverIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pieces := covers().Draw(t, "pieces")
		i := rapid.IntRange(0, len(pieces)-1).Draw(t, "damaged")
		switch rapid.SampledFrom([]string{"removed", "repeated", "shortened", "moved"}).Draw(t, "damage") {
		case "removed":
			pieces = slices.Delete(pieces, i, i+1)
		case "repeated":
			pieces = append(pieces, pieces[i])
		case "shortened":
			pieces[i].To--
		case "moved":
			pieces[i].From--
		}
		if cut, err := slot.Recut(pieces, totals().Draw(t, "total")); err == nil {
			t.Fatalf("recut %v into %v", pieces, cut)
		}
	})
}
