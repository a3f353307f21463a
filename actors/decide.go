package actors

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// phase is what the worker's partitions are doing, as the coordinator knows it.
type phase int

const (
	idle     phase = iota // nothing is alive
	running               // handling events
	draining              // asked to stop, not stopped yet
)

// state is what the coordinator remembers between two looks at its replica set.
type state struct {
	self     uuid.UUID
	pollOnly bool
	timing   Timing

	partitions phase
	generation int64 // that the partitions are of
	fenced     bool  // a checkpoint of that generation was not ours any more
	trusted    bool  // the lease holds
	leaving    bool
	abandoned  []messages.AbandonedHandler // of this worker, ordered by projection

	// reconnected says that one's own session is not the worker's first.
	reconnected bool
	// pruned is the generation in which this worker deleted old rows last.
	pruned int64

	// drawn is the highest position of the events table at the last look, and
	// stirred says that it was another one than at the look before.
	drawn   int64
	stirred bool

	// absent is since when a worker's session has been missing at every look, on the
	// worker's own clock.
	absent map[uuid.UUID]time.Duration
	// unled is since when no live worker has had the leader's lock, on the same clock; nil
	// if one has, or it is free. warned says that people were told who has it.
	unled  *time.Duration
	warned bool
	// refused is the backend of a frozen leader that this worker was not allowed to end,
	// and refusedAt when that was, on the same clock.
	refused   int
	refusedAt time.Duration
}

// action is something that the coordinator is to do. Those that change tables
// are done in order, and the first that fails ends the round.
type action interface{ action() }

type (
	// join enters the worker's row.
	join struct{}
	// rejoin makes the worker, which was declared dead, pending again.
	rejoin struct{}
	// contest asks for a new generation, since the checkpoints contradict the
	// active one: somebody has changed them by hand. Projections are those that the last look named.
	contest struct{ Projections []string }
	// report records the worker's state.
	report struct {
		State      pgcoord.WorkerState
		Generation int64
	}
	// recordAbandoned records which handlers the worker has abandoned.
	recordAbandoned struct{ Handlers []messages.AbandonedHandler }
	// leave records that the worker has left.
	leave struct{}
	// stopPartitions asks the supervisor to stop them.
	stopPartitions struct {
		Generation int64
		Now        bool
		Reason     string
	}
	// startPartitions reads the assignment and asks the supervisor to start it.
	startPartitions struct{ Generation int64 }
	// prepare supersedes the generation.
	prepare struct{ Change pgcoord.Change }
	// declareDead marks workers dead while a generation is in preparation.
	declareDead struct{ Losses []pgcoord.Loss }
	// activate activates the generation in preparation.
	activate struct{ Activation pgcoord.Activation }
	// endLeader ends the session of a leader that is frozen or cut off.
	endLeader struct {
		PID    int
		Worker uuid.UUID
	}
	// warnOfHolder tells people who holds the leader's lock.
	warnOfHolder struct{}
	// prune deletes old rows.
	prune struct{}
	// wakeHorizon tells the horizon that events were appended.
	wakeHorizon struct{}
	// announceAppends tells the other workers.
	announceAppends struct{}
	// lookAgain asks for another look sooner than usual.
	lookAgain struct{ After time.Duration }
)

func (join) action()            {}
func (rejoin) action()          {}
func (contest) action()         {}
func (report) action()          {}
func (recordAbandoned) action() {}
func (leave) action()           {}
func (stopPartitions) action()  {}
func (startPartitions) action() {}
func (prepare) action()         {}
func (declareDead) action()     {}
func (activate) action()        {}
func (endLeader) action()       {}
func (warnOfHolder) action()    {}
func (prune) action()           {}
func (wakeHorizon) action()     {}
func (announceAppends) action() {}
func (lookAgain) action()       {}

// decide is what follows from what the coordinator sees: its next state and
// what to do. It is a pure function.
func decide(s state, v pgcoord.View) (state, []action) {
	me, known := v.Worker(s.self)
	if !known {
		if s.leaving {
			return s, []action{leave{}}
		}
		if s.partitions != idle {
			return stopping(s, true, "the worker's row is gone")
		}
		return s, []action{join{}}
	}
	s.absent = missingSince(s, v)
	if s.unled = unledSince(s, v); s.unled == nil {
		s.warned = false
	}
	s, actions := decideOwn(s, v, me)
	actions = append(actions, decideLeader(s, v)...)
	if len(actions) == 0 && prunes(s, v) {
		s.pruned = v.Generation.Number
		actions = append(actions, prune{})
	}
	if !s.leaving && !s.warned && leadsUnlocked(s, v) {
		s.warned = true
		actions = append([]action{warnOfHolder{}}, actions...)
	}
	s, heeded := heedAppends(s, v)
	return s, append(actions, heeded...)
}

