package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPace(t *testing.T) {
	var p pace
	come := func(came int64, over time.Duration, times int) {
		for range times {
			p.add(came, over)
		}
	}
	come(1, 2*time.Millisecond, 1000)
	assert.InDelta(t, 0.5, p.mean, 0.01, "500 a second")
	assert.False(t, p.streams())
	come(0, time.Hour, 1)
	assert.Zero(t, p.mean)
	come(50_000, time.Hour, 1)
	assert.False(t, p.streams(), "many in a long time")
	come(8, time.Millisecond, 3)
	assert.False(t, p.streams(), "a few at once")

	come(40, 8*time.Millisecond, 10)
	assert.True(t, p.streams(), "5,000 a second")
	come(8, 8*time.Millisecond, 100)
	assert.True(t, p.streams(), "1,000 a second, which were more")
	come(4, 8*time.Millisecond, 100)
	assert.False(t, p.streams(), "500 a second")
	come(8, 8*time.Millisecond, 100)
	assert.False(t, p.streams(), "1,000 a second, which were less")
	come(1, 0, 1)
	assert.InDelta(t, 1, p.mean, 0.01, "in no time nothing can be said")
}
