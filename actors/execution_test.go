package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// Many workers do not report at once that they run, and few do not wait.
func TestWorkersReportOneAfterTheOther(t *testing.T) {
	t.Parallel()
	for members, last := range map[int]time.Duration{
		1: 11 * time.Millisecond, 4: 20 * time.Millisecond, 11: 50 * time.Millisecond, 32: 90 * time.Millisecond, 100: 90 * time.Millisecond,
	} {
		before := time.Duration(0)
		for rank := range members {
			after := reportAfter(rank, members)
			assert.Greater(t, after, before, "rank %d of %d", rank, members)
			before = after
		}
		assert.LessOrEqual(t, before, last, "%d members", members)
		assert.GreaterOrEqual(t, before, last/2, "%d members", members)
	}
	assert.Positive(t, reportAfter(-1, 0))
}
