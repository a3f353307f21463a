package actors

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// absenceInterval is for how long a session must be missing, at two looks at
// least: longer than one that only broke takes to connect again.
const absenceInterval = 150 * time.Millisecond

// decideLeader is what the worker does for the replica set, if it is the one to act.
func decideLeader(s state, v pgcoord.View) []action {
	if s.leaving {
		return nil
	}
	ends := endFrozenLeader(s, v)
	if !acts(s, v) {
		return ends
	}
	lost := losses(s, v)
	switch v.Generation.State {
	case pgcoord.Preparing:
		return append(ends, finishPreparing(s, v, lost)...)
	default:
		return append(ends, considerChange(s, v, lost)...)
	}
}

// acts says whether this worker leads: it holds the lock, or, where there are
// no session locks or nobody who lives has the leader's, it is the live worker
// with the least id.
func acts(s state, v pgcoord.View) bool {
	if s.pollOnly {
		return leastLive(s, v) == s.self
	}
	return v.Leading || leadsUnlocked(s, v)
}

// leadsUnlocked says whether this worker leads without the lock, which has been
// no live worker's for some time: another program's, or a worker's that is frozen and
// whose session cannot be ended. Two that believe it do no harm, since every
// transition looks at the tables again.
func leadsUnlocked(s state, v pgcoord.View) bool {
	return s.unled != nil && v.At-*s.unled >= s.timing.SessionGrace && leastLive(s, v) == s.self
}

// unledSince is since when every look has shown that the leader's lock is held, and by
// no live worker's session; nil if it is not.
func unledSince(s state, v pgcoord.View) *time.Duration {
	if v.Glance {
		return s.unled
	}
	if s.pollOnly || v.Leading || !v.LeaderLocked {
		return nil
	}
	for _, w := range v.Workers {
		if live(s, w) && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return nil
		}
	}
	if s.unled != nil {
		return s.unled
	}
	return &v.At
}

// leastLive is the least id among the live workers.
func leastLive(s state, v pgcoord.View) uuid.UUID {
	for _, w := range v.Workers { // ordered by id
		if live(s, w) {
			return w.ID
		}
	}
	return uuid.Nil
}

// live says whether the worker's heartbeat is fresh and it is not on its way
// out, where it does nothing for others.
func live(s state, w pgcoord.Worker) bool {
	return present(w) && w.State != pgcoord.Stopping && w.HeartbeatAge < s.timing.Stale
}

// present says whether the worker's state is one of a worker that is there.
func present(w pgcoord.Worker) bool {
	return w.State != pgcoord.Dead && w.State != pgcoord.Stopped
}

// endFrozenLeader ends the session of a leader whose heartbeat is stale though
// its lock is held: the next look finds the lock free. The live worker with the
// least id does it.
func endFrozenLeader(s state, v pgcoord.View) []action {
	if s.pollOnly || v.Leading || leastLive(s, v) != s.self || !settled(s, v) {
		return nil
	}
	for _, w := range v.Workers {
		if w.SessionPID == s.refused && v.At-s.refusedAt < s.timing.Stale {
			continue
		}
		if w.HeartbeatAge >= s.timing.Stale && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return []action{endLeader{PID: w.SessionPID, Worker: w.ID}, lookAgain{}}
		}
	}
	return nil
}

// settled says whether what is missing proves anything. After a restart of the
// server, or of its backends, nobody holds a session, and heartbeats may be as old
// as the outage was long: that needs a moment. A glance, which has not looked, shows
// a server of age 0.
func settled(s state, v pgcoord.View) bool {
	return v.ServerAge >= s.timing.SessionGrace &&
		(s.pollOnly || !s.reconnected || v.SessionAge >= s.timing.SessionGrace)
}

// missingSince is since when workers' sessions have been missing at every look.
func missingSince(s state, v pgcoord.View) map[uuid.UUID]time.Duration {
	absent := map[uuid.UUID]time.Duration{}
	if v.Glance {
		return s.absent
	}
	if s.pollOnly || !settled(s, v) {
		return absent
	}
	for _, w := range v.Workers {
		if w.ID != s.self && w.HasSession && w.SessionPID == 0 && present(w) {
			absent[w.ID] = v.At
			if since, already := s.absent[w.ID]; already {
				absent[w.ID] = since
			}
		}
	}
	return absent
}

