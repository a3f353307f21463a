package replicaset

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// What the leader decides, and who leads: which workers are dead, when a generation is prepared, and when it is activated. decide.go has what each worker decides for itself.

// absenceInterval is for how long a session must be missing, at two looks at
// least: longer than one that only broke takes to connect again.
const absenceInterval = 150 * time.Millisecond

// decideLeader is what the worker does for the replica set, if it is the one to act.
func decideLeader(s State, v View) []Action {
	if s.Leaving {
		return nil
	}
	ends := endFrozenLeader(s, v)
	if !Leads(s, v) {
		return ends
	}
	lost := findDeadWorkers(s, v)
	switch v.Generation.State {
	case Preparing:
		return append(ends, finishPreparing(s, v, lost)...)
	default:
		return append(ends, considerChange(s, v, lost)...)
	}
}

// Leads says whether this worker leads: it holds the lock, or, where there are
// no session locks or nobody who lives has the leader's, it is the live worker
// with the least id.
func Leads(s State, v View) bool {
	if s.PollOnly {
		return leastLive(s, v) == s.Self
	}
	return v.Leading || LeadsUnlocked(s, v)
}

// LeadsUnlocked says whether this worker leads without the lock, which has been
// no live worker's for some time: another program's, or a worker's that is frozen and
// whose session cannot be ended. Two that believe it do no harm, since every
// transition looks at the tables again.
func LeadsUnlocked(s State, v View) bool {
	return s.LeaderlessSince != nil && v.At-*s.LeaderlessSince >= s.Timing.SessionGrace && leastLive(s, v) == s.Self
}

// leaderlessSince is since when every look has shown that the leader's lock is held, and by
// no live worker's session; nil if it is not.
func leaderlessSince(s State, v View) *time.Duration {
	if v.Glance {
		return s.LeaderlessSince
	}
	if s.PollOnly || v.Leading || !v.LeaderLocked {
		return nil
	}
	for _, w := range v.Workers {
		if live(s, w) && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return nil
		}
	}
	if s.LeaderlessSince != nil {
		return s.LeaderlessSince
	}
	return &v.At
}

// leastLive is the least id among the live workers.
func leastLive(s State, v View) uuid.UUID {
	for _, w := range v.Workers { // ordered by id
		if live(s, w) {
			return w.ID
		}
	}
	return uuid.Nil
}

// staleAfter is the age at which a worker's heartbeat is stale. It is the longer of two stale worker timeouts: the worker's, and that of the worker that
// looks. The two differ during a deployment that changes them. By the shorter one, a worker with a long heartbeat interval would be dead between two heartbeats.
func staleAfter(s State, w Worker) time.Duration { return max(s.Timing.Stale, w.StaleTimeout) }

// stale says whether a worker's heartbeat proves it dead, or frozen.
func stale(s State, w Worker) bool { return w.HeartbeatAge >= staleAfter(s, w) }

// live says whether the worker's heartbeat is fresh and it is not on its way
// out, where it does nothing for others.
func live(s State, w Worker) bool {
	return w.Present() && w.State != Stopping && !stale(s, w)
}

// endFrozenLeader ends the session of a leader whose heartbeat is stale though
// its lock is held: the next look finds the lock free. The live worker with the
// least id does it.
func endFrozenLeader(s State, v View) []Action {
	if s.PollOnly || v.Leading || leastLive(s, v) != s.Self || !settled(s, v) {
		return nil
	}
	for _, w := range v.Workers {
		if w.SessionPID == s.Refused && v.At-s.RefusedAt < s.Timing.Stale {
			continue
		}
		if stale(s, w) && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return []Action{EndLeader{PID: w.SessionPID, Worker: w.ID}, LookAgain{}}
		}
	}
	return nil
}

// settled says whether what is missing proves anything. After a restart of the
// server, or of its backends, nobody holds a session, and heartbeats may be as old
// as the outage was long: that needs a moment. A glance, which has not looked, shows
// a server of age 0.
func settled(s State, v View) bool {
	return v.ServerAge >= s.Timing.SessionGrace &&
		(s.PollOnly || !s.Reconnected || v.SessionAge >= s.Timing.SessionGrace)
}

// missingSince is since when workers' sessions have been missing at every look.
func missingSince(s State, v View) map[uuid.UUID]time.Duration {
	absent := map[uuid.UUID]time.Duration{}
	if v.Glance {
		return s.absent
	}
	if s.PollOnly || !settled(s, v) {
		return absent
	}
	for _, w := range v.Workers {
		if w.ID != s.Self && w.HasSession && w.SessionPID == 0 && w.Present() {
			absent[w.ID] = v.At
			if since, already := s.absent[w.ID]; already {
				absent[w.ID] = since
			}
		}
	}
	return absent
}

// findDeadWorkers returns the workers that must be declared dead, and why. The only
// other way to be declared dead is Activation.Exclude: see finishPreparing.
func findDeadWorkers(s State, v View) []Loss {
	var lost []Loss
	for _, w := range v.Workers {
		since, missing := s.absent[w.ID]
		switch {
		case w.ID == s.Self || !w.Present():
		case missing && v.At-since >= absenceInterval:
			lost = append(lost, Loss{Worker: w.ID, SessionGone: true, Detail: "its coordination session has ended"})
		case stale(s, w) && settled(s, v):
			lost = append(lost, Loss{Worker: w.ID, Heartbeat: w.Heartbeat, Detail: fmt.Sprintf("its last heartbeat is older than %s", staleAfter(s, w))})
		}
	}
	return lost
}

