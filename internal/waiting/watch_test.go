package waiting

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// others is what looks see of those who wait in other processes.
type others struct {
	looks   atomic.Int64
	waited  atomic.Pointer[[]string]
	failing atomic.Bool
}

func (o *others) join(t *testing.T) *Hub {
	t.Helper()
	o.waited.Store(new([]string))
	h := Join(o, Database{Waited: func(context.Context, []string) ([]string, error) {
		o.looks.Add(1)
		if o.failing.Load() {
			return nil, errors.New("down")
		}
		return *o.waited.Load(), nil
	}})
	t.Cleanup(h.Leave)
	return h
}

// While a checkpoint stays behind, one look for all in 20 ms finds who waits in another process. Otherwise nobody looks.
func TestWaitsInOtherProcessesAreLookedForWhileCheckpointsStayBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &others{}
		h := o.join(t)
		var p, q, r atomic.Int64
		ofP, ofQ, ofR := h.Flushes("p", func() { p.Add(1) }), h.Flushes("q", func() { q.Add(1) }), h.Flushes("r", func() { r.Add(1) })
		pass(time.Minute)
		assert.Zero(t, o.looks.Load(), "nothing stays behind")
		assert.Empty(t, h.Status())

		h.Unwritten(ofP, true)
		h.Unwritten(ofP, true)
		h.Unwritten(ofQ, true)
		pass(time.Second - time.Millisecond)
		assert.EqualValues(t, 50, o.looks.Load())
		assert.Zero(t, p.Load()+q.Load(), "nobody waits")
		assert.Len(t, h.Status(), 1)
		o.waited.Store(&[]string{"p"})
		pass(watchInterval)
		assert.Positive(t, p.Load())
		assert.Zero(t, q.Load()+r.Load())

		h.Unwritten(ofP, false)
		pass(time.Second)
		assert.Greater(t, o.looks.Load(), int64(90), "q stays behind")
		h.Forget(ofQ)
		synctest.Wait()
		assert.Empty(t, h.Status())
		before := o.looks.Load()
		pass(time.Second)
		assert.Equal(t, before, o.looks.Load(), "nothing stays behind any more")
		for range 1000 {
			h.Unwritten(ofR, true)
			pass(time.Millisecond)
			h.Unwritten(ofR, false)
			synctest.Wait()
		}
		assert.LessOrEqual(t, o.looks.Load()-before, int64(51), "it looks more often where checkpoints come and go")
		h.Forget(ofP)
		h.Forget(ofR)
	})
}

// Looks that fail become rare, and harm nobody's health.
func TestLooksForWaitsInOtherProcessesMayFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		o := &others{}
		h := o.join(t)
		var flushed atomic.Int64
		f := h.Flushes("p", func() { flushed.Add(1) })
		o.failing.Store(true)
		h.Unwritten(f, true)
		pass(10 * time.Minute)
		assert.Less(t, o.looks.Load(), int64(40))
		assert.True(t, h.Status()[0].OK)
		o.failing.Store(false)
		o.waited.Store(&[]string{"p"})
		pass(watchBackoff.Max)
		assert.Greater(t, flushed.Load(), int64(100))
		h.Forget(f)
	})
}

func TestAWatchThatIsStuckIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		h := Join(t, Database{Waited: func(context.Context, []string) ([]string, error) { <-free; return nil, nil }})
		defer h.Leave()
		f := h.Flushes("p", func() {})
		h.Unwritten(f, true)
		pass(watchRound)
		assert.True(t, h.Status()[0].OK)
		pass(time.Second)
		assert.False(t, h.Status()[0].OK)
		close(free)
		h.Forget(f)
		synctest.Wait()
		assert.Empty(t, h.Status())
	})
}
