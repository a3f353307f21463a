package waiting

import (
	"errors"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Why a wait cannot end well. Errors wrap them.
var (
	ErrNotRunning = errors.New("no worker runs the projection")
	ErrPaused     = errors.New("the projection is paused")
	ErrStopped    = errors.New("the projection is stopped at an event that could not be handled")
	ErrParked     = errors.New("the event's aggregate is parked for the projection")
	ErrReplaced   = errors.New("the projection was replaced at a cut-over")
)

// Wait is what somebody waits for: that a projection has handled the events up to a position, of one aggregate or of all.
type Wait struct {
	Projection string
	Position   int64
	Aggregate  *replicaset.Aggregate // nil for all
	// Letters says that an event that was put aside counts as handled.
	Letters bool
}

// Standing is where a projection stands, in one snapshot with everything else of the look.
type Standing struct {
	// ReplicaSet is the one that its checkpoints belong to, and EventsTable the table that their positions refer to; both are empty if it has none.
	ReplicaSet, EventsTable string
	// Pieces are its checkpoints.
	Pieces []slot.Piece
	// Running says whether a worker runs it, and LeftOut whether one would if it had not abandoned handlers of it.
	Running, LeftOut bool
	// PollOnly says whether a worker that runs it gets no notifications.
	PollOnly bool
	// Parked says whether an aggregate is parked for it.
	Parked bool
	// ReplacedBy is the projection that has replaced it; empty if none has.
	ReplacedBy string
	// CuttingOver says that a cut-over holds it, for a moment.
	CuttingOver bool
}

// Examined is what only a look at a wait's own aggregate and position shows.
type Examined struct {
	Slot int // the aggregate's
	// Parked says whether the aggregate is parked, and PutAside whether the event at the position is a letter of a parked aggregate.
	Parked, PutAside bool
}

// Verdict is what a look means for a wait.
type Verdict int

// The verdicts.
const (
	Behind  Verdict = iota // look again later
	Unclear                // the wait must be examined as well
	Done                   // what it waits for has been handled
	Failed                 // it waits in vain
)

// Decide says what a look means for a wait. known is its slot; negative if that is not known. examined is nil if this look has not examined it. events is
// the events table of the wait's position. here says whether this process is about to run the projection.
func Decide(w Wait, s Standing, known int, examined *Examined, events string, here bool) (Verdict, error) {
	if s.EventsTable != "" && s.EventsTable != events {
		return Failed, fmt.Errorf("its checkpoints are of events table %s, and the position is of %s", s.EventsTable, events)
	}
	if (w.Aggregate != nil && known < 0 || s.Parked && !w.Letters) && examined == nil {
		return Unclear, nil
	}
	behind, covered := s.behind(w, known)
	if covered && len(behind) == 0 {
		if examined != nil && examined.PutAside && !w.Letters {
			return Failed, fmt.Errorf("%w: the event at position %d is a dead letter", ErrParked, w.Position)
		}
		return Done, nil
	}
	if w.Aggregate != nil && examined != nil && examined.Parked {
		return Failed, fmt.Errorf("%w: aggregate %q of type %q in context %q", ErrParked, w.Aggregate.ID, w.Aggregate.Type, w.Aggregate.BoundedContext)
	}
	if s.ReplacedBy != "" {
		return Failed, fmt.Errorf("%w: wait for %q", ErrReplaced, s.ReplacedBy)
	}
	for _, p := range behind {
		if p.Stopped != 0 && p.Stopped <= w.Position {
			return Failed, fmt.Errorf("%w, at position %d", ErrStopped, p.Stopped)
		}
		if p.Held != 0 && p.Held <= w.Position && (!s.CuttingOver || p.HeldUntil == 0) {
			return Failed, fmt.Errorf("%w after position %d%s", ErrPaused, p.Held-1, until(p))
		}
	}
	switch {
	case s.Running || here:
		return Behind, nil
	case s.LeftOut:
		return Failed, fmt.Errorf("%w: those that have it wait for handlers that do not return (orchestrator_abandoned_handlers)", ErrNotRunning)
	case len(s.Pieces) == 0:
		return Failed, fmt.Errorf("%w, and none ever has", ErrNotRunning)
	}
	return Failed, fmt.Errorf("%w; it is at position %d", ErrNotRunning, slot.Lowest(s.Pieces))
}

// behind is the checkpoints that the wait waits for. covered says whether every slot of the wait has a checkpoint. Those of a projection do not overlap.
func (s Standing) behind(w Wait, known int) (behind []slot.Piece, covered bool) {
	missing := slot.Count
	if w.Aggregate != nil {
		missing = 1
	}
	for _, p := range s.Pieces {
		switch {
		case w.Aggregate == nil:
			missing -= p.Len()
		case !p.Contains(known):
			continue
		default:
			missing = 0
		}
		if p.Position < w.Position {
			behind = append(behind, p)
		}
	}
	return behind, missing == 0
}

// until says when a pause ends; empty if it has no end.
func until(p slot.Piece) string {
	if p.HeldUntil == 0 {
		return ""
	}
	return " until " + time.UnixMicro(p.HeldUntil).UTC().Format(time.RFC3339)
}
