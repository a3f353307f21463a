package actors

import (
	"sort"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// parked has the number of letters of each parked aggregate in the partition's slots. The fence keeps it true, because every other
// change of it raises the revision of the checkpoints. It is nil if no aggregate is parked.
type parked map[replicaset.Aggregate]int

// parkedIn is what of all that is parked for a projection belongs to a partition.
func parkedIn(all []replicaset.Parked, projection string, slots slot.Range) parked {
	var own parked
	for _, one := range all {
		if one.Projection == projection && slots.Contains(one.Slot) {
			if own == nil {
				own = parked{}
			}
			own[one.Aggregate] = one.Letters
		}
	}
	return own
}

// holds says whether an aggregate is parked.
func (p parked) holds(one replicaset.Aggregate) bool {
	_, is := p[one]
	return is
}

// aggregateOf is the event's aggregate.
func aggregateOf(e es.PersistedEvent) replicaset.Aggregate {
	return replicaset.Aggregate{BoundedContext: e.BoundedContext, Type: e.AggregateType, ID: e.AggregateID}
}

// portion is the events of a batch: those to be handled, and those of parked aggregates, which are put aside.
type portion struct {
	all, handle, aside packed.Events
	upTo               int64 // the position that the batch reaches if all is handled
	full               bool  // the next event's aggregate has as many letters as it may
}

// portion divides the events of the next batch.
func (p *processor) portion() portion {
	events, upTo := p.head()
	all := portion{all: events, handle: events, upTo: upTo}
	if len(p.parked) == 0 {
		return all
	}
	aside := handling.Aside(p.parked, p.policy.MaxParkedEvents, events.Len(), func(i int) replicaset.Aggregate { return aggregateOf(events.At(i)) })
	switch n := len(aside); {
	case n == events.Len():
	case n == 0:
		return portion{all: events.Slice(0, 1), full: true}
	default:
		all.all, all.upTo = events.Slice(0, n), events.Position(n-1)
	}
	all.handle = all.all.Pick(func(i int) bool { return !aside[i] })
	all.aside = all.all.Pick(func(i int) bool { return aside[i] })
	return all
}

// upToHandled cuts the portion after the events that were handled.
func (q portion) upToHandled(handled int) portion {
	if handled == q.handle.Len() {
		return q
	}
	q.upTo = q.handle.Position(handled - 1)
	whole := q.all.Len() == q.handle.Len()
	if q.handle = q.handle.Slice(0, handled); whole {
		q.all = q.handle
		return q
	}
	q.all = q.all.Slice(0, before(q.all, q.upTo+1))
	q.aside = q.aside.Slice(0, before(q.aside, q.upTo+1))
	return q
}

// before is how many of the events are before a position.
func before(events packed.Events, position int64) int {
	return sort.Search(events.Len(), func(i int) bool { return events.Position(i) >= position })
}

// setAside notes that the events of parked aggregates were recorded.
func (p *processor) setAside(events packed.Events) {
	for i := range events.Len() {
		p.parked[aggregateOf(events.At(i))]++
	}
	if events.Len() > 0 {
		p.worker.Metrics.EventsParked(p.fence.Projection, events.Len())
		p.showParked()
	}
}

// retried notes that letters of a parked aggregate were handled, and says whether any is left. If none is, the aggregate is not parked any more.
func (p parked) retried(of replicaset.Aggregate, letters int) (left bool) {
	n, is := p[of]
	if is {
		p[of] = max(1, n-letters)
	}
	return n > letters
}

// park notes that an event's aggregate was parked.
func (p *processor) park(of replicaset.Aggregate) {
	if p.parked == nil {
		p.parked = parked{}
	}
	p.parked[of]++
	p.worker.Metrics.EventsParked(p.fence.Projection, 1)
	p.showParked()
}

func (p *processor) showParked() {
	if len(p.parked) == 0 && !p.shownParked {
		return // a series that nothing needs
	}
	p.shownParked = true
	events := 0
	for _, letters := range p.parked {
		events += letters
	}
	p.worker.Metrics.Parked(p.fence.Projection, p.fence.Partition.String(), len(p.parked), events)
}

// stopFull has the projection stop at the next event: its aggregate is parked, and has as many letters as it may.
func (p *processor) stopFull(event es.PersistedEvent) {
	p.failing.position, p.failing.attempts, p.failing.last = event.GlobalPosition, 0, nil
	p.failing.kind, p.failing.frame = "too many letters", ""
	p.failing.text = handling.TooManyLetters
	p.failing.outcome = handling.Stop
	p.failing.unsettled = max(p.failing.unsettled, event.GlobalPosition) // a person may end the stop before it is read here
}
