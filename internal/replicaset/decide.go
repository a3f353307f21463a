package replicaset

import (
	"fmt"
	"slices"
	"time"
)

// Decide is what follows from what the coordinator sees: its next state and
// what to do. It is a pure function.
func Decide(s State, v View) (State, []Action) {
	me, known := v.Worker(s.Self)
	if !known {
		if s.Leaving {
			return s, []Action{Leave{}}
		}
		if s.Partitions != Idle {
			return stopping(s, true, "the worker's row is gone")
		}
		return s, []Action{Join{}}
	}
	s.absent = missingSince(s, v)
	if s.LeaderlessSince = leaderlessSince(s, v); s.LeaderlessSince == nil {
		s.warned = false
	}
	s, actions := DecideOwn(s, v, me)
	actions = append(actions, decideLeader(s, v)...)
	if len(actions) == 0 && prunes(s, v) {
		s.pruned = v.Generation.Number
		actions = append(actions, Prune{})
	}
	if !s.Leaving && !s.warned && LeadsUnlocked(s, v) {
		s.warned = true
		actions = append([]Action{WarnOfLockHolder{}}, actions...)
	}
	s, forAppends := onAppends(s, v)
	return s, append(actions, forAppends...)
}

// onAppends is what follows from positions that were drawn since the last look.
// The looks at the replica set stand in for looks at the events: after a while
// without events a worker's horizon hardly looks by itself. The leader, which
// looks most often, tells the others when events begin to come; while they do, the
// others see it themselves. The wake-up trigger does not make that needless: a
// transaction that was to notify may have been rolled back.
func onAppends(s State, v View) (State, []Action) {
	if v.Glance {
		return s, nil
	}
	began := !s.changed
	s.changed = v.LastAllocated != s.lastAllocated
	s.lastAllocated = v.LastAllocated
	switch {
	case !s.changed:
		return s, nil
	case began && Leads(s, v) && len(v.Workers) > 1:
		return s, []Action{WakeHorizon{}, AnnounceAppends{}}
	default:
		return s, []Action{WakeHorizon{}}
	}
}

// stopping asks for the partitions to be stopped, once.
func stopping(s State, now bool, reason string) (State, []Action) {
	if s.Partitions == Draining {
		return s, nil
	}
	s.Partitions = Draining
	return s, []Action{StopPartitions{Generation: s.Generation, Now: now, Reason: reason}}
}

// DecideOwn is what the worker does about itself: follow the generation.
func DecideOwn(s State, v View, me Worker) (State, []Action) {
	if s.Leaving {
		return decideLeaving(s, v, me)
	}
	if !me.Present() {
		if s.Partitions != Idle {
			return stopping(s, true, "the worker was declared dead")
		}
		return s, []Action{Rejoin{}}
	}
	switch g := v.Generation; {
	case g.State == Preparing:
		return decidePreparing(s, v, me)
	case g.State == Active && slices.Contains(g.Members, s.Self):
		return decideMember(s, v, me)
	case s.Partitions != Idle:
		return stopping(s, true, "the worker is not a member of the active generation")
	case me.State != Pending:
		return s, []Action{Report{State: Pending}}
	}
	return s, nil
}

// decideLeaving finishes what is in flight, then says goodbye.
func decideLeaving(s State, v View, me Worker) (State, []Action) {
	if s.Partitions == Idle {
		return s, append(unrecorded(s, v, me), Leave{})
	}
	s, actions := stopping(s, false, "the worker is leaving")
	if me.State != Stopping && me.State != Dead {
		actions = append(actions, Report{State: Stopping, Generation: s.Generation})
	}
	return s, actions
}

// decidePreparing drains before it reports ready: what is reported is true.
func decidePreparing(s State, v View, me Worker) (State, []Action) {
	g := v.Generation
	if s.Partitions != Idle {
		s, actions := stopping(s, false, fmt.Sprintf("generation %d is in preparation: %s", g.Number, g.Reason))
		for i, a := range actions {
			if stop, is := a.(StopPartitions); is {
				stop.After = stopAfter(v)
				actions[i] = stop
			}
		}
		return s, actions
	}
	actions := unrecorded(s, v, me) // before it is ready
	if me.State == Ready && me.Generation == g.Number {
		return s, actions
	}
	return s, append(actions, Report{State: Ready, Generation: g.Number})
}

