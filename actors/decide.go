package actors

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

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

	// absent counts for how many looks in a row a worker's session was missing.
	absent map[uuid.UUID]int
}

// action is something that the coordinator is to do. Those that change tables
// are done in order, and the first that fails ends the round.
type action interface{ action() }

type (
	// join enters the worker's row.
	join struct{}
	// rejoin makes the worker, which was declared dead, pending again.
	rejoin struct{}
	// report records the worker's state.
	report struct {
		State      pgcoord.WorkerState
		Generation int64
	}
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
	activate struct {
		Activation pgcoord.Activation
		// Lost are known to be dead: what they still hold is ended at once.
		Lost []uuid.UUID
	}
	// endLeader ends the session of a leader that is frozen or cut off.
	endLeader struct {
		PID    int
		Worker uuid.UUID
	}
	// lookAgain asks for another look sooner than usual.
	lookAgain struct{ After time.Duration }
)

func (join) action()            {}
func (rejoin) action()          {}
func (report) action()          {}
func (leave) action()           {}
func (stopPartitions) action()  {}
func (startPartitions) action() {}
func (prepare) action()         {}
func (declareDead) action()     {}
func (activate) action()        {}
func (endLeader) action()       {}
func (lookAgain) action()       {}

// absences is how many looks in a row a session must be missing: a connection
// that only broke is back by then.
const absences = 2

// absenceInterval is the time between these looks: longer than a session that
// only broke takes to connect again.
const absenceInterval = 150 * time.Millisecond

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
	s.absent = countAbsent(s, v)
	s, actions := decideOwn(s, v, me)
	return s, append(actions, decideLeader(s, v)...)
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
	switch me.State {
	case pgcoord.Dead, pgcoord.Stopped:
		if s.partitions != idle {
			return stopping(s, true, "the worker was declared dead")
		}
		if me.State == pgcoord.Stopped {
			return s, nil
		}
		return s, []action{rejoin{}}
	}
	switch g := v.Generation; {
	case g.State == pgcoord.Preparing:
		return decidePreparing(s, g, me)
	case g.State == pgcoord.Active && slices.Contains(g.Members, s.self):
		return decideMember(s, g, me)
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
		return s, []action{leave{}}
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
	if me.State == pgcoord.Ready && me.Generation == g.Number {
		return s, nil
	}
	return s, []action{report{State: pgcoord.Ready, Generation: g.Number}}
}

// decideMember starts the partitions of the active generation.
func decideMember(s state, g pgcoord.Generation, me pgcoord.Worker) (state, []action) {
	switch {
	case s.partitions == running && (s.generation != g.Number || s.fenced):
		return stopping(s, true, "the partitions are of another generation")
	case s.partitions == running && (me.State != pgcoord.Running || me.Generation != g.Number):
		return s, []action{report{State: pgcoord.Running, Generation: g.Number}}
	case s.partitions == idle && s.trusted:
		return s, []action{startPartitions{Generation: g.Number}}
	}
	return s, nil
}

// decideLeader is what the worker does for the replica set, if it is the one to act.
func decideLeader(s state, v pgcoord.View) []action {
	lost := losses(s, v)
	if s.leaving {
		return nil
	}
	if !acts(s, v) {
		return endFrozenLeader(s, v, lost)
	}
	switch v.Generation.State {
	case pgcoord.Preparing:
		return finishPreparing(s, v, lost)
	default:
		return considerChange(s, v, lost)
	}
}

// acts says whether this worker leads: it holds the lock, or, where there are
// no session locks, it is the live worker with the least id.
func acts(s state, v pgcoord.View) bool {
	if !s.pollOnly {
		return v.Leading
	}
	return leastLive(s, v) == s.self
}

// leastLive is the least id among the workers whose heartbeat is fresh.
func leastLive(s state, v pgcoord.View) uuid.UUID {
	for _, w := range v.Workers { // ordered by id
		if present(w) && w.HeartbeatAge < s.timing.Stale {
			return w.ID
		}
	}
	return uuid.Nil
}

// present says whether the worker's state is one of a worker that is there.
func present(w pgcoord.Worker) bool {
	return w.State != pgcoord.Dead && w.State != pgcoord.Stopped
}

// endFrozenLeader ends the session of a leader whose heartbeat is stale though
// its lock is held: the next look finds the lock free. The live worker with the
// least id does it.
func endFrozenLeader(s state, v pgcoord.View, lost []pgcoord.Loss) []action {
	if s.pollOnly || leastLive(s, v) != s.self {
		return nil
	}
	for _, w := range v.Workers {
		stale := slices.ContainsFunc(lost, func(l pgcoord.Loss) bool { return l.Worker == w.ID && !l.SessionGone })
		if stale && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return []action{endLeader{PID: w.SessionPID, Worker: w.ID}, lookAgain{}}
		}
	}
	return nil
}

