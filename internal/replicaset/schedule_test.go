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
// then on one of them looks every Follow/n, and each every Follow; if they are many, half as often.
func TestFollowersTakeTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "followers")
		follow := time.Duration(n) * time.Duration(rapid.IntRange(4, 900).Draw(t, "share")) * time.Millisecond
		v := sight(active(1), as(ann, Running, 1))
		var turns []time.Duration
		for i := range n {
			w := Worker{ID: uuid.UUID{200, byte(i)}, State: Running, SessionPID: 5000 + i}
			v.Workers = append(v.Workers, w)
		}
		for _, w := range v.Workers[1:] {
			s := State{Self: w.ID, Timing: Timing{Observe: follow / 2, Follow: follow}}
			if n >= 8 {
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

// However many follow, about as many whole looks come in a period.
func TestFollowersLookWhollyAsOftenHoweverManyTheyAre(t *testing.T) {
	const rounds = 100
	for _, n := range []int{1, 7, 8, 31, 100} {
		v := sight(active(1), as(ann, Running, 1))
		for i := range n {
			v.Workers = append(v.Workers, Worker{ID: uuid.UUID{200, byte(i >> 8), byte(i)}, State: Running, SessionPID: 5000 + i})
		}
		whole := make([]int, n)
		for i, w := range v.Workers[1:] {
			since := 0
			for range rounds {
				if since++; !GlancesBetween(State{Self: w.ID}, v, since-1) {
					whole[i]++
					since = 0
				}
			}
		}
		sum := 0
		for _, times := range whole {
			sum += times
			assert.LessOrEqual(t, times, whole[0])
			assert.Positive(t, times)
		}
		if n < 8 {
			assert.Equal(t, rounds*n, sum, "few look wholly every time")
			continue
		}
		assert.Equal(t, rounds/2, whole[0], "the first acts if the leader freezes")
		assert.Less(t, sum, rounds*9, n)
		assert.Greater(t, sum, rounds*3, n)
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
