package admin

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// explain says what the facts mean for each projection.
func (f *facts) explain() []Explanation {
	found := []Explanation{}
	for i, c := range f.checkpoints {
		if i > 0 && f.checkpoints[i-1].projection == c.projection {
			continue
		}
		e := Explanation{Projection: c.projection, Position: f.position, Event: f.event, HeldBackBy: []Transaction{}}
		if f.event == nil {
			e.Checkpoint = f.lowest(c.projection)
			f.explainNothing(&e)
		} else {
			f.explainEvent(&e)
		}
		if f.horizon.Position < f.position && e.Outcome == AboveHorizon {
			e.HeldBackBy = f.horizon.HeldBackBy
		}
		for _, r := range f.regressions {
			if r.SettledAt != nil && r.LastPosition < f.position && f.position <= r.Checkpoint {
				e.Reason += fmt.Sprintf(". The sequence of positions once stood at %d while a checkpoint was at %d, so the position may have been given up, or given twice", r.LastPosition, r.Checkpoint)
				break
			}
		}
		found = append(found, e)
	}
	return found
}

// lowest is the projection's lowest checkpoint.
func (f *facts) lowest(projection string) (at int64) {
	at = math.MaxInt64
	for _, c := range f.checkpoints {
		if c.projection == projection {
			at = min(at, c.Position)
		}
	}
	return at
}

// explainNothing explains a position without an event.
func (f *facts) explainNothing(e *Explanation) {
	switch allocated := f.horizon.LastAllocated; {
	case f.position <= f.horizon.Position:
		e.Outcome, e.Reason = Gap, "there is no event, and none can appear: the transaction was rolled back, or the event was deleted"
	case allocated != nil && f.position > *allocated:
		e.Outcome, e.Reason = NotYet, fmt.Sprintf("no event has been given the position: the last one given is %d", *allocated)
	default:
		e.Outcome, e.Reason = AboveHorizon, "an event may yet appear there: "+f.above()
	}
	if d := f.letter(e.Projection); d != nil {
		e.Reason += fmt.Sprintf(". A row in orchestrator_dead_letters, in state %s, is about an event there: Verify says what to do", d.state)
	}
}

// letter is the projection's row about the position. It is nil if the projection has no such row.
func (f *facts) letter(projection string) *letterAt {
	i := slices.IndexFunc(f.letters, func(d letterAt) bool { return d.projection == projection && d.position == f.position })
	if i < 0 {
		return nil
	}
	return &f.letters[i]
}

// above says that the position is above the horizon, and why.
func (f *facts) above() string {
	text := fmt.Sprintf("the horizon is at %d", f.horizon.Position)
	if len(f.horizon.HeldBackBy) == 0 {
		return text
	}
	names := make([]string, 0, len(f.horizon.HeldBackBy))
	for _, t := range f.horizon.HeldBackBy {
		names = append(names, t.String())
	}
	return text + ", held back by " + strings.Join(names, ", ")
}

// String describes the transaction for messages.
func (t Transaction) String() string {
	text := fmt.Sprintf("pid %d", t.PID)
	if t.PID == 0 {
		text = fmt.Sprintf("the prepared transaction %q", t.Prepared)
	}
	if t.Application != "" {
		text += fmt.Sprintf(" (%s)", t.Application)
	}
	if t.Since != nil {
		text += " since " + t.Since.UTC().Format(time.RFC3339)
	}
	return text
}

// explainEvent explains a position with an event.
func (f *facts) explainEvent(e *Explanation) {
	i := slices.IndexFunc(f.checkpoints, func(c checkpoint) bool { return c.projection == e.Projection && c.contains(f.event.Slot) })
	if i < 0 {
		e.Outcome, e.Reason = Uncovered, fmt.Sprintf("the projection has no checkpoint for slot %d: Verify says what to do", f.event.Slot)
		return
	}
	c := f.checkpoints[i]
	e.Partition, e.Checkpoint = c.partition, c.Position
	owner, present := f.owner(c)
	if present {
		e.WorkerName = owner.Name
	}
	d := f.letter(e.Projection)
	if d != nil && d.event != f.event.ID {
		d = nil // it is of another event that had the position
	}
	if c.Position >= f.position {
		explainPassed(e, d)
		return
	}
	f.explainWaiting(e, c, d, owner, present)
}

// explainPassed explains an event that the checkpoint has passed.
func explainPassed(e *Explanation, d *letterAt) {
	switch {
	case d == nil:
		e.Outcome, e.Reason = Passed, fmt.Sprintf("the checkpoint is at %d: a handler has handled the event if it is in the projection's scope, which only workers know, "+
			"and unless somebody has moved the checkpoint or discarded the event", e.Checkpoint)
	case d.state == "handled":
		e.Outcome, e.Reason = Handled, fmt.Sprintf("a handler has handled the event, after %d failed attempts: %s", d.attempts, d.err)
	case d.state == "parked" && d.attempts > 0:
		e.Outcome, e.Reason = PutAside, "the event is put aside, and its aggregate parked, because the handler failed on it: "+d.err
	case d.state == "parked":
		e.Outcome, e.Reason = PutAside, "the event is put aside, because its aggregate is parked"
	default: // skipped, or a checkpoint was moved past what was retried
		e.Outcome, e.Reason = Skipped, fmt.Sprintf("no handler has handled the event, and the checkpoint is at %d. The handler failed %d times: %s", e.Checkpoint, d.attempts, d.err)
	}
}