// countAbsent counts the looks in a row at which a worker's session was
// missing. Nothing counts while one's own session is young: after a restart of
// the database nobody holds anything.
func countAbsent(s state, v pgcoord.View) map[uuid.UUID]int {
	absent := map[uuid.UUID]int{}
	if s.pollOnly || v.SessionAge < s.timing.SessionGrace {
		return absent
	}
	for _, w := range v.Workers {
		if w.ID != s.self && w.HasSession && w.SessionPID == 0 && present(w) {
			absent[w.ID] = s.absent[w.ID] + 1
		}
	}
	return absent
}

// losses are the workers that must be held for dead, and why.
func losses(s state, v pgcoord.View) []pgcoord.Loss {
	var lost []pgcoord.Loss
	for _, w := range v.Workers {
		switch {
		case w.ID == s.self || !present(w):
		case s.absent[w.ID] >= absences:
			lost = append(lost, pgcoord.Loss{Worker: w.ID, SessionGone: true, Detail: "its coordination session has ended"})
		case w.HeartbeatAge >= s.timing.Stale:
			lost = append(lost, pgcoord.Loss{Worker: w.ID, Stale: s.timing.Stale, Detail: fmt.Sprintf("its last heartbeat is older than %s", s.timing.Stale)})
		}
	}
	return lost
}

// considerChange prepares a new generation if the members are not the live workers.
func considerChange(s state, v pgcoord.View, lost []pgcoord.Loss) []action {
	change, needed := difference(v, lost)
	if !needed {
		if len(lost) > 0 { // they were never members: nothing of theirs is to be handed on
			return []action{declareDead{Losses: lost}}
		}
		if len(s.absent) > 0 {
			return []action{lookAgain{After: absenceInterval}}
		}
		return nil
	}
	if g := v.Generation; g.Number != 0 && g.ActiveFor < s.timing.Settle {
		return []action{lookAgain{After: s.timing.Settle - g.ActiveFor}}
	}
	change.By = s.self
	return []action{prepare{Change: change}, lookAgain{}}
}

// difference compares the active generation's members with the live workers.
func difference(v pgcoord.View, lost []pgcoord.Loss) (change pgcoord.Change, needed bool) {
	g := v.Generation
	var reasons, causes []string
	note := func(cause, format string, args ...any) {
		if !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
		reasons = append(reasons, fmt.Sprintf(format, args...))
	}
	live := false
	for _, w := range v.Workers {
		loss := slices.IndexFunc(lost, func(l pgcoord.Loss) bool { return l.Worker == w.ID })
		member := slices.Contains(g.Members, w.ID)
		switch {
		case loss >= 0 && !member:
		case loss >= 0:
			note(pgcoord.CauseLost, "worker %s (%s) was lost: %s", w.Name, short(w.ID), lost[loss].Detail)
		case !present(w):
		case !member && w.State != pgcoord.Stopping:
			live = true
			note(pgcoord.CauseJoined, "worker %s (%s) joined", w.Name, short(w.ID))
		default:
			live = live || w.State != pgcoord.Stopping
		}
	}
	for _, id := range g.Members {
		if w, seen := v.Worker(id); !seen || !present(w) {
			note(pgcoord.CauseLeft, "worker %s left", short(id))
		}
	}
	cause := pgcoord.CauseChanged
	switch {
	case g.Number == 0:
		cause = pgcoord.CauseFirst
	case len(causes) == 1:
		cause = causes[0]
	}
	change = pgcoord.Change{From: g.Number, Cause: cause, Reason: strings.Join(reasons, "; "), Lost: lost}
	return change, live && len(reasons) > 0
}

// finishPreparing activates the generation when everybody who is waited for is
// ready, or the time is up.
func finishPreparing(s state, v pgcoord.View, lost []pgcoord.Loss) []action {
	g := v.Generation
	var waiting []string
	var late, gone []uuid.UUID
	anyReady := false
	for _, w := range v.Workers {
		switch {
		case slices.ContainsFunc(lost, func(l pgcoord.Loss) bool { return l.Worker == w.ID }):
			gone = append(gone, w.ID)
		case !present(w):
		case w.State == pgcoord.Ready && w.Generation == g.Number:
			anyReady = true
		default:
			// A worker on its way out is waited for like any other: until it
			// has left, or the time is up.
			waiting = append(waiting, short(w.ID))
			late = append(late, w.ID)
		}
	}
	var actions []action
	if len(lost) > 0 {
		actions = append(actions, declareDead{Losses: lost})
	}
	timedOut := g.Age >= s.timing.Coordination
	if !anyReady || (len(waiting) > 0 && !timedOut) {
		if len(s.absent) > 0 {
			actions = append(actions, lookAgain{After: absenceInterval})
		}
		return actions
	}
	activation := pgcoord.Activation{Number: g.Number, By: s.self}
	if len(late) > 0 {
		activation.Exclude = late
		activation.Detail = fmt.Sprintf("did not stop within %s for generation %d", s.timing.Coordination, g.Number)
	}
	return append(actions, activate{Activation: activation, Lost: gone}, lookAgain{})
}

// short is the beginning of a worker's id, for people.
func short(id uuid.UUID) string { return id.String()[:8] }