// considerChange prepares a new generation if the members are not the live workers.
func considerChange(s State, v View, lost []Loss) []Action {
	p, needed := difference(v, lost)
	if !needed {
		if len(lost) > 0 { // they were never members: nothing of theirs is to be handed on
			return []Action{DeclareDead{Losses: lost}}
		}
		if len(s.absent) > 0 {
			return []Action{LookAgain{After: absenceInterval}}
		}
		return nil
	}
	if g := v.Generation; g.Number != 0 && g.ActiveFor < s.Timing.Settle {
		return []Action{LookAgain{After: s.Timing.Settle - g.ActiveFor}}
	}
	if wait := s.Timing.Replace - sinceLeft(v); Cause(false, p.Changes) == CauseLeft && wait > 0 {
		return []Action{LookAgain{After: wait}}
	}
	p.By = s.Self
	return []Action{Prepare{Preparation: p}, LookAgain{}}
}

// sinceLeft is how long ago a member left last. Its partitions wait a little for
// whoever takes its place, as in a rolling restart, so that all pause once.
func sinceLeft(v View) time.Duration {
	since := time.Duration(math.MaxInt64)
	for _, w := range v.Workers {
		if w.State == Stopped && slices.Contains(v.Generation.Members, w.ID) {
			since = min(since, w.StateAge)
		}
	}
	return since
}

// difference compares the active generation's members with the live workers.
func difference(v View, lost []Loss) (p Preparation, needed bool) {
	g := v.Generation
	var changes []Change
	note := func(w Worker, kind Kind, detail string, projections ...string) {
		changes = append(changes, Change{Worker: w.ID, Name: w.Name, Kind: kind, Detail: detail, Projections: projections})
	}
	live := false
	for _, w := range v.Workers {
		loss := slices.IndexFunc(lost, func(l Loss) bool { return l.Worker == w.ID })
		member := slices.Contains(g.Members, w.ID)
		switch {
		case loss >= 0 && !member:
		case loss >= 0:
			note(w, Lost, lost[loss].Detail)
		case !w.Present():
		case member && w.State == Pending && g.State == Active:
			live = true
			note(w, Inconsistent, "")
		case member && w.State != Stopping && g.State == Active && w.LeavesOut():
			live = true
			if len(w.Abandoned) > 0 {
				note(w, Abandoned, "", slices.Compact(slices.Clone(w.Abandoned))...)
			} else {
				note(w, Returned, "", w.LeftOut...)
			}
		case member && w.State != Stopping && g.State == Active && w.Drained != w.WithoutPartitions:
			live = true
			if w.Drained {
				note(w, Drained, "")
			} else {
				note(w, Undrained, "")
			}
		case !member && w.State != Stopping:
			live = true
			note(w, Joined, "")
		default:
			live = live || w.State != Stopping
		}
	}
	for _, id := range g.Members {
		switch w, seen := v.Worker(id); {
		case seen && w.Present():
		case seen && w.State == Dead:
			note(w, Lost, "")
		case seen:
			note(w, Left, "")
		default:
			note(Worker{ID: id, Name: "without a row"}, Left, "")
		}
	}
	return Preparation{From: g.Number, Changes: changes, Lost: lost}, live && len(changes) > 0
}

// finishPreparing activates the generation when everybody who is waited for is
// ready, or the time is up.
func finishPreparing(s State, v View, lost []Loss) []Action {
	if len(lost) > 0 {
		// The next look shows who is dead in fact: the evidence is looked at
		// again, and a worker that is back after all is waited for.
		return []Action{DeclareDead{Losses: lost}, LookAgain{}}
	}
	g := v.Generation
	var late []uuid.UUID
	anyReady := false
	for _, w := range v.Workers {
		switch {
		case !w.Present():
		case w.State == Ready && w.Generation == g.Number:
			anyReady = true
		default:
			// A worker on its way out is waited for like any other: until it
			// has left, or the time is up.
			late = append(late, w.ID)
		}
	}
	timedOut := g.Age >= s.Timing.Coordination
	if !anyReady || (len(late) > 0 && !timedOut) {
		return []Action{LookAgain{After: patience(s, v)}}
	}
	activation := Activation{Number: g.Number, By: s.Self}
	if len(late) > 0 {
		activation.Exclude = late
		activation.Detail = fmt.Sprintf("did not stop within %s for generation %d", s.Timing.Coordination, g.Number)
	}
	return []Action{Activate{Activation: activation}, LookAgain{}}
}

// patience is how long the leader waits for workers that are not ready before it looks
// again: half as long as it has waited already, but a short time while the change is young. Only the last worker
// to become ready notifies the leader then, since each notification wakes every session of the database. With many workers a look takes longer, and they
// compete with it for the server. So the leader then looks less often.
func patience(s State, v View) time.Duration {
	most, least := s.Timing.Observe, max(patienceLeast, time.Duration(len(v.Workers))*patienceEach)
	if v.Generation.Age < YoungChange {
		most = min(most, max(patienceYoung, least))
	}
	if len(s.absent) > 0 {
		most = min(most, absenceInterval)
	}
	return min(max(v.Generation.Age/2, least), most)
}

const (
	// YoungChange is how old a generation is in preparation when a worker that is ready for it begins to notify the leader.
	YoungChange = 2 * time.Second
	// patienceLeast bounds patience from below, and patienceYoung from above until YoungChange.
	patienceLeast = 8 * time.Millisecond
	patienceYoung = 25 * time.Millisecond
	// patienceEach, times the number of workers, also bounds patience from below.
	patienceEach = 250 * time.Microsecond
)

// pruneAfter is how long a generation has been active when old rows are
// deleted: not while there is something to do.
const pruneAfter = 10 * time.Second

// prunes says whether it is time for the leader to delete old rows: once in
// each generation that lasts.
func prunes(s State, v View) bool {
	g := v.Generation
	return !s.Leaving && Leads(s, v) && g.State == Active && g.ActiveFor >= pruneAfter && s.pruned != g.Number
}
