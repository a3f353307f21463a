package replicaset

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Checkpoint is one row of orchestrator_checkpoints: a range of slots of a
// projection, how far it has been handled, and who owns it.
type Checkpoint struct {
	Projection string
	slot.Piece
	// Owner is the worker that handles the range, as part of Partition; the
	// zero UUID and partition while nobody does.
	Owner     uuid.UUID
	Partition slot.Partition
	// Generation is the one in which the row was last assigned.
	Generation int64
}

// Plan divides every projection among the members that run it and returns the
// new checkpoints, ordered by projection and slot. Every slot keeps its
// position. A member gets the partition numbers that it had when there were as
// many partitions before, else keeps those that it has, as far as the new number
// allows. A projection that no member runs is owned by
// nobody and keeps its ranges.
//
// The old checkpoints of each projection must cover every slot once.
func Plan(old []Checkpoint, members []Member) ([]Checkpoint, error) {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	byProjection := map[string][]Checkpoint{}
	for _, c := range old {
		byProjection[c.Projection] = append(byProjection[c.Projection], c)
	}
	preferred := preferredKeys(old)
	singles := map[uuid.UUID]int{}
	var planned []Checkpoint
	for _, projection := range slices.Sorted(maps.Keys(byProjection)) {
		rows := byProjection[projection]
		eligible, single := eligibleFor(projection, members)
		var owners []uuid.UUID
		switch {
		case len(eligible) == 0:
			planned = append(planned, disowned(rows)...)
			continue
		case single:
			owners = []uuid.UUID{singleOwner(rows, eligible, singles)}
		default:
			owners = assignKeys(eligible, preferred)
		}
		divided, err := divide(projection, rows, owners)
		if err != nil {
			return nil, err
		}
		planned = append(planned, divided...)
	}
	return planned, nil
}

// preferredKeys is the partition numbers that each worker has now, ascending.
// They are taken from the first projection that it has partitions of, so that
// its partitions of all projections get the same numbers.
func preferredKeys(old []Checkpoint) map[uuid.UUID][]int {
	ordered := slices.SortedStableFunc(slices.Values(old), func(a, b Checkpoint) int {
		return cmp.Or(cmp.Compare(a.Projection, b.Projection), cmp.Compare(a.From, b.From))
	})
	from := map[uuid.UUID]string{}
	keys := map[uuid.UUID][]int{}
	for _, c := range ordered {
		if c.Owner == uuid.Nil || c.Partition.Total <= 1 {
			continue
		}
		if projection, seen := from[c.Owner]; seen && projection != c.Projection {
			continue
		}
		from[c.Owner] = c.Projection
		if !slices.Contains(keys[c.Owner], c.Partition.Key) {
			keys[c.Owner] = append(keys[c.Owner], c.Partition.Key)
		}
	}
	return keys
}

// eligibleFor is the members that run the projection, and whether one of them
// says that it must not be divided.
func eligibleFor(projection string, members []Member) (eligible []Member, single bool) {
	for _, m := range members {
		if m.runs(projection) {
			eligible = append(eligible, m)
			single = single || slices.Contains(m.Unpartitioned, projection)
		}
	}
	return eligible, single
}

// disowned is the rows as they are, owned by nobody.
func disowned(rows []Checkpoint) []Checkpoint {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Owner, rows[i].Partition = uuid.Nil, slot.Partition{}
	}
	slices.SortFunc(rows, func(a, b Checkpoint) int { return cmp.Compare(a.From, b.From) })
	return rows
}

// singleOwner picks the worker of an undivided projection: the one that has it,
// else the one with the fewest such projections. It counts the choice in singles.
func singleOwner(rows []Checkpoint, eligible []Member, singles map[uuid.UUID]int) uuid.UUID {
	chosen := eligible[0].ID
	for _, m := range eligible {
		if len(rows) > 0 && rows[0].Owner == m.ID {
			chosen = m.ID
			break
		}
		if singles[m.ID] < singles[chosen] {
			chosen = m.ID
		}
	}
	singles[chosen]++
	return chosen
}

// assignKeys gives every member as many partition numbers as it takes: first
// those that it had with as many partitions, then those that it has, then what
// is free, in order. The result is indexed by partition number.
func assignKeys(members []Member, preferred map[uuid.UUID][]int) []uuid.UUID {
	total := 0
	for _, m := range members {
		total += max(m.Partitions, 1)
	}
	total = min(total, slot.Count)
	owners := make([]uuid.UUID, total)
	missing := make([]int, len(members))
	give := func(i int, keys []int) {
		for _, key := range keys {
			if missing[i] > 0 && 0 <= key && key < total && owners[key] == uuid.Nil {
				owners[key] = members[i].ID
				missing[i]--
			}
		}
	}
	for i, m := range members {
		missing[i] = max(m.Partitions, 1)
		give(i, m.Keys[total])
	}
	for i, m := range members {
		give(i, preferred[m.ID])
	}
	next := 0
	for key := range owners {
		if owners[key] != uuid.Nil {
			continue
		}
		for missing[next] == 0 {
			next++
		}
		owners[key] = members[next].ID
		missing[next]--
	}
	return owners
}

// Keys is the partition numbers of a worker in a plan, by the number of
// partitions, for Member.Keys of later plans.
func Keys(planned []Checkpoint, worker uuid.UUID) map[int][]int {
	keys := map[int][]int{}
	for _, c := range planned {
		if n := c.Partition.Total; c.Owner == worker && n > 1 && !slices.Contains(keys[n], c.Partition.Key) {
			keys[n] = append(keys[n], c.Partition.Key)
		}
	}
	return keys
}

// divide cuts the rows of one projection along the borders of len(owners)
// partitions.
func divide(projection string, rows []Checkpoint, owners []uuid.UUID) ([]Checkpoint, error) {
	pieces := make([]slot.Piece, len(rows))
	for i, c := range rows {
		pieces[i] = c.Piece
	}
	cut, err := slot.Recut(pieces, len(owners))
	if err != nil {
		return nil, fmt.Errorf("dividing projection %q into %d partitions: %w", projection, len(owners), err)
	}
	var divided []Checkpoint
	for key, own := range cut {
		for _, piece := range own {
			divided = append(divided, Checkpoint{
				Projection: projection,
				Piece:      piece,
				Owner:      owners[key],
				Partition:  slot.Partition{Key: key, Total: len(owners)},
			})
		}
	}
	return divided, nil
}

// Compare sorts the rows of a change: those whose range is gone, those whose
// range stays, with their new owner, and those whose range is new.
func Compare(old, planned []Checkpoint) (gone, kept, added []Checkpoint) {
	type key struct {
		projection string
		slots      slot.Range
	}
	stays := map[key]bool{}
	had := map[key]bool{}
	for _, c := range old {
		had[key{c.Projection, c.Range}] = true
	}
	for _, c := range planned {
		k := key{c.Projection, c.Range}
		if stays[k] = had[k]; had[k] {
			kept = append(kept, c)
		} else {
			added = append(added, c)
		}
	}
	for _, c := range old {
		if !stays[key{c.Projection, c.Range}] {
			gone = append(gone, c)
		}
	}
	return gone, kept, added
}
