package replicaset

import "time"

// NextLook is how long after a look at the replica set the next one is, if
// nothing calls for one before. It is a pure function.
//
// The leader looks every Timing.Observe, so that a death is noticed, and so does
// everybody where there are no session locks to tell who leads. The followers look
// every Timing.Follow, but not at the same time: each has a phase of its own on the
// database's clock, so that of n followers one looks every Follow/n, and the death
// of the leader is noticed about as soon as that of another. Many followers look less often, since
// their looks together are many enough. A worker that is alone is told
// of newcomers, and only makes sure.
func NextLook(s State, v View) time.Duration {
	switch {
	case s.PollOnly || (Leads(s, v) && len(v.Workers) > 1):
		return s.Timing.Observe
	case Leads(s, v):
		return aloneFollows * s.Timing.Follow
	}
	rank, followers := rankOf(s, v)
	period := followPeriod(s, followers)
	phase := period * time.Duration(rank) / time.Duration(max(1, followers))
	next := (phase - v.Clock%period + period) % period
	if next < period/4 { // it has just looked, for another reason
		next += period
	}
	return next
}

// aloneFollows is by how much longer than a follower's the interval of a lone worker is.
const aloneFollows = 3

// manyFollow is how many followers are many. However many they are, they notice within mostPeriods times Timing.Follow what only a look shows, as that
// checkpoints were set back.
const (
	manyFollow  = 8
	mostPeriods = 4
)

// followPeriod is the time between two looks of a follower: twice Timing.Follow if they are many, and longer the more they are.
func followPeriod(s State, followers int) time.Duration {
	if followers < manyFollow {
		return s.Timing.Follow
	}
	return s.Timing.Follow * time.Duration(max(2, min((followers+1)/manyFollow, mostPeriods)))
}

// GlancesBetween says whether the look that comes after a time may be a glance, if nothing calls for it before. Many followers look at the locks often enough
// together: however many they are, they do so about as often as a few. Whose turn it is goes by the database's clock, so that their whole looks are spread
// evenly. The first of them acts if the leader freezes, so all its looks are whole, or every other one if they are frequent.
func GlancesBetween(s State, v View, after time.Duration) bool {
	rank, followers := rankOf(s, v)
	if followers < manyFollow || s.PollOnly || Leads(s, v) {
		return false
	}
	period := followPeriod(s, followers)
	glances := max(1, min(followers/manyFollow, mostGlances))
	if rank == 0 {
		glances = int(mostPeriods*s.Timing.Follow/period) - 1
	}
	round := int((v.Clock + after) / period)
	return (round+rank)%(glances+1) != 0
}

// mostGlances is the most glances between two whole looks.
const mostGlances = 12

// WatchesAppends says whether the looks at the replica set show appends as often as the
// poll interval asks: one's own, or the leader's, who tells the others.
func WatchesAppends(s State, v View) bool {
	return (s.PollOnly || len(v.Workers) > 1) && s.Timing.Poll >= s.Timing.Observe
}

// rankOf is the worker's number among those that are there and do not lead, in
// the order of their ids, and how many they are.
func rankOf(s State, v View) (rank, followers int) {
	for _, w := range v.Workers {
		if !w.Present() || (w.SessionPID != 0 && w.SessionPID == v.LeaderPID) {
			continue
		}
		if w.ID == s.Self {
			rank = followers
		}
		followers++
	}
	return rank, followers
}
