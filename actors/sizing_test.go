package actors

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// drawPace draws what reads before may have taught.
func drawPace(rt *rapid.T) sizing {
	p := sizing{most: rapid.IntRange(1, 20_000).Draw(rt, "most")}
	p.limit = rapid.IntRange(1, p.most).Draw(rt, "limit")
	for range rapid.IntRange(0, 5).Draw(rt, "reads") {
		positions := rapid.OneOf(rapid.Int64Range(0, 1_000_000), rapid.Int64Range(0, math.MaxInt64)).Draw(rt, "positions")
		events := int(min(positions, int64(rapid.IntRange(0, 20_000).Draw(rt, "events"))))
		p.learn(positions, events, int64(events)*rapid.Int64Range(1, 1<<30).Draw(rt, "bytes"))
	}
	return p
}

// Whatever was found before: a read makes progress, ends at the horizon at the latest, and one that ends before it leaves as much for
// the next; no read is wanted to be smaller than a span or, of small events, than a limit needs.
func TestPropertyReadsEndAtTheHorizon(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := drawPace(rt)
		after := rapid.Int64Range(0, math.MaxInt64-1).Draw(rt, "after")
		horizon := after + rapid.OneOf(rapid.Int64Range(1, 100_000), rapid.Int64Range(1, math.MaxInt64)).Draw(rt, "ahead")
		if horizon < after {
			horizon = math.MaxInt64
		}
		upTo, limit, bounded := p.next(after, horizon)
		require.Greater(rt, upTo, after)
		require.LessOrEqual(rt, upTo, horizon)
		require.GreaterOrEqual(rt, limit, 1)
		require.LessOrEqual(rt, limit, 2*p.most)
		if bounded {
			require.Equal(rt, p.span, upTo-after)
			require.GreaterOrEqual(rt, horizon-upTo, p.span)
			require.GreaterOrEqual(rt, p.span, int64(p.limit), "so many positions are needed for so many events")
		} else {
			require.Equal(rt, horizon, upTo)
			require.Equal(rt, p.limit, limit)
		}
	})
}

// stream is a stream of alternating stretches: of events at every so many positions, all of one size.
type stretch struct{ positions, every, bytes int64 }

// find is what a read of (after, upTo] finds in stretches that begin one after the other at 0.
func find(stretches []stretch, after, upTo int64, limit int) (reached int64, events int, bytes int64) {
	from := int64(0)
	for _, s := range stretches {
		// Its events are at from+every, from+2*every, … up to from+positions.
		low, high := max(after-from, 0)/s.every, min(upTo-from, s.positions)/s.every
		n := max(0, high-low)
		if room := int64(limit - events); n >= room {
			return from + (low+room)*s.every, limit, bytes + room*s.bytes
		}
		if room := (mostReadBytes - bytes) / s.bytes; n > room {
			return from + (low+room+1)*s.every, events + int(room) + 1, bytes + (room+1)*s.bytes
		}
		events, bytes, from = events+int(n), bytes+n*s.bytes, from+s.positions
		if from >= upTo {
			break
		}
	}
	return upTo, events, bytes
}

// Through dense stretches, sparse ones and holes of any width there are about as many reads as the bytes and events need, and hardly
// more for the positions that are passed over.
func TestPropertyReadsAreFew(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var stretches []stretch
		horizon, fewest, changes := int64(0), 0.0, 0.0
		for range rapid.IntRange(1, 4).Draw(rt, "stretches") {
			every := rapid.OneOf(rapid.Just(int64(1)), rapid.Int64Range(1, 300), rapid.Just(int64(1)<<50)).Draw(rt, "every")
			s := stretch{every: every, bytes: rapid.SampledFrom([]int64{100, 350, 10_000, 1 << 20}).Draw(rt, "bytes")}
			s.positions = rapid.Int64Range(1, 1_000_000).Draw(rt, "positions")
			if every == 1<<50 {
				s.positions = rapid.Int64Range(1, 1<<49).Draw(rt, "hole") // without an event
			} else {
				events := float64(s.positions / every)
				fewest += events*float64(s.bytes)/readBytes + events/mostEvents + float64(s.positions)/mostSpan
			}
			stretches, horizon, changes = append(stretches, s), horizon+s.positions, changes+1
		}
		p := sizing{most: mostEvents, limit: firstEvents}
		reads := 0.0
		for after := int64(0); after < horizon; reads++ {
			upTo, limit, _ := p.next(after, horizon)
			reached, events, bytes := find(stretches, after, upTo, limit)
			require.Greater(rt, reached, after)
			p.learn(reached-after, events, bytes)
			after = reached
		}
		// After a change from large events to small ones, and in a hole, spans grow by and by.
		require.LessOrEqual(rt, reads, 2*fewest+60*changes, "%v", stretches)
	})
}

func TestSpansFollowWhatIsFound(t *testing.T) {
	t.Parallel()
	p := sizing{most: mostEvents, limit: firstEvents}
	_, _, bounded := p.next(0, math.MaxInt64)
	assert.False(t, bounded, "nothing is known yet")
	p.learn(2000, 2000, 2000*350)
	assert.EqualValues(t, readBytes/350, p.span, "dense")
	p.learn(2000, 200, 200*350)
	assert.InDelta(t, 10*readBytes/350, p.span, 10, "one in ten")
	p.learn(2_000_000, 20, 20*350)
	assert.EqualValues(t, mostSpan, p.span, "one in 100,000")
	p.learn(10, 0, 0)
	assert.EqualValues(t, mostSpan, p.span, "a few positions without events mean nothing")
	p.learn(mostSpan, 0, 0)
	assert.EqualValues(t, 2*mostSpan, p.span, "a hole")
	p.learn(4, 4, 4<<20)
	assert.EqualValues(t, 4, p.span, "large events")
	p.size(100, 100*350)
	assert.EqualValues(t, 4, p.span, "what one reads alone says nothing about the window's positions")
}