// losses are the workers that must be held for dead, and why.
func losses(s state, v pgcoord.View) []pgcoord.Loss {
	var lost []pgcoord.Loss
	for _, w := range v.Workers {
		since, missing := s.absent[w.ID]
		switch {
		case w.ID == s.self || !present(w):
		case missing && v.At-since >= absenceInterval:
			lost = append(lost, pgcoord.Loss{Worker: w.ID, SessionGone: true, Detail: "its coordination session has ended"})
		case w.HeartbeatAge >= s.timing.Stale && settled(s, v):
			lost = append(lost, pgcoord.Loss{Worker: w.ID, Heartbeat: w.Heartbeat, Detail: fmt.Sprintf("its last heartbeat is older than %s", s.timing.Stale)})
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
	if wait := s.timing.Replace - sinceLeft(v); replicaset.Cause(false, change.Changes) == replicaset.CauseLeft && wait > 0 {
		return []action{lookAgain{After: wait}}
	}
	change.By = s.self
	return []action{prepare{Change: change}, lookAgain{}}
}

// sinceLeft is how long ago a member left last. Its partitions wait a little for
// whoever takes its place, as in a rolling restart, so that all pause once.
func sinceLeft(v pgcoord.View) time.Duration {
	since := time.Duration(math.MaxInt64)
	for _, w := range v.Workers {
		if w.State == pgcoord.Stopped && slices.Contains(v.Generation.Members, w.ID) {
			since = min(since, w.StateAge)
		}
	}
	return since
}

// difference compares the active generation's members with the live workers.
func difference(v pgcoord.View, lost []pgcoord.Loss) (change pgcoord.Change, needed bool) {
	g := v.Generation
	var changes []replicaset.Change
	note := func(w pgcoord.Worker, kind replicaset.Kind, detail string, projections ...string) {
		changes = append(changes, replicaset.Change{Worker: w.ID, Name: w.Name, Kind: kind, Detail: detail, Projections: projections})
	}
	live := false
	for _, w := range v.Workers {
		loss := slices.IndexFunc(lost, func(l pgcoord.Loss) bool { return l.Worker == w.ID })
		member := slices.Contains(g.Members, w.ID)
		switch {
		case loss >= 0 && !member:
		case loss >= 0:
			note(w, replicaset.Lost, lost[loss].Detail)
		case !present(w):
		case member && w.State == pgcoord.Pending && g.State == pgcoord.Active:
			live = true
			note(w, replicaset.Inconsistent, "")
		case member && w.State != pgcoord.Stopping && g.State == pgcoord.Active && w.LeavesOut():
			live = true
			if len(w.Abandoned) > 0 {
				note(w, replicaset.Abandoned, "", slices.Compact(slices.Clone(w.Abandoned))...)
			} else {
				note(w, replicaset.Returned, "", w.LeftOut...)
			}
		case !member && w.State != pgcoord.Stopping:
			live = true
			note(w, replicaset.Joined, "")
		default:
			live = live || w.State != pgcoord.Stopping
		}
	}
	for _, id := range g.Members {
		switch w, seen := v.Worker(id); {
		case seen && present(w):
		case seen && w.State == pgcoord.Dead:
			note(w, replicaset.Lost, "")
		case seen:
			note(w, replicaset.Left, "")
		default:
			note(pgcoord.Worker{ID: id, Name: "without a row"}, replicaset.Left, "")
		}
	}
	return pgcoord.Change{From: g.Number, Changes: changes, Lost: lost}, live && len(changes) > 0
}

// finishPreparing activates the generation when everybody who is waited for is
// ready, or the time is up.
func finishPreparing(s state, v pgcoord.View, lost []pgcoord.Loss) []action {
	if len(lost) > 0 {
		// The next look shows who is dead in fact: the evidence is looked at
		// again, and a worker that is back after all is waited for.
		return []action{declareDead{Losses: lost}, lookAgain{}}
	}
	g := v.Generation
	var late []uuid.UUID
	anyReady := false
	for _, w := range v.Workers {
		switch {
		case !present(w):
		case w.State == pgcoord.Ready && w.Generation == g.Number:
			anyReady = true
		default:
			// A worker on its way out is waited for like any other: until it
			// has left, or the time is up.
			late = append(late, w.ID)
		}
	}
	timedOut := g.Age >= s.timing.Coordination
	if !anyReady || (len(late) > 0 && !timedOut) {
		return []action{lookAgain{After: patience(s, g)}}
	}
	activation := pgcoord.Activation{Number: g.Number, By: s.self}
	if len(late) > 0 {
		activation.Exclude = late
		activation.Detail = fmt.Sprintf("did not stop within %s for generation %d", s.timing.Coordination, g.Number)
	}
	return []action{activate{Activation: activation}, lookAgain{}}
}

// patience is how long the leader waits for who is not ready yet before it looks
// again: half as long as it has waited already. A worker that is ready soon says so
// to nobody, since each notification wakes every session of the database.
func patience(s state, g pgcoord.Generation) time.Duration {
	most := s.timing.Observe
	if len(s.absent) > 0 {
		most = min(most, absenceInterval)
	}
	return min(max(g.Age/2, patienceLeast), most)
}

// patienceLeast bounds patience from below.
const patienceLeast = 8 * time.Millisecond

// pruneAfter is how long a generation has been active when old rows are
// deleted: not while there is something to do.
const pruneAfter = 10 * time.Second

// prunes says whether it is time for the leader to delete old rows: once in
// each generation that lasts.
func prunes(s state, v pgcoord.View) bool {
	g := v.Generation
	return !s.leaving && acts(s, v) && g.State == pgcoord.Active && g.ActiveFor >= pruneAfter && s.pruned != g.Number
}
