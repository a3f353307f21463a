package waiting

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errGone = errors.New("the table is gone")

const grace = 30 * time.Second

// table is what looks see, and who looked.
type table struct {
	mu       sync.Mutex
	standing Standing
	slot     int
	failing  error
	looks    []Question
	asked    int
}

func (s *table) set(change func(*table)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *table) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.looks)
}

func (s *table) lookAt(n int) Question {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks[n]
}

func (s *table) askedSoFar() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// join makes a hub of the table's own.
func (s *table) join(t *testing.T) *Hub {
	t.Helper()
	h := Join(s, Database{
		Look: func(_ context.Context, q Question) (Answer, error) {
			pass(time.Millisecond) // a look takes time
			s.mu.Lock()
			defer s.mu.Unlock()
			s.looks = append(s.looks, q)
			a := Answer{Events: s.standing.EventsTable, Standings: map[string]Standing{}, Examined: make([]Examined, len(q.Examine))}
			for _, name := range q.Projections {
				a.Standings[name] = s.standing
			}
			for i := range a.Examined {
				a.Examined[i].Slot = s.slot
			}
			return a, s.failing
		},
		Ask:     func(context.Context, string, Standing) { s.set(func(s *table) { s.asked++ }) },
		Why:     func(context.Context, Wait, error) string { return "for a reason" },
		MayPass: func(err error) bool { return !errors.Is(err, errGone) },
		Grace:   grace,
	})
	t.Cleanup(h.Leave)
	return h
}

// begin waits in another goroutine.
func begin(t *testing.T, h *Hub, w Wait) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- h.Wait(t.Context(), w) }()
	synctest.Wait()
	return ended
}

// pass lets fake time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // fake time
}

// inBubble runs a test, and leaves the poller the time to end.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		test(t)
		pass(2 * failureBackoff.Max)
	})
}

func isOver(ended <-chan error) bool {
	synctest.Wait()
	return len(ended) > 0
}

// whole is one checkpoint of all slots.
func whole(position int64) []slot.Piece { return []slot.Piece{{Range: slot.All(), Position: position}} }

func TestAThousandWaitersShareTheLooks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true}}
		h := s.join(t)
		var all sync.WaitGroup
		for i := range 1000 {
			all.Go(func() {
				w := Wait{Projection: "p", Position: 10}
				if i%2 == 0 {
					w.Aggregate = ada
				}
				assert.NoError(t, h.Wait(t.Context(), w))
			})
		}
		pass(400 * time.Millisecond)
		assert.InDelta(t, 46, s.count(), 4)
		pass(10 * time.Second)
		before := s.count()
		pass(10 * time.Second)
		assert.InDelta(t, 40, s.count()-before, 2, "looks in 10 s, of those who have waited for 10 s")
		assert.Empty(t, s.lookAt(before).Examine, "an aggregate's slot is looked up once")
		s.set(func(s *table) { s.standing.Pieces = whole(10) })
		all.Wait()
		before = s.count()
		pass(time.Minute)
		assert.Equal(t, before, s.count(), "nobody waits, and it looks")
	})
}

// Who begins to wait while others have waited for long does not wait for their next look.
func TestANewWaiterIsLookedForAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true}}
		h := s.join(t)
		old := begin(t, h, Wait{Projection: "p", Position: 10})
		pass(time.Minute)
		began := time.Now()
		require.NoError(t, h.Wait(t.Context(), Wait{Projection: "p", Position: 5}))
		assert.LessOrEqual(t, time.Since(began), 3*time.Millisecond)
		h.Committed("p", whole(10), true, time.Now())
		require.NoError(t, <-old)
	})
}

// What a worker of the process has committed ends the waits for it, and no others, without a look.
func TestCommitsEndWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true}, slot: 7}
		h := s.join(t)
		all, one := begin(t, h, Wait{Projection: "p", Position: 10}), begin(t, h, Wait{Projection: "p", Position: 10, Aggregate: ada})
		other := begin(t, h, Wait{Projection: "q", Position: 10})
		pass(time.Minute)
		looks := s.count()
		h.Committed("p", whole(9), true, time.Now())
		assert.False(t, isOver(all) || isOver(one))
		h.Committed("p", []slot.Piece{{Range: slot.Range{From: 8, To: slot.Count}, Position: 10}}, true, time.Now())
		assert.False(t, isOver(one), "another slot was committed")
		h.Committed("p", []slot.Piece{{Range: slot.Range{From: 0, To: 8}, Position: 10}}, true, time.Now())
		assert.True(t, isOver(one))
		assert.False(t, isOver(all), "only some slots were committed at once")
		h.Committed("p", whole(10), true, time.Now())
		assert.True(t, isOver(all))
		assert.False(t, isOver(other))
		assert.InDelta(t, looks, s.count(), 1)
		require.NoError(t, <-one)
		require.NoError(t, <-all)
		h.Committed("q", whole(10), true, time.Now())
		require.NoError(t, <-other)
	})
}

// A commit that may not be what the waiter waits for has the hub look, and ends nothing by itself.
func TestUncertainCommitsAreLookedUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true}}
		h := s.join(t)
		before := time.Now()
		ended := begin(t, h, Wait{Projection: "p", Position: 10})
		for name, commit := range map[string]func(){
			"aggregates are parked":        func() { h.Committed("p", whole(10), false, time.Now()) },
			"it was before the wait began": func() { h.Committed("p", whole(10), true, before.Add(-time.Second)) },
			"something else has changed":   func() { h.Changed("p") },
			"others may have the rest":     func() { h.Committed("p", halves(at(10), at(9)), true, time.Now()) },
		} {
			pass(time.Minute)
			looks := s.count()
			commit()
			assert.False(t, isOver(ended), name)
			pass(4 * time.Millisecond)
			assert.Equal(t, looks+1, s.count(), name)
			assert.False(t, isOver(ended), name)
		}
		s.set(func(s *table) { s.standing.Pieces = whole(10) })
		h.Changed("p")
		require.NoError(t, <-ended)
	})
}

