package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Batches of handlers that take a constant time for each event settle at a size that takes at most the time of a batch, and at least
// a quarter of it, if they may be so large.
func TestPropertyBatchesSettleAtTheirTime(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := BatchConfig{Size: rapid.IntRange(1, 5000).Draw(rt, "size"), Time: 50 * time.Millisecond}
		each := time.Duration(rapid.Int64Range(1, int64(200*time.Millisecond)).Draw(rt, "each"))
		take := rapid.IntRange(1, b.Size).Draw(rt, "take")
		for range 20 {
			take = b.resize(take, take, take, time.Duration(take)*each)
			require.GreaterOrEqual(rt, take, 1)
			require.LessOrEqual(rt, take, b.Size)
		}
		took := time.Duration(take) * each
		if take > 1 {
			require.LessOrEqual(rt, took, b.Time)
		}
		if take < b.Size {
			require.GreaterOrEqual(rt, took, b.Time/4)
		}
	})
}

func TestABatchThatWasCutIsFollowedByOneOfItsSize(t *testing.T) {
	t.Parallel()
	b := BatchConfig{Size: 1000, Time: 50 * time.Millisecond}
	assert.Equal(t, 10, b.resize(1000, 10, 1000, 51*time.Millisecond))
	assert.Equal(t, 1000, b.firstTake(&recorder{}), "a handler of single events is cut")
	assert.Equal(t, firstBatch, b.firstTake(&batchRecorder{}))
	assert.Equal(t, 3, BatchConfig{Size: 3}.firstTake(&batchRecorder{}))
	// With 5 ms for each event, a stop waits for less than 100 ms from the first batch on.
	assert.Less(t, firstBatch*5*time.Millisecond, 100*time.Millisecond)
	assert.Equal(t, 10, b.resize(firstBatch, firstBatch, firstBatch, 80*time.Millisecond))
}
