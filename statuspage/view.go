package statuspage

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// view is what the page shows.
type view struct {
	Access   Access
	Title    string
	Done     string // what an action has done
	Interval time.Duration

	Known   bool   // something has been seen
	Failure string // why the database could not be read now
	SeenAgo string // how old what is shown is
	Seen    *moment

	Level    level
	Verdict  string
	Troubles []trouble

	Snapshot    admin.Snapshot
	Tiles       []tile
	Workers     []worker // those that are there
	Ended       []worker
	Projections []projection
	Groups      []group
	Generations []generation
	Holds       []held
	Drains      []held
	Operations  []operation
	Horizon     []fact
	Timeline    []entry // newest first
}

type tile struct {
	Name, Value, More string
	Level             level
}

type fact struct{ Name, Value string }

type worker struct {
	admin.Worker
	Class     string
	Level     level
	Status    string
	Owns      []string
	Heartbeat *moment
	Started   *moment
	Changed   *moment
}

type projection struct {
	admin.Projection
	Level       level
	Status      []string
	Lag, Rate   string
	Waits       string // for how long the oldest event does
	LagPlot     *plot
	Positions   *plot
	Bar         bar
	CanResume   bool
	HasEventsOf string
}

type group struct {
	admin.FailureGroup
	First, Last *moment
}

type generation struct {
	admin.Generation
	Created      *moment
	Took, Lasted string
}

type held struct {
	Name, Actor, Reason string
	Since, Until        *moment
}

type operation struct {
	admin.Operation
	Requested *moment
}

type entry struct {
	admin.Entry
	When *moment
}

// timelineShown is how many entries the page has.
const timelineShown = 40

// fill describes a state.
func (v *view) fill(s state) {
	v.Known = s.known
	if s.err != nil {
		v.Failure = s.err.Error()
	}
	if !s.known {
		return
	}
	v.Snapshot = s.snapshot
	now := s.snapshot.At
	v.Seen, v.SeenAgo = momentOf(&now, now), span(time.Since(s.seenAt))
	v.Troubles = troubles(s.snapshot)
	v.judge()
	v.fillWorkers(s)
	v.fillProjections(s)
	v.fillOperations(s)
	for _, g := range s.groups {
		v.Groups = append(v.Groups, group{g, momentOf(&g.First, now), momentOf(&g.Last, now)})
	}
	for _, g := range s.snapshot.Generations {
		shown := generation{Generation: g, Created: momentOf(g.CreatedAt, now)}
		if g.CreatedAt != nil && g.ActivatedAt != nil {
			shown.Took = span(g.ActivatedAt.Sub(*g.CreatedAt))
		}
		if g.ActivatedAt != nil {
			until := now
			if g.SupersededAt != nil {
				until = *g.SupersededAt
			}
			shown.Lasted = span(until.Sub(*g.ActivatedAt))
		}
		v.Generations = append(v.Generations, shown)
	}
	for _, e := range slices.Backward(s.timeline) {
		if len(v.Timeline) == timelineShown {
			break
		}
		v.Timeline = append(v.Timeline, entry{e, momentOf(&e.At, now)})
	}
	v.fillTiles()
}

// judge is all troubles in a sentence.
func (v *view) judge() {
	for _, t := range v.Troubles {
		v.Level = max(v.Level, t.Level)
	}
	g := v.Snapshot.Generation
	switch {
	case v.Failure != "":
		v.Level, v.Verdict = fault, "The database cannot be read"
	case v.Level == fault:
		v.Verdict = "Needs a person"
	case v.Level == warning:
		v.Verdict = "Worth a look"
	case g != nil && g.State == "preparing":
		v.Level, v.Verdict = note, "Generation "+strconv.FormatInt(g.Number, 10)+" is being prepared"
	case v.Level == note:
		v.Verdict = "Not running yet"
	default:
		v.Verdict = "All is well"
	}
}

func (v *view) fillWorkers(s state) {
	for _, w := range s.snapshot.Workers {
		shown := worker{Worker: w, Class: colourClass(s.colours, &w.ID), Status: w.State, Heartbeat: momentOf(w.LastHeartbeat, s.snapshot.At), Started: momentOf(w.StartedAt, s.snapshot.At), Changed: momentOf(w.StateChangedAt, s.snapshot.At)}
		switch silent := w.SilentFor(s.snapshot.At); {
		case silent > 0:
			shown.Level, shown.Status = fault, "silent for "+span(silent)
		case w.State == "dead":
			shown.Level = fault
		case w.State == "running":
		default:
			shown.Level = note
		}
		for _, p := range w.Partitions {
			shown.Owns = append(shown.Owns, p.Projection+" "+p.Partition)
		}
		if ended(w) {
			v.Ended = append(v.Ended, shown)
		} else {
			v.Workers = append(v.Workers, shown)
		}
	}
}

// coloursMost is how many colours there are.
const coloursMost = 8

