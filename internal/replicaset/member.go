package replicaset

import (
	"slices"

	"github.com/google/uuid"
)

// Member is a worker as the plan sees it.
type Member struct {
	ID            uuid.UUID
	Name          string
	Projections   []string
	Unpartitioned []string
	Partitions    int
	// LeftOut is the projections that the worker runs and takes no part in, because it
	// has abandoned handlers of theirs. They are not in Projections.
	LeftOut []string
	// Drained is set by Drain, and Resting the projections that it then takes no part in.
	Drained bool
	Resting []string
	// Keys is the partition numbers that the worker, or one of its name before
	// it, had when there were so many partitions.
	Keys map[int][]int
}

// runs says whether the member runs the projection.
func (m Member) runs(projection string) bool { return slices.Contains(m.Projections, projection) }

// LeaveOut takes the projections of a member's abandoned handlers from those that it
// runs. abandoned is ordered.
func (m *Member) LeaveOut(abandoned []string) {
	m.LeftOut = slices.Compact(abandoned)
	m.Projections = slices.DeleteFunc(m.Projections, func(p string) bool { return slices.Contains(m.LeftOut, p) })
}

// Drain takes all projections from those that the member runs.
func (m *Member) Drain() { m.Drained, m.Resting, m.Projections = true, m.Projections, nil }

// LeftOutBy is which projections members leave out, and which of those, and of drained members', nobody is left to handle.
func LeftOutBy(members []Member) (changes []Change) {
	var unhandled []string
	for _, m := range members {
		for _, p := range slices.Concat(m.LeftOut, m.Resting) {
			if !slices.Contains(unhandled, p) && !slices.ContainsFunc(members, func(m Member) bool { return m.runs(p) }) {
				unhandled = append(unhandled, p)
			}
		}
		if len(m.LeftOut) > 0 {
			changes = append(changes, Change{Worker: m.ID, Name: m.Name, Kind: LeftOut, Projections: m.LeftOut})
		}
	}
	if len(unhandled) > 0 {
		changes = append(changes, Change{Kind: Unhandled, Projections: unhandled})
	}
	return changes
}
