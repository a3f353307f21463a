package actors

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Batches settle at a size whose events take at most the time of a batch, and at least a quarter of it if they may be twice as large,
// whatever a batch takes beside. One in estimateEvery may be half as large again.
func TestPropertyBatchesSettleAtTheirTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 5000).Draw(rt, "size")
		each := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(200*time.Millisecond)).Draw(rt, "each"))
		fixed := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(rt, "fixed"))
		b := batchSize{most: size, time: 50 * time.Millisecond, stable: estimateEvery, next: rapid.IntRange(1, size).Draw(rt, "next")}
		larger := 0
		for i := range 60 + 2*estimateEvery {
			handled := b.next
			b.learn(handled, handled, fixed+time.Duration(handled)*each)
			require.GreaterOrEqual(rt, b.next, 1)
			require.LessOrEqual(rt, b.next, size)
			ofEvents := time.Duration(b.next) * each
			if i >= 60 && b.next > 1 && ofEvents > b.time+b.time/10 {
				larger++
				require.LessOrEqual(rt, ofEvents, max(2*each, 5*b.time/3))
			}
			if i >= 60 && 2*b.next < size {
				require.GreaterOrEqual(rt, ofEvents, b.time/4)
			}
		}
		require.LessOrEqual(rt, larger, 3)
	})
}

// A handler that waits for something far away once a call, however long that takes, gets whole batches.
func TestAFixedCostDoesNotShrinkBatches(t *testing.T) {
	t.Parallel()
	for _, fixed := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, time.Second} {
		b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
		moods := rand.New(rand.NewPCG(1, 2))
		for range 40 {
			took := fixed + time.Duration(b.next)*time.Microsecond
			b.learn(b.next, b.next, took+time.Duration((moods.Float64()-0.5)*0.05*float64(took)))
		}
		assert.Equal(t, 4000, b.next, "%s a call", fixed)
	}
}

func TestABatchThatWasCutIsFollowedByOneOfItsSize(t *testing.T) {
	t.Parallel()
	c := BatchConfig{Size: 1000, Time: 50 * time.Millisecond}
	b := newBatchSize(c, &recorder{})
	assert.Equal(t, 1000, b.next, "a handler of single events is cut")
	b.learn(10, 1000, 51*time.Millisecond)
	assert.Equal(t, 10, b.next)

	b = newBatchSize(c, &batchRecorder{})
	assert.Equal(t, firstBatch, b.next)
	assert.Equal(t, 3, newBatchSize(BatchConfig{Size: 3}, &batchRecorder{}).next)
	// With 5 ms for each event, a stop waits for less than 100 ms from the first batch on.
	assert.Less(t, firstBatch*5*time.Millisecond, 100*time.Millisecond)
	b.learn(firstBatch, firstBatch, 80*time.Millisecond)
	assert.Equal(t, 10, b.next)
}

// Events that come one by one say nothing of what many would take but for how long each took: a handler of whole batches that is
// slow must not be given thousands when they come.
func TestFewEventsDoNotMakeBatchesLarger(t *testing.T) {
	t.Parallel()
	b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
	for range 100 {
		b.learn(1, 1, 5*time.Millisecond)
		require.LessOrEqual(t, b.next, firstBatch)
	}
	b.next = 4000 // events were quick to handle, and are not any more
	b.learn(1, 1, 5*time.Millisecond)
	assert.LessOrEqual(t, b.next, 10)
}

// A handler of whole batches that has become slow for all events alike, when batches had one event already, is tried with more.
func TestBatchesOfOneEventAreTriedWithMore(t *testing.T) {
	t.Parallel()
	b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
	for range 10 {
		b.learn(b.next, b.next, time.Duration(b.next)*100*time.Millisecond)
	}
	assert.LessOrEqual(t, b.next, 1)
	for range 60 {
		b.learn(b.next, b.next, 100*time.Millisecond)
	}
	assert.Equal(t, 4000, b.next)
}