// A checkpoint that is set back while somebody waits is waited for again.
func TestARebuildIsWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(9), Running: true}}
		h := s.join(t)
		ended := begin(t, h, Wait{Projection: "p", Position: 10})
		pass(time.Second)
		s.set(func(s *table) { s.standing.Pieces = whole(0) })
		pass(time.Minute)
		assert.False(t, isOver(ended))
		s.set(func(s *table) { s.standing.Pieces = whole(10) })
		require.NoError(t, <-ended)
	})
}

// Workers are asked to write down how far they are when somebody has waited for a while, and not too often.
func TestWorkersAreAskedToFlush(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true, ReplicaSet: "set"}}
		h := s.join(t)
		var calls atomic.Int64
		flushed := func() int { return int(calls.Load()) }
		f := h.Flushes("p", func() { calls.Add(1) })
		ended := begin(t, h, Wait{Projection: "p", Position: 10})
		pass(10 * time.Millisecond)
		assert.Equal(t, 0, flushed())
		pass(30 * time.Millisecond)
		assert.Equal(t, 1, flushed())
		pass(10 * time.Second)
		assert.InDelta(t, 18, flushed(), 4)
		asked := s.askedSoFar()
		assert.Equal(t, asked, flushed())
		h.Forget(f)
		pass(time.Second)
		assert.Greater(t, s.askedSoFar(), asked)
		assert.Equal(t, asked, flushed())
		h.Committed("p", whole(10), true, time.Now())
		require.NoError(t, <-ended)
	})
}

func TestWaitsEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(5), Running: true}}
		h := s.join(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := h.Wait(ctx, Wait{Projection: "p", Position: 10})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, `projection "p" is at position 5, and position 10 is waited for: context deadline exceeded`)

		tired := errors.New("tired")
		ctx, end := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { end(tired) })
		err = h.Wait(ctx, Wait{Projection: "p", Position: 10})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, tired)

		runs := h.Runs([]string{"p"})
		s.set(func(s *table) { s.standing.Running = false })
		ended := begin(t, h, Wait{Projection: "p", Position: 10})
		pass(time.Second)
		assert.False(t, isOver(ended), "it is about to run here")
		runs()
		err = <-ended
		require.ErrorIs(t, err, ErrNotRunning)
		require.ErrorContains(t, err, "for a reason")
	})
}

// A database that does not answer is waited for; one that never will ends the wait.
func TestLooksThatFail(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		down := errors.New("down")
		s := &table{standing: Standing{Pieces: whole(10), Running: true}, failing: down}
		h := s.join(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := h.Wait(ctx, Wait{Projection: "p", Position: 10})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, down)
		assert.Less(t, s.count(), 130, "it looks again too soon")
		ended := begin(t, h, Wait{Projection: "p", Position: 10})
		pass(time.Minute)
		s.set(func(s *table) { s.failing = nil })
		require.NoError(t, <-ended)
		s.set(func(s *table) { s.failing = errGone })
		require.ErrorIs(t, h.Wait(t.Context(), Wait{Projection: "p", Position: 10}), errGone)
	})
}

// An outage lasts from the first look that fails until grace has passed after one that succeeds. An earlier outage does not count.
func TestLooksTellOfAnOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := &table{standing: Standing{Pieces: whole(0), Running: true}}
		h := s.join(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(ctx, Wait{Projection: "p", Position: 10}) }()
		last := func() time.Duration { return s.lookAt(s.count() - 1).Outage }
		pass(time.Minute)
		assert.Zero(t, last())
		for range 2 {
			s.set(func(s *table) { s.failing = errors.New("down") })
			pass(time.Minute)
			s.set(func(s *table) { s.failing = nil })
			pass(grace / 2)
			assert.InDelta(t, (time.Minute + grace/2).Seconds(), last().Seconds(), 1)
			pass(grace)
			assert.Zero(t, last())
		}
		cancel()
		require.Error(t, <-ended)
	})
}

func TestThoseOfOnePlaceShareAHub(t *testing.T) {
	a, b := Join("place", Database{}), Join("place", Database{})
	assert.Same(t, a, b)
	other := Join("another place", Database{})
	assert.NotSame(t, a, other)
	a.Leave()
	assert.Same(t, b, Join("place", Database{}))
	b.Leave()
	b.Leave()
	other.Leave()
	assert.Empty(t, hubs.of)
	var none *Hub
	none.Committed("p", nil, true, time.Now())
	none.Flush("p")
	none.Unwritten(none.Flushes("p", nil), true)
	none.Forget(none.Flushes("p", nil))
}

func TestAPollerThatIsStuckIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		h := Join(t, Database{
			Look:    func(context.Context, Question) (Answer, error) { <-free; return Answer{}, errGone },
			MayPass: func(error) bool { return false },
		})
		defer h.Leave()
		assert.Empty(t, h.Status(), "nobody waits, so there is no poller")
		ended := make(chan error, 1)
		go func() { ended <- h.Wait(t.Context(), Wait{Projection: "users", Position: 1}) }()
		pass(pollerRound)
		require.Len(t, h.Status(), 1)
		assert.True(t, h.Status()[0].OK)
		pass(time.Second)
		assert.False(t, h.Status()[0].OK)
		close(free)
		require.ErrorIs(t, <-ended, errGone)
		pass(time.Second) // it rests after a failure
		assert.Empty(t, h.Status())
	})
}
