package actors

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Batches settle at a size whose events take at most the time of a batch, or as long as what a batch takes beside, and at least a quarter of
// the time of a batch if they may be twice as large. One in estimateEvery may be half as large again.
func TestPropertyBatchesSettleAtTheirTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.IntRange(1, 5000).Draw(rt, "size")
		each := time.Duration(rapid.Int64Range(int64(time.Microsecond), int64(200*time.Millisecond)).Draw(rt, "each"))
		fixed := time.Duration(rapid.Int64Range(0, int64(time.Second)).Draw(rt, "fixed"))
		b := batchSize{most: size, time: 50 * time.Millisecond, stable: estimateEvery, next: rapid.IntRange(1, size).Draw(rt, "next")}
		const settled = 100
		larger, may := 0, max(b.time, fixed)
		for i := range settled + 2*estimateEvery {
			handled := b.next
			b.learn(handled, handled, fixed+time.Duration(handled)*each)
			require.GreaterOrEqual(rt, b.next, 1)
			require.LessOrEqual(rt, b.next, size)
			ofEvents := time.Duration(b.next) * each
			if i >= settled && b.next > 1 && ofEvents > may+may/10 {
				larger++
				require.LessOrEqual(rt, ofEvents, max(2*each, 5*may/3))
			}
			if i >= settled && 2*b.next < size {
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
		for seed := range uint64(50) {
			b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
			moods := rand.New(rand.NewPCG(seed, 1))
			calls := 0
			for ; b.next < 2000 && calls < 400; calls++ {
				took := fixed + time.Duration(b.next)*10*time.Microsecond
				b.learn(b.next, b.next, time.Duration(float64(took)*(1+0.1*moods.NormFloat64())))
			}
			assert.Less(t, calls, 400, "%s a call, seed %d", fixed, seed)
		}
	}
}

// Noise must not pass for a cost that is fixed: with events that take 5 ms, more or less, a stop waits for 100 ms at most, but for
// the rare exception.
func TestVaryingEventsDoNotMakeBatchesLarger(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes func(moods *rand.Rand, events int) float64 // milliseconds
		share float64                                    // of the time, at most, in batches that take more than 100 ms
	}{
		"a tenth":          {func(m *rand.Rand, n int) float64 { return 5 * float64(n) * (1 + 0.1*m.NormFloat64()) }, 0.002},
		"a fifth":          {func(m *rand.Rand, n int) float64 { return 5 * float64(n) * max(0.2, 1+0.2*m.NormFloat64()) }, 0.03},
		"between 0 and 10": {func(m *rand.Rand, n int) float64 { return float64(n)*5 + 10*(m.Float64()-0.5)*math.Sqrt(float64(n)) }, 0.02},
	} {
		total, over := 0.0, 0.0
		for seed := range uint64(50) {
			b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
			moods := rand.New(rand.NewPCG(seed, 1))
			for range 500 {
				took := test.takes(moods, b.next)
				if total += took; took > 100 {
					over += took
				}
				b.learn(b.next, b.next, time.Duration(took*float64(time.Millisecond)))
			}
		}
		assert.LessOrEqual(t, over/total, test.share, name)
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
	for range 30 {
		b.learn(b.next, b.next, time.Millisecond+time.Duration(b.next)*10*time.Microsecond)
	}
	require.Equal(t, 4000, b.next)
	b.learn(1, 1, 5*time.Millisecond) // events were quick to handle, and are not any more
	assert.LessOrEqual(t, b.next, 20)
}

// A handler of whole batches that has become slow for all events alike, when batches had one event already, is tried with more.
func TestBatchesOfOneEventAreTriedWithMore(t *testing.T) {
	t.Parallel()
	b := newBatchSize(BatchConfig{Size: 4000, Time: 50 * time.Millisecond}, &batchRecorder{})
	for range 10 {
		b.learn(b.next, b.next, time.Duration(b.next)*100*time.Millisecond)
	}
	assert.LessOrEqual(t, b.next, 2)
	for range 100 {
		b.learn(b.next, b.next, 100*time.Millisecond)
	}
	assert.Equal(t, 4000, b.next)
}
