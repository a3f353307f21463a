package lag

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"
)

func TestSince(t *testing.T) {
	t.Parallel()
	var h History
	assert.Zero(t, h.Since(0, time.Hour), "nothing is known")
	h.Add(Sample{At: time.Second, Position: 10})
	h.Add(Sample{At: time.Second + Resolution/2, Position: 15})
	h.Add(Sample{At: time.Second + Resolution*3/4, Position: 17})
	h.Add(Sample{At: 3 * time.Second, Position: 20})
	h.Add(Sample{At: 9 * time.Second, Position: 20})
	now := 10 * time.Second
	assert.Equal(t, 9*time.Second, h.Since(0, now))
	assert.Equal(t, 9*time.Second, h.Since(9, now))
	assert.Equal(t, 9*time.Second-Resolution*3/4, h.Since(10, now), "what came within the resolution counts from its last sample on")
	assert.Equal(t, 7*time.Second, h.Since(17, now))
	assert.Equal(t, 7*time.Second, h.Since(19, now))
	assert.Zero(t, h.Since(20, now), "everything is handled")
	h.Precede([]Sample{{At: -time.Minute, Position: 3}, {At: -time.Second, Position: 9}, {At: 0, Position: 10}})
	assert.Equal(t, 70*time.Second, h.Since(2, now))
	assert.Equal(t, 11*time.Second, h.Since(8, now))
	assert.Equal(t, 9*time.Second, h.Since(9, now))

	h.Add(Sample{At: now, Position: 9}) // the stream was set back
	assert.Zero(t, h.Since(9, now))
	h.Add(Sample{At: now + time.Second, Position: 12})
	assert.Equal(t, time.Second, h.Since(9, now+2*time.Second))
}

// After a burst nothing may come for long. Its last events wait, as the first do.
func TestTheLastOfABurstWaits(t *testing.T) {
	t.Parallel()
	var h History
	for i := range int64(3) {
		h.Add(Sample{At: time.Second + time.Duration(i)*Resolution/4, Position: i})
	}
	now := time.Minute
	assert.Equal(t, now-time.Second-Resolution/2, h.Since(0, now))
	assert.Equal(t, now-time.Second-Resolution/2, h.Since(1, now))
	assert.Zero(t, h.Since(2, now))
}

// Whatever comes: the samples are few, and the answer is never more than the truth, and less by no more than it says.
func TestPropertyTheHistoryIsShortAndExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h History
		var all []Sample
		s := Sample{}
		step := rapid.Int64Range(1, int64(10*time.Minute)).Draw(t, "step")
		for range rapid.IntRange(1, 6000).Draw(t, "samples") {
			s.At += time.Duration(step)
			s.Position++
			all = append(all, s)
			h.Add(s)
		}
		if n := len(h.samples); n > most {
			t.Fatalf("%d samples are kept", n)
		}
		for range 20 {
			behind := all[rapid.IntRange(0, len(all)-1).Draw(t, "sample")]
			truth, got := s.At-behind.At, h.Since(behind.Position-1, s.At)
			if truth > Longest {
				continue
			}
			// Thinning again and again may leave gaps of twice the share.
			if least := truth - Resolution - max(time.Duration(step), truth*2/share); got > truth || got < least {
				t.Fatalf("%s, where it was %s", got, truth)
			}
		}
	})
}
