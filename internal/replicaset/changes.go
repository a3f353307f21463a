package replicaset

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// Kind is what a Change is about, as the table of generations stores it.
type Kind string

// The kinds of changes. The first group calls for a new generation; the second says what else was found when it was made.
const (
	Joined       Kind = "joined"       // a worker came
	Left         Kind = "left"         // a worker left
	Lost         Kind = "lost"         // a worker was declared dead; Detail is the evidence
	Inconsistent Kind = "inconsistent" // a worker found checkpoints that contradict the generation
	Abandoned    Kind = "abandoned"    // a worker has abandoned handlers of Projections
	Returned     Kind = "returned"     // the abandoned handlers of Projections have returned
	Drained      Kind = "drained"      // somebody has drained a worker
	Undrained    Kind = "undrained"    // somebody has ended that

	NotReady  Kind = "not_ready" // a worker was not ready in time
	LeftOut   Kind = "left_out"  // a worker takes no partition of Projections, whose handlers it has abandoned
	Unhandled Kind = "unhandled" // no worker handles Projections
	Repaired  Kind = "repaired"  // checkpoints of Projections were deleted; Detail is their slots, which begin again
	Elsewhere Kind = "elsewhere" // Projections have checkpoints in the replica set that Detail names
)

// Change is one thing that a generation was made for, or with.
type Change struct {
	// Worker and Name are the worker's that it is about, if any.
	Worker uuid.UUID `json:"worker,omitzero"`
	Name   string    `json:"name,omitempty"`
	Kind   Kind      `json:"change"`
	// Projections are those that it is about, if any.
	Projections []string `json:"projections,omitempty"`
	// Detail says more, see the kinds.
	Detail string `json:"detail,omitempty"`
}

// String is the change in words for people.
func (c Change) String() string {
	called, projections := Called(c.Name, c.Worker), quoted(c.Projections)
	switch c.Kind {
	case Drained, Undrained:
		return called + " was " + string(c.Kind)
	case Joined, Left:
		return called + " " + string(c.Kind)
	case Lost:
		if c.Detail == "" {
			return called + " was declared dead"
		}
		return called + " was lost: " + c.Detail
	case Inconsistent:
		return called + " found checkpoints that contradict the generation"
	case Abandoned:
		return called + " has abandoned handlers of " + projections
	case Returned:
		return called + " takes part again in " + projections + ", whose abandoned handlers have returned"
	case NotReady:
		return called + " is not ready"
	case LeftOut:
		return called + " takes no partition of " + projections + ", because a handler that it abandoned has not returned"
	case Unhandled:
		return "no worker handles " + projections
	case Repaired:
		return fmt.Sprintf("checkpoints of projection %s were deleted: the slots %s begin again at position 0", projections, c.Detail)
	case Elsewhere:
		return fmt.Sprintf("projection %s has checkpoints in replica set %q: no worker of this one handles it", projections, c.Detail)
	}
	return strings.Join(strings.Fields(string(c.Kind)+" "+projections+" "+c.Detail), " ") // of a newer version
}

// quoted is names in words for people.
func quoted(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return strings.Join(quoted, ", ")
}

// Called is how people are told of a worker: its name, and the end of its id, since
// names need not be unique. (An id's beginning is the time.)
func Called(name string, id uuid.UUID) string {
	text := id.String()
	return fmt.Sprintf("worker %s (%s)", name, text[len(text)-8:])
}

// Reason is changes in words for people.
func Reason(changes []Change) string {
	sentences := make([]string, len(changes))
	for i, c := range changes {
		sentences[i] = c.String()
	}
	return strings.Join(sentences, "; ")
}

// Causes of a generation, as the table and the metric name them.
const (
	CauseFirst        = "first"        // there was none
	CauseJoined       = "joined"       // a worker came
	CauseLeft         = "left"         // a worker left
	CauseLost         = "lost"         // a worker died, froze or was cut off, whatever else happened with it
	CauseInconsistent = "inconsistent" // the checkpoints contradicted the generation
	CauseAbandoned    = "abandoned"    // a worker has abandoned a handler, or one has returned
	CauseDrained      = "drained"      // somebody has drained a worker, or ended that
	CauseChanged      = "changed"      // several of the others at once
)

// causes has the kinds that are a cause.
var causes = map[Kind]string{
	Joined: CauseJoined, Left: CauseLeft, Lost: CauseLost, Inconsistent: CauseInconsistent, Abandoned: CauseAbandoned, Returned: CauseAbandoned,
	Drained: CauseDrained, Undrained: CauseDrained,
}

// Cause is the one cause of a generation, from the changes that it was made for: the first generation stays the first, a lost worker comes
// before everything else, and others that differ are CauseChanged.
func Cause(first bool, changes []Change) string {
	if first {
		return CauseFirst
	}
	var found []string
	for _, c := range changes {
		if cause := causes[c.Kind]; cause != "" && !slices.Contains(found, cause) {
			found = append(found, cause)
		}
	}
	switch {
	case slices.Contains(found, CauseLost):
		return CauseLost
	case len(found) == 1:
		return found[0]
	}
	return CauseChanged
}

// Participant is a worker that may have come, stayed or gone since a generation was prepared.
type Participant struct {
	ID     uuid.UUID
	Name   string
	Was    bool // a member of the generation before
	Is     bool // a member of this one
	Dead   bool // it was declared dead; Detail says why
	Left   bool // it has left, or is about to
	Detail string
}

// Complete adds to the changes that a generation was prepared for what has become of the workers since. late says why a worker is excluded
// that excluded names.
func Complete(prepared []Change, workers []Participant, excluded []uuid.UUID, late string) []Change {
	changes := slices.Clone(prepared)
	told := func(id uuid.UUID, kinds ...Kind) bool {
		return slices.ContainsFunc(prepared, func(c Change) bool { return c.Worker == id && slices.Contains(kinds, c.Kind) })
	}
	for _, w := range workers {
		switch {
		case w.Is && !w.Was && !told(w.ID, Joined):
			changes = append(changes, Change{Worker: w.ID, Name: w.Name, Kind: Joined})
		case !w.Is && (w.Was || told(w.ID, Joined)) && !told(w.ID, Left, Lost):
			changes = append(changes, w.gone(excluded, late))
		}
	}
	return changes
}

// gone says what became of a worker that is no member.
func (w Participant) gone(excluded []uuid.UUID, late string) Change {
	c := Change{Worker: w.ID, Name: w.Name}
	switch {
	case w.Dead:
		c.Kind, c.Detail = Lost, w.Detail
	case w.Left:
		c.Kind = Left
	case slices.Contains(excluded, w.ID):
		c.Kind, c.Detail = Lost, late
	default:
		c.Kind = NotReady
	}
	return c
}