// colourClass is the class of a worker's colour.
func colourClass(c colours, id *uuid.UUID) string {
	if id != nil {
		if number, has := c[*id]; has {
			return fmt.Sprintf("c%d", number%coloursMost)
		}
	}
	return "gone"
}

func (v *view) fillProjections(s state) {
	names := map[uuid.UUID]string{}
	for _, w := range s.snapshot.Workers {
		names[w.ID] = w.Name
	}
	owner := func(id *uuid.UUID) (name, class string) {
		if id != nil {
			name = names[*id]
		}
		return name, colourClass(s.colours, id)
	}
	for _, p := range s.snapshot.Projections {
		shown := projection{Projection: p, Lag: lagText(p.Lag, p.LagExact), Rate: rateOf(s.history, p.Name), Bar: barOf(p, owner), CanResume: p.Paused || p.Stopped}
		if p.LagSeconds != nil && p.Lag > 0 {
			shown.Waits = span(time.Duration(*p.LagSeconds * float64(time.Second)))
		}
		shown.LagPlot = plotOf(s.history, p.Name, "lag", func(p progress) int64 { return p.lag })
		shown.Positions = plotOf(s.history, p.Name, "position", func(p progress) int64 { return p.position })
		say := func(is bool, l level, text string) {
			if is {
				shown.Level = max(shown.Level, l)
				shown.Status = append(shown.Status, text)
			}
		}
		say(p.ReplacedBy != "", note, "replaced by "+p.ReplacedBy)
		say(p.Replay, note, "is to replace "+p.Replaces)
		say(p.Workers == 0 && p.ReplacedBy == "", fault, "nobody runs it")
		say(p.Stopped, fault, "stopped")
		say(p.Letters.Retrying > 0, warning, "retrying")
		say(p.Parked.Aggregates > 0, warning, counted(int64(p.Parked.Aggregates), "aggregate")+" parked")
		say(p.Paused && p.ReplacedBy == "", note, "paused")
		say(p.TurnsUntil != nil, note, "takes turns")
		v.Projections = append(v.Projections, shown)
	}
}

func (v *view) fillOperations(s state) {
	now := s.snapshot.At
	for _, h := range s.snapshot.Holds {
		v.Holds = append(v.Holds, held{h.Projection, h.Actor, h.Reason, momentOf(h.Since, now), momentOf(h.Until, now)})
	}
	for _, d := range s.snapshot.Drains {
		v.Drains = append(v.Drains, held{d.Worker, d.Actor, d.Reason, momentOf(d.Since, now), nil})
	}
	for _, o := range s.snapshot.Operations {
		v.Operations = append(v.Operations, operation{o, momentOf(o.RequestedAt, now)})
	}
	h := s.snapshot.Horizon
	v.Horizon = append(v.Horizon, fact{"Position", number(h.Position)})
	if h.LastAllocated != nil {
		v.Horizon = append(v.Horizon, fact{"Last position given", number(*h.LastAllocated)})
	}
	if stored := momentOf(h.StoredAt, now); stored != nil {
		v.Horizon = append(v.Horizon, fact{"Stored by a worker", number(h.StoredPosition) + ", " + stored.Ago})
	}
	for _, t := range h.HeldBackBy {
		since := ""
		if m := momentOf(t.Since, now); m != nil {
			since = ", began " + m.Ago
		}
		v.Horizon = append(v.Horizon, fact{"Held back by", t.String() + since})
	}
}

func (v *view) fillTiles() {
	s := v.Snapshot
	workers := tile{Name: "Workers", Value: strconv.Itoa(there(s)), More: "are there"}
	if silent := len(v.Workers) - there(s); silent > 0 {
		workers.Level, workers.More = fault, fmt.Sprintf("and %d silent", silent)
	} else if there(s) == 0 {
		workers.Level = fault
	}
	gen := tile{Name: "Generation", Value: "—", More: "none yet"}
	if g := s.Generation; g != nil {
		gen.Value, gen.More = number(g.Number), g.State
		if g.ActivatedAt != nil && g.State == "active" {
			gen.More = "active for " + span(s.At.Sub(*g.ActivatedAt))
		}
		if g.State == "preparing" {
			gen.Level = note
		}
	}
	var lag int64
	exact, behind := true, "no projection"
	var parked admin.Parked
	for _, p := range s.Projections {
		if p.Lag >= lag {
			lag, exact, behind = p.Lag, p.LagExact, p.Name
		}
		parked.Aggregates += p.Parked.Aggregates
		parked.Events += p.Parked.Events
	}
	behindMost := tile{Name: "Largest lag", Value: lagText(lag, exact), More: behind}
	if lag == 0 && len(s.Projections) > 0 {
		behindMost.More = "all caught up"
	}
	aside := tile{Name: "Parked", Value: number(int64(parked.Aggregates)), More: counted(parked.Events, "event") + " put aside"}
	if parked.Aggregates > 0 {
		aside.Level = warning
	}
	v.Tiles = []tile{workers, gen, behindMost, aside, {Name: "Horizon", Value: number(s.Horizon.Position), More: "position in the stream"}}
}
