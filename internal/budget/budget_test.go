package budget

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
)

func TestWorkersOnOnePoolShareItsPlaces(t *testing.T) {
	b := New(5)
	first, second := b.Join(KeptForWorkers, time.Hour, "p"), b.Join(KeptForWorkers, time.Hour, "r", "s")
	silent := func(time.Duration, []string) {}
	one, ok := first.Try()
	require.True(t, ok)
	two, ok := first.Try()
	require.True(t, ok)
	_, ok = first.Try()
	assert.False(t, ok, "the last place is for the worker that has none")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := first.Acquire(ended, "p", silent)
	require.ErrorIs(t, err, context.Canceled)
	soon, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	three, err := second.Acquire(soon, "r", silent)
	require.NoError(t, err)

	served := make(chan *Share, 2)
	for _, s := range []*Share{first, second} {
		go func() {
			release, err := s.Acquire(t.Context(), map[*Share]string{first: "p", second: "s"}[s], silent)
			assert.NoError(t, err)
			served <- s
			defer release()
		}()
		awaiting.Until(t, 20*time.Second, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.queue) >= 1 && b.queue[len(b.queue)-1].share == s
		}, func() string { return "it does not wait" })
	}
	one()
	one() // again, without effect
	assert.Same(t, first, <-served, "both workers have one place, and p has none")
	two()
	assert.Same(t, second, <-served)
	three()
	second.Leave()
	assert.Empty(t, b.places)
}

func TestABudgetIsForgottenWithItsLastUser(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "host=127.0.0.1 pool_max_conns=5")
	require.NoError(t, err)
	defer pool.Close()
	first, second := Join(pool, KeptForWorkers, time.Hour), Join(pool, KeptForWorkers, time.Hour)
	assert.Same(t, first.budget, second.budget)
	assert.Equal(t, 3, first.AtOnce())
	release, ok := second.Try()
	require.True(t, ok)
	first.Leave()
	second.Leave()
	assert.Contains(t, budgets.of, pool, "a batch still has a place")
	release()
	assert.NotContains(t, budgets.of, pool)
}

// Workers and manual runners of a process share a pool's budget. It keeps the connections that the most demanding of them needs.
func TestWorkersAndManualRunnersShareABudget(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "host=127.0.0.1 pool_max_conns=4")
	require.NoError(t, err)
	defer pool.Close()
	take := func(s *Share) int {
		n := 0
		for {
			if _, ok := s.Try(); !ok {
				return n
			}
			n++
		}
	}
	manual := Join(pool, KeptForProcessors, time.Hour, "by hand")
	assert.Equal(t, 3, manual.AtOnce())
	worker := Join(pool, KeptForWorkers, time.Hour, "p")
	assert.Same(t, manual.budget, worker.budget)
	assert.Equal(t, 2, manual.AtOnce())
	another := Join(pool, KeptForProcessors, time.Hour, "by hand too")
	assert.Equal(t, 2, manual.AtOnce())
	assert.Equal(t, 3, manual.Projections())
	another.Leave()
	assert.Equal(t, 1, take(manual), "the other place is for the worker")
	assert.Equal(t, 1, take(worker))
	worker.Leave()
	assert.Equal(t, 3, manual.AtOnce())
	assert.Equal(t, 1, take(manual))
}

// Each projection finds a place, however many batches of another hang.
func TestAProjectionLeavesPlacesToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(6)
		s := b.Join(KeptForWorkers, time.Hour, "p", "q", "r")
		taken := func(projection string) bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := s.Acquire(ctx, projection, func(time.Duration, []string) {})
			return err == nil
		}
		assert.True(t, taken("p"))
		assert.True(t, taken("p"), "there are enough for all")
		assert.False(t, taken("p"), "the rest is for q and r")
		assert.True(t, taken("q"))
		assert.False(t, taken("q"))
		assert.True(t, taken("r"))
		assert.Len(t, b.places, 4)
	})
}

// Where there are fewer places than projections, one that was taken long ago does not count.
func TestAPlaceThatWasTakenLongAgoDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4)
		s := b.Join(KeptForWorkers, 5*time.Second, "p", "q", "r", "s")
		acquire := func(projection string) (func(), time.Duration, []string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			var by []string
			release, err := s.Acquire(ctx, projection, func(_ time.Duration, holders []string) { by = holders })
			return release, time.Since(began), by, err
		}
		p, took, _, err := acquire("p")
		require.NoError(t, err)
		assert.Zero(t, took)
		_, _, _, err = acquire("q")
		require.NoError(t, err)
		for _, want := range []time.Duration{5 * time.Second, 0, 0} {
			release, took, _, err := acquire("r")
			require.NoError(t, err)
			assert.Equal(t, want, took)
			_, ok := s.Try()
			assert.False(t, ok, "reading ahead can wait")
			release()
		}
		_, _, _, err = acquire("r")
		require.NoError(t, err)
		_, took, by, err := acquire("s")
		require.ErrorIs(t, err, context.DeadlineExceeded, "one connection is left for reading, and for handlers")
		assert.Equal(t, time.Minute, took)
		assert.Equal(t, []string{"p for 1m5s", "q for 1m5s", "r for 1m0s"}, by)
		p()
		p()
		assert.Len(t, b.places, 2)
	})
}
