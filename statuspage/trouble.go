package statuspage

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// level is how bad something is.
type level int

const (
	calm level = iota
	note
	warning
	fault
)

// String is the name of the level's class in the style sheet.
func (l level) String() string { return [...]string{"calm", "note", "warning", "fault"}[l] }

// Word is the level for people who do not see colours.
func (l level) Word() string { return [...]string{"Calm", "Note", "Warning", "Fault"}[l] }

// trouble is something that a person may have to see to.
type trouble struct {
	Level level
	Text  string
	Help  string // what to do
}

const (
	lateAfter     = 10 * time.Second // for a generation, and for a transaction that holds the horizon back
	recentlyAfter = 10 * time.Minute // for deaths
)

// troubles are those of a snapshot, the worst first.
func troubles(s admin.Snapshot) []trouble {
	t := ofWorkers(s)
	for _, p := range s.Projections {
		t = append(t, ofProjection(s, p)...)
	}
	t = append(t, ofStream(s)...)
	if v := s.Versions; v.Schema != v.LatestSchema {
		t = append(t, trouble{warning, fmt.Sprintf("The tables have version %d, and this program knows %d.", v.Schema, v.LatestSchema), "Run the migrations, or update this program."})
	}
	slices.SortStableFunc(t, func(a, b trouble) int { return int(b.Level - a.Level) })
	return t
}

// there is how many workers are there and give signs of life.
func there(s admin.Snapshot) (n int) {
	for _, w := range s.Workers {
		if !ended(w) && w.SilentFor(s.At) == 0 {
			n++
		}
	}
	return n
}

func ofWorkers(s admin.Snapshot) (t []trouble) {
	if s.Generation == nil && len(s.Workers) == 0 {
		return []trouble{{note, "No worker of this replica set has run yet.", "Start one."}}
	}
	if there(s) == 0 {
		t = append(t, trouble{fault, "No worker is there: nothing is handled.", "Start workers. They go on where the projections are."})
	}
	for _, w := range s.Workers {
		if silent := w.SilentFor(s.At); silent > 0 {
			t = append(t, trouble{fault, fmt.Sprintf("Worker %s has been silent for %s.", w.Name, span(silent)), "Look at its host and its log. Others take over when its timeout has passed."})
		}
		if w.State == "dead" && w.StateChangedAt != nil && s.At.Sub(*w.StateChangedAt) < recentlyAfter {
			t = append(t, trouble{warning, fmt.Sprintf("Worker %s was declared dead %s ago: %s.", w.Name, span(s.At.Sub(*w.StateChangedAt)), orDash(w.Detail)), "The others have taken over. Its log says why."})
		}
		for _, a := range w.Abandoned {
			t = append(t, trouble{
				fault, fmt.Sprintf("A handler of %s on worker %s has not returned from the event at %d.", a.Projection, w.Name, a.Position),
				"Restart the worker, and give the handler's calls a timeout.",
			})
		}
	}
	return append(t, ofGeneration(s)...)
}

// ofGeneration is the generation that is being prepared, and whom it waits for.
func ofGeneration(s admin.Snapshot) []trouble {
	g := s.Generation
	if g == nil || g.State != "preparing" || g.CreatedAt == nil {
		return nil
	}
	took := s.At.Sub(*g.CreatedAt)
	t := trouble{note, fmt.Sprintf("Generation %d has been in preparation for %s: %s.", g.Number, span(took), orDash(g.Reason)), "It is active when all workers are ready."}
	if took > lateAfter {
		t.Level = warning
	}
	var busy []string
	for _, w := range s.Workers {
		if !ended(w) && w.State != "ready" {
			busy = append(busy, w.Name)
		}
	}
	if len(busy) > 0 {
		t.Help = "It waits for " + strings.Join(busy, ", ") + "."
	}
	return []trouble{t}
}

func ofProjection(s admin.Snapshot, p admin.Projection) (t []trouble) {
	if p.Workers == 0 && p.ReplacedBy == "" && there(s) > 0 {
		t = append(t, trouble{fault, fmt.Sprintf("No worker runs projection %s.", p.Name), "Start a worker with it, or delete its checkpoints if it is no longer needed."})
	}
	if p.Stopped {
		t = append(t, trouble{fault, fmt.Sprintf("Projection %s is stopped at an event that it could not handle.", p.Name), "Repair the handler, then resume the projection."})
	}
	if n := p.Letters.Retrying; n > 0 {
		t = append(t, trouble{warning, fmt.Sprintf("Projection %s retries %s.", p.Name, counted(n, "event")), "The failures below have the error."})
	}
	if n := p.Parked.Aggregates; n > 0 {
		t = append(t, trouble{warning, fmt.Sprintf("Projection %s has parked %s, with %s.", p.Name, counted(int64(n), "aggregate"), counted(p.Parked.Events, "event")), "Repair the handler, then retry them."})
	}
	return t
}

func ofStream(s admin.Snapshot) (t []trouble) {
	for _, r := range s.Regressions {
		if r.SettledAt == nil {
			t = append(t, trouble{fault, fmt.Sprintf("The sequence of positions went back to %d, below the checkpoint %d: nothing is handled.", r.LastPosition, r.Checkpoint), "Decide which events count, then settle the regression."})
		}
	}
	for _, h := range s.Horizon.HeldBackBy {
		if h.Since != nil && s.At.Sub(*h.Since) > lateAfter {
			t = append(t, trouble{warning, fmt.Sprintf("An open transaction has held the horizon back for %s: %s.", span(s.At.Sub(*h.Since)), h), "Later events wait until it ends."})
		}
	}
	return t
}
