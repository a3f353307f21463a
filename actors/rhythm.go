package actors

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// nextLook is how long after a look at the replica set the next one is, if
// nothing calls for one before. It is a pure function.
//
// The leader looks every Timing.Observe, so that a death is noticed, and so does
// everybody where there are no session locks to tell who leads. The followers look
// every Timing.Follow, but not at the same time: each has a phase of its own on the
// database's clock, so that of n followers one looks every Follow/n, and the death
// of the leader is noticed about as soon as that of another. Who is alone is told
// of whoever comes, and only makes sure.
func nextLook(s state, v pgcoord.View) time.Duration {
	switch {
	case s.pollOnly || (acts(s, v) && len(v.Workers) > 1):
		return s.timing.Observe
	case acts(s, v):
		return aloneFollows * s.timing.Follow
	}
	period := s.timing.Follow
	rank, followers := rankOf(s, v)
	phase := period * time.Duration(rank) / time.Duration(max(1, followers))
	next := (phase - v.Clock%period + period) % period
	if next < period/4 { // it has just looked, for another reason
		next += period
	}
	return next
}

// aloneFollows is how many times as seldom as a follower a worker looks that is
// alone.
const aloneFollows = 3

// watches says whether the looks at the replica set show appends as often as the
// poll interval asks: one's own, or the leader's, who tells the others.
func watches(s state, v pgcoord.View) bool {
	return (s.pollOnly || len(v.Workers) > 1) && s.timing.Poll >= s.timing.Observe
}

// rankOf is the worker's number among those that are there and do not lead, in
// the order of their ids, and how many they are.
func rankOf(s state, v pgcoord.View) (rank, followers int) {
	for _, w := range v.Workers {
		if !present(w) || (w.SessionPID != 0 && w.SessionPID == v.LeaderPID) {
			continue
		}
		if w.ID == s.self {
			rank = followers
		}
		followers++
	}
	return rank, followers
}
