package actors

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

func TestNextLookOfLeadersAndWithoutSessions(t *testing.T) {
	timing := Timing{Observe: 250 * time.Millisecond, Follow: 600 * time.Millisecond}
	s := state{self: bob, timing: timing}
	both := sight(active(1, ann, bob), as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1))
	assert.Equal(t, timing.Observe, nextLook(s, leading(both)))
	alone := sight(active(1, bob), as(bob, pgcoord.Running, 1))
	assert.Equal(t, 3*timing.Follow, nextLook(s, leading(alone)), "nobody is there whose death it could notice")
	s.pollOnly = true
	assert.Equal(t, timing.Observe, nextLook(s, both))
}

func TestWhoWatchesForAppends(t *testing.T) {
	s := state{self: bob, timing: Timing{Observe: 250 * time.Millisecond, Poll: 250 * time.Millisecond}}
	both := sight(active(1, ann, bob), as(ann, pgcoord.Running, 1), as(bob, pgcoord.Running, 1))
	alone := leading(sight(active(1, bob), as(bob, pgcoord.Running, 1)))
	assert.True(t, watches(s, both))
	assert.True(t, watches(s, leading(both)))
	assert.False(t, watches(s, alone), "who is alone looks too seldom")
	s.timing.Poll--
	assert.False(t, watches(s, both), "more often than the leader looks")
	s.timing.Poll++
	s.pollOnly = true
	assert.True(t, watches(s, alone))
}

// Whatever the moments at which n followers have looked for other reasons, from
// then on one of them looks every Follow/n, and each every Follow.
func TestFollowersTakeTurns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "followers")
		follow := time.Duration(n) * time.Duration(rapid.IntRange(4, 900).Draw(t, "share")) * time.Millisecond
		v := sight(active(1), as(ann, pgcoord.Running, 1))
		var turns []time.Duration
		for i := range n {
			w := pgcoord.Worker{ID: uuid.UUID{200, byte(i)}, State: pgcoord.Running, SessionPID: 5000 + i}
			v.Workers = append(v.Workers, w)
		}
		for _, w := range v.Workers[1:] {
			s := state{self: w.ID, timing: Timing{Observe: follow / 2, Follow: follow}}
			seen := v
			seen.Clock = time.Duration(rapid.Int64Range(1e15, 1e15+int64(10*follow)).Draw(t, "clock"))
			next := nextLook(s, seen)
			require.GreaterOrEqual(t, next, follow/4)
			require.Less(t, next, follow+follow/4)
			seen.Clock += next
			require.Equal(t, follow, nextLook(s, seen), "its next turn is a period later")
			turns = append(turns, seen.Clock%follow)
		}
		slices.Sort(turns)
		for i, turn := range turns {
			require.Equal(t, time.Duration(i)*follow/time.Duration(n), turn)
		}
	})
}
