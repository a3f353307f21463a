package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestAppendRate(t *testing.T) {
	var p appendRate
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

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	come := func(apart time.Duration, times int) {
		for range times {
			p.add(1, apart, 1)
		}
	}
	come(20*time.Millisecond, 500)
	assert.False(t, p.often, "50 a second")
	come(10*time.Millisecond, 500)
	assert.True(t, p.often, "100 a second")
	come(17*time.Millisecond, 500)
	assert.True(t, p.often, "60 a second, which were more")
	come(25*time.Millisecond, 500)
	assert.False(t, p.often, "40 a second")
	come(0, 1)
	assert.False(t, p.often, "in no time nothing can be said")
}

func TestCrowd(t *testing.T) {
	var c crowd
	var p appendRate
	now := time.Now()
	come := func(times int, apart time.Duration) {
		for range times {
			now = now.Add(apart)
			c.add(now)
		}
	}
	come(1000, 2*time.Millisecond)
	assert.False(t, c.is(), "500 a second")
	come(crowdBucket-2, 0)
	assert.False(t, c.is(), "a few at once")
	come(1, time.Hour)
	come(crowdBucket-1, 0)
	assert.True(t, c.is(), "many at once")

	c.measure(p, now.Add(crowdLeast-1))
	assert.True(t, c.is(), "no other may have been told of yet")
	p.add(1000, time.Second)
	c.measure(p, now.Add(crowdLeast))
	assert.True(t, c.is(), "events come as fast still")
	p.add(500, time.Second)
	c.measure(p, now.Add(crowdLeast))
	assert.False(t, c.is(), "they do not")
	come(12, 500*time.Microsecond)
	assert.True(t, c.is(), "2,000 a second")
}