const (
	// stopTogether is the number of workers from which on they delay their stop.
	stopTogether = 16
	// The delay is stopEach for each worker, counted from the preparation of the generation, and at most stopMost.
	stopEach = 400 * time.Microsecond
	stopMost = 50 * time.Millisecond
)

// stopAfter is how long a worker goes on handling events when a generation is in preparation. Many workers take a while to notice it, and all pause until
// the last of them has stopped. So each worker goes on until nearly all have noticed.
func stopAfter(v View) time.Duration {
	n := v.Connected()
	if n < stopTogether {
		return 0
	}
	return max(0, min(stopMost, time.Duration(n)*stopEach)-v.Generation.Age)
}

// decideMember starts the partitions of the active generation.
func decideMember(s State, v View, me Worker) (State, []Action) {
	g := v.Generation
	if s.Partitions == Handling && s.Generation == g.Number && len(v.Contradicting) > 0 {
		s.Fenced = true // its batches may miss nothing
	}
	switch {
	case s.Partitions == Handling && (s.Generation != g.Number || s.Fenced):
		return stopping(s, true, "the partitions are of another generation")
	case s.Partitions == Handling && returned(s):
		return stopping(s, false, "a handler has returned whose projection was not started while it ran")
	case s.Partitions == Handling && (me.State != Running || me.Generation != g.Number):
		return s, append(unrecorded(s, v, me), Report{State: Running, Generation: g.Number})
	case s.Partitions == Handling:
		return s, unrecorded(s, v, me)
	case s.Partitions == Idle && s.Fenced && s.Generation == g.Number:
		if me.State == Pending {
			return s, nil
		}
		return s, []Action{RequestGeneration{Projections: v.Contradicting}}
	case s.Partitions == Idle && s.Trusted && !leftOut(s, me) && !unrecordable(s, v):
		return s, unrecorded(s, v, me) // which asks the leader for a generation that leaves it out
	case s.Partitions == Idle && s.Trusted:
		s.withheld = notLeftOut(s, me)
		return s, append(unrecorded(s, v, me), StartPartitions{Generation: g.Number})
	}
	return s, nil
}

// unrecorded is what to do so that the table says which handlers the worker has abandoned.
func unrecorded(s State, v View, me Worker) []Action {
	if unrecordable(s, v) {
		return nil
	}
	projections := make([]string, len(s.Abandoned))
	for i, h := range s.Abandoned {
		projections[i] = h.Projection
	}
	// A projection is left out while a handler of it is abandoned, so the same projections
	// are the same handlers.
	if slices.Equal(projections, me.Abandoned) {
		return nil
	}
	return []Action{RecordAbandoned{Handlers: s.Abandoned}}
}

// unrecordable says whether the abandoned handlers cannot be recorded at the moment, so that nobody can leave out their projections.
func unrecordable(s State, v View) bool { return v.At < s.RecordAgain }

// leftOut says whether the generation leaves out for the worker every projection of which
// it has an abandoned handler.
func leftOut(s State, me Worker) bool { return len(notLeftOut(s, me)) == 0 }

// notLeftOut is the projections of the worker's abandoned handlers that the generation does not leave out. They are not started until it has
// returned.
func notLeftOut(s State, me Worker) (projections []string) {
	for _, h := range s.Abandoned {
		if !slices.Contains(me.LeftOut, h.Projection) {
			projections = append(projections, h.Projection)
		}
	}
	return projections
}

// returned says whether a handler has returned that kept its projection from being started.
func returned(s State) bool {
	return slices.ContainsFunc(s.withheld, func(p string) bool {
		return !slices.ContainsFunc(s.Abandoned, func(h AbandonedHandler) bool { return h.Projection == p })
	})
}