// explainWaiting explains an event that the checkpoint has not passed: what comes first of what is in its way.
func (f *facts) explainWaiting(e *Explanation, c checkpoint, d *letterAt, owner replicaset.Worker, present bool) {
	parked := f.parkedSince(e.Projection)
	before := f.retriedBefore(c)
	stands := slices.IndexFunc(f.regressions, func(r Regression) bool { return r.SettledAt == nil })
	by := replicaset.Replaced(e.Projection, f.successions)
	switch {
	case by != "":
		e.Outcome, e.Reason = Replaced, fmt.Sprintf("the projection was replaced by %q at %d, and handles nothing beyond that", by, c.Position)
	case stands >= 0:
		e.Outcome, e.Reason = Waiting, fmt.Sprintf("workers handle nothing of the events table: the sequence of positions stood at %d while a checkpoint was at %d, and a person must decide",
			f.regressions[stands].LastPosition, f.regressions[stands].Checkpoint)
	case c.StoppedAt != nil && *c.StoppedAt <= f.position:
		f.explainStopped(e, c, d)
	case c.HoldAt != nil && *c.HoldAt < f.position:
		e.Outcome, e.Reason = Held, fmt.Sprintf("the projection is held at %d", *c.HoldAt)
		if c.HoldUntil != nil {
			e.Reason += " until " + c.HoldUntil.UTC().Format(time.RFC3339)
		}
	case f.position > f.horizon.Position:
		e.Outcome, e.Reason = AboveHorizon, "the event is handled when no other can appear below it: "+f.above()
	case d != nil && d.state == "retrying":
		e.Outcome, e.Reason = Retrying, fmt.Sprintf("the handler failed on the event %d times, and is called again: %s", d.attempts, d.err)
	case f.runs(e.Projection) == 0:
		e.Outcome, e.Reason = Waiting, "no worker runs the projection, or those that do are drained"
	case !present:
		e.Outcome, e.Reason = Waiting, fmt.Sprintf("slot %d has no worker: it waits for a generation", f.event.Slot)
	case slices.Contains(owner.LeftOut, e.Projection):
		e.Outcome, e.Reason = Waiting, fmt.Sprintf("worker %q is left out, because of handlers of the projection that do not return", owner.Name)
	case parked != nil:
		e.Outcome, e.Behind = Waiting, &parked.position
		e.Reason = fmt.Sprintf("its aggregate is parked since the event at %d: the event will be put aside behind %d others", parked.position, parked.letters)
	case before != nil:
		e.Outcome, e.Behind = Waiting, &before.position
		e.Reason = fmt.Sprintf("its partition retries the event at %d, which has failed %d times: %s", before.position, before.attempts, before.err)
	default:
		e.Outcome, e.Reason = Waiting, fmt.Sprintf("partition %s on worker %q is at %d", c.partition, owner.Name, c.Position)
		if f.view.Generation.State == replicaset.Preparing {
			e.Reason += fmt.Sprintf(", and generation %d is being prepared", f.view.Generation.Number)
		}
	}
}

func (f *facts) explainStopped(e *Explanation, c checkpoint, d *letterAt) {
	if *c.StoppedAt == f.position {
		e.Outcome, e.Reason = Stopped, "the projection is stopped at the event until it is resumed"
		if d != nil {
			e.Reason += ": " + d.err
		}
		return
	}
	e.Outcome, e.Behind, e.Reason = Waiting, c.StoppedAt, fmt.Sprintf("the projection is stopped at the event at %d until it is resumed", *c.StoppedAt)
}

// owner is the worker that has the range, if it is there.
func (f *facts) owner(c checkpoint) (replicaset.Worker, bool) {
	if c.worker == nil {
		return replicaset.Worker{}, false
	}
	w, known := f.view.Worker(*c.worker)
	return w, known && w.Present()
}

// runs is how many workers are there that run the projection and are not drained.
func (f *facts) runs(projection string) int {
	n := 0
	for _, w := range f.view.Workers {
		if w.Present() && !w.Drained && slices.Contains(w.Projections, projection) {
			n++
		}
	}
	return n
}

// parkedSince is since which event the aggregate is parked for the projection; nil if it is not.
func (f *facts) parkedSince(projection string) *parkedAt {
	i := slices.IndexFunc(f.parked, func(p parkedAt) bool { return p.projection == projection })
	if i < 0 {
		return nil
	}
	return &f.parked[i]
}

// retriedBefore is the event that the partition of a range retries. It is nil if no event before the position is retried.
func (f *facts) retriedBefore(c checkpoint) *letterAt {
	for i, d := range f.letters {
		if d.projection != c.projection || d.position >= f.position || d.state != "retrying" {
			continue
		}
		for _, other := range f.checkpoints {
			if other.projection == c.projection && other.partition == c.partition && other.contains(d.slot) && other.Position < d.position {
				return &f.letters[i]
			}
		}
	}
	return nil
}