// heedAppends is what follows from positions that were drawn since the last look.
// The looks at the replica set stand in for looks at the events: after a while
// without events a worker's horizon hardly looks by itself. The leader, which
// looks most often, tells the others when events begin to come; while they do, the
// others see it themselves. The wake-up trigger does not make that needless: a
// transaction that was to notify may have been rolled back.
func heedAppends(s state, v pgcoord.View) (state, []action) {
	if v.Glance {
		return s, nil
	}
	began := !s.stirred
	s.stirred = v.Drawn != s.drawn
	s.drawn = v.Drawn
	switch {
	case !s.stirred:
		return s, nil
	case began && acts(s, v) && len(v.Workers) > 1:
		return s, []action{wakeHorizon{}, announceAppends{}}
	default:
		return s, []action{wakeHorizon{}}
	}
}

// stopping asks for the partitions to be stopped, once.
func stopping(s state, now bool, reason string) (state, []action) {
	if s.partitions == draining {
		return s, nil
	}
	s.partitions = draining
	return s, []action{stopPartitions{Generation: s.generation, Now: now, Reason: reason}}
}

// decideOwn is what the worker does about itself: follow the generation.
func decideOwn(s state, v pgcoord.View, me pgcoord.Worker) (state, []action) {
	if s.leaving {
		return decideLeaving(s, me)
	}
	if !present(me) {
		if s.partitions != idle {
			return stopping(s, true, "the worker was declared dead")
		}
		return s, []action{rejoin{}}
	}
	switch g := v.Generation; {
	case g.State == pgcoord.Preparing:
		return decidePreparing(s, g, me)
	case g.State == pgcoord.Active && slices.Contains(g.Members, s.self):
		return decideMember(s, v, me)
	case s.partitions != idle:
		return stopping(s, true, "the worker is not a member of the active generation")
	case me.State != pgcoord.Pending:
		return s, []action{report{State: pgcoord.Pending}}
	}
	return s, nil
}

// decideLeaving finishes what is in flight, then says goodbye.
func decideLeaving(s state, me pgcoord.Worker) (state, []action) {
	if s.partitions == idle {
		return s, append(unrecorded(s, me), leave{})
	}
	s, actions := stopping(s, false, "the worker is leaving")
	if me.State != pgcoord.Stopping && me.State != pgcoord.Dead {
		actions = append(actions, report{State: pgcoord.Stopping, Generation: s.generation})
	}
	return s, actions
}

// decidePreparing drains before it reports ready: what is reported is true.
func decidePreparing(s state, g pgcoord.Generation, me pgcoord.Worker) (state, []action) {
	if s.partitions != idle {
		return stopping(s, false, fmt.Sprintf("generation %d is in preparation: %s", g.Number, g.Reason))
	}
	actions := unrecorded(s, me) // before it is ready
	if me.State == pgcoord.Ready && me.Generation == g.Number {
		return s, actions
	}
	return s, append(actions, report{State: pgcoord.Ready, Generation: g.Number})
}

// decideMember starts the partitions of the active generation.
func decideMember(s state, v pgcoord.View, me pgcoord.Worker) (state, []action) {
	g := v.Generation
	if s.partitions == running && s.generation == g.Number && len(v.Contradicting) > 0 {
		s.fenced = true // its batches may miss nothing
	}
	switch {
	case s.partitions == running && (s.generation != g.Number || s.fenced):
		return stopping(s, true, "the partitions are of another generation")
	case s.partitions == running && (me.State != pgcoord.Running || me.Generation != g.Number):
		return s, append(unrecorded(s, me), report{State: pgcoord.Running, Generation: g.Number})
	case s.partitions == running:
		return s, unrecorded(s, me)
	case s.partitions == idle && s.fenced && s.generation == g.Number:
		if me.State == pgcoord.Pending {
			return s, nil
		}
		return s, []action{contest{Projections: v.Contradicting}}
	case s.partitions == idle && s.trusted && !leftOut(s, me):
		return s, unrecorded(s, me) // which asks the leader for a generation that leaves it out
	case s.partitions == idle && s.trusted:
		return s, append(unrecorded(s, me), startPartitions{Generation: g.Number})
	}
	return s, nil
}

// unrecorded is what to do so that the table says which handlers the worker has abandoned.
func unrecorded(s state, me pgcoord.Worker) []action {
	projections := make([]string, len(s.abandoned))
	for i, h := range s.abandoned {
		projections[i] = h.Projection
	}
	// A projection is left out while a handler of it is abandoned, so the same projections
	// are the same handlers.
	if slices.Equal(projections, me.Abandoned) {
		return nil
	}
	return []action{recordAbandoned{Handlers: s.abandoned}}
}

// leftOut says whether the generation leaves out for the worker every projection of which
// it has an abandoned handler.
func leftOut(s state, me pgcoord.Worker) bool {
	return !slices.ContainsFunc(s.abandoned, func(h messages.AbandonedHandler) bool {
		return !slices.Contains(me.LeftOut, h.Projection)
	})
}
