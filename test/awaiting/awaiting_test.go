package awaiting_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
)

func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		assert.True(t, awaiting.Poll(time.Minute, func() bool { return time.Since(began) >= time.Second }))
		assert.InDelta(t, time.Second, time.Since(began), float64(10*time.Millisecond))
		began = time.Now()
		assert.False(t, awaiting.Poll(time.Minute, func() bool { return false }))
		assert.Equal(t, time.Minute, time.Since(began))
		assert.True(t, awaiting.Poll(0, func() bool { return true }), "it looks once")
	})
}

// failing notes that the test has failed.
type failing struct {
	testing.TB
	failed bool
	says   string
}

func (f *failing) Helper() {}
func (f *failing) Fatalf(format string, args ...any) {
	f.failed, f.says = true, fmt.Sprintf(format, args...)
}

func TestValue(t *testing.T) {
	from := make(chan int, 1)
	from <- 7
	assert.Equal(t, 7, awaiting.Value(t, time.Minute, from, "a number"))
	f := &failing{TB: t}
	assert.Zero(t, awaiting.Value(f, 0, from, "another number"))
	assert.True(t, f.failed)
}

func TestUntil(t *testing.T) {
	f := &failing{TB: t}
	awaiting.Until(f, 0, func() bool { return true }, func() string { t.Error("described"); return "" })
	assert.False(t, f.failed)
	awaiting.Until(f, 0, func() bool { return false }, func() string { return "nothing" })
	assert.True(t, f.failed)
	assert.Contains(t, f.says, "nothing")
	assert.Contains(t, f.says, "awaiting_test.TestUntil", "where the goroutines stand")
}
