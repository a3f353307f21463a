package replicaset

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestNextLookOfLeadersAndWithoutSessions(t *testing.T) {
	timing := Timing{Observe: 250 * time.Millisecond, Follow: 600 * time.Millisecond}
	s := State{Self: bob, Timing: timing}
	both := sight(active(1, ann, bob), as(ann, Running, 1), as(bob, Running, 1))
	assert.Equal(t, timing.Observe, NextLook(s, leading(both)))
	alone := sight(active(1, bob), as(bob, Running, 1))
	assert.Equal(t, 3*timing.Follow, NextLook(s, leading(alone)), "nobody is there whose death it could notice")
	s.PollOnly = true
	assert.Equal(t, timing.Observe, NextLook(s, both))
}

func TestWhoWatchesForAppends(t *testing.T) {
	s := State{Self: bob, Timing: Timing{Observe: 250 * time.Millisecond, Poll: 250 * time.Millisecond}}
	both := sight(active(1, ann, bob), as(ann, Running, 1), as(bob, Running, 1))
	alone := leading(sight(active(1, bob), as(bob, Running, 1)))
	assert.True(t, WatchesAppends(s, both))
	assert.True(t, WatchesAppends(s, leading(both)))
	assert.False(t, WatchesAppends(s, alone), "who is alone looks too seldom")
	s.Timing.Poll--
	assert.False(t, WatchesAppends(s, both), "more often than the leader looks")
	s.Timing.Poll++
	s.PollOnly = true
	assert.True(t, WatchesAppends(s, alone))
}

// Whatever the moments at which n followers have looked for other reasons, from
// then on one of them looks every Follow/n, and each every Follow; if they are many, two to four times less often.
func TestFollowersTakeTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "followers")
		follow := time.Duration(n) * time.Duration(rapid.IntRange(1, 75).Draw(t, "share")) * 12 * time.Millisecond
		v := sight(active(1), as(ann, Running, 1))
		var turns []time.Duration
		for i := range n {
			w := Worker{ID: uuid.UUID{200, byte(i)}, State: Running, SessionPID: 5000 + i}
			v.Workers = append(v.Workers, w)
		}
		for _, w := range v.Workers[1:] {
			s := State{Self: w.ID, Timing: Timing{Observe: follow / 2, Follow: follow}}
			switch {
			case n >= 31:
				s.Timing.Follow /= 4
			case n >= 23:
				s.Timing.Follow /= 3
			case n >= 8:
				s.Timing.Follow /= 2
			}
			seen := v
			seen.Clock = time.Duration(rapid.Int64Range(1e15, 1e15+int64(10*follow)).Draw(t, "clock"))
			next := NextLook(s, seen)
			require.GreaterOrEqual(t, next, follow/4)
			require.Less(t, next, follow+follow/4)
			seen.Clock += next
			require.Equal(t, follow, NextLook(s, seen), "its next turn is a period later")
			turns = append(turns, seen.Clock%follow)
		}
		slices.Sort(turns)
		for i, turn := range turns {
			require.Equal(t, time.Duration(i)*follow/time.Duration(n), turn)
		}
	})
}

// However many follow, about as many whole looks come in a time, and no long time passes without one.
func TestFollowersLookWhollyAsOftenHoweverManyTheyAre(t *testing.T) {
	const rounds = 120
	const follow = 700 * time.Millisecond
	for n, firstLooks := range map[int]int{1: rounds, 7: rounds, 8: rounds / 2, 23: rounds, 31: rounds, 41: rounds, 100: rounds} {
		v := sight(active(1), as(ann, Running, 1))
		for i := range n {
			v.Workers = append(v.Workers, Worker{ID: uuid.UUID{200, byte(i)}, State: Running, SessionPID: 5000 + i})
		}
		var whole []time.Duration // by the database's clock
		first := 0
		for i, w := range v.Workers[1:] {
			s := State{Self: w.ID, Timing: Timing{Follow: follow}}
			seen := v
			seen.Clock = 1000 * time.Hour
			for range rounds {
				next := NextLook(s, seen)
				glance := GlancesBetween(s, seen, next)
				if seen.Clock += next; !glance {
					whole = append(whole, seen.Clock)
					if i == 0 {
						first++
					}
				}
			}
		}
		if n < manyFollow {
			assert.Len(t, whole, rounds*n, "few look wholly every time")
			continue
		}
		assert.InDelta(t, firstLooks, first, 1, "the first acts if the leader freezes")
		slices.Sort(whole)
		whole = slices.DeleteFunc(whole, func(at time.Duration) bool { return at > 1000*time.Hour+(rounds-2)*2*follow })
		for i := range whole[1:] {
			assert.LessOrEqual(t, whole[i+1]-whole[i], 2*follow, n)
		}
		assert.Less(t, len(whole), rounds*manyFollow*9/8, n)
		assert.Greater(t, len(whole), rounds*manyFollow*3/8, n)
	}
	leads := leading(sight(active(1, bob), as(bob, Running, 1)))
	assert.False(t, GlancesBetween(State{Self: bob}, leads, 0))
	assert.False(t, GlancesBetween(State{Self: bob, PollOnly: true}, leads, 0))
}

func TestLeadersSession(t *testing.T) {
	t.Parallel()
	v := View{LeaderPID: 7, LeaderMayWrite: true, Workers: []Worker{{SessionPID: 3, State: Running}, {SessionPID: 7, State: Running}, {State: Pending}}}
	assert.Equal(t, 7, v.LeadersSession())
	v.LeaderMayWrite = false
	assert.Zero(t, v.LeadersSession(), "anybody can hold both locks")
	v.LeaderMayWrite = true
	assert.Equal(t, 2, v.Connected())
	v.Workers[1].State = Dead
	assert.Zero(t, v.LeadersSession())
	assert.Equal(t, 1, v.Connected())
	v.LeaderPID = 9
	assert.Zero(t, v.LeadersSession(), "anybody can hold the leader's lock")
	v.LeaderPID = 0
	assert.Zero(t, v.LeadersSession())
}
