package actors

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func TestWorkersOnOnePoolShareItsPlaces(t *testing.T) {
	b := newBudget(3)
	first, second := b.join(time.Hour, "p"), b.join(time.Hour, "r", "s")
	silent := func(time.Duration, []string) {}
	one, ok := first.try()
	require.True(t, ok)
	two, ok := first.try()
	require.True(t, ok)
	_, ok = first.try()
	assert.False(t, ok, "the last place is for the worker that has none")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := first.acquire(ended, "p", silent)
	require.ErrorIs(t, err, context.Canceled)
	soon, done := context.WithTimeout(t.Context(), deadline)
	defer done()
	three, err := second.acquire(soon, "r", silent)
	require.NoError(t, err)

	served := make(chan *share, 2)
	for _, s := range []*share{first, second} {
		go func() {
			release, err := s.acquire(t.Context(), map[*share]string{first: "p", second: "s"}[s], silent)
			assert.NoError(t, err)
			served <- s
			defer release()
		}()
		eventually(t, func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return len(b.queue) >= 1 && b.queue[len(b.queue)-1].share == s
		}, "it does not wait")
	}
	one()
	one() // again, without effect
	assert.Same(t, first, <-served, "both workers have one place, and p has none")
	two()
	assert.Same(t, second, <-served)
	three()
	second.leave()
	assert.Empty(t, b.places)
}

func TestABudgetIsForgottenWithItsLastUser(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "host=127.0.0.1 pool_max_conns=5")
	require.NoError(t, err)
	defer pool.Close()
	first, second := joinBudget(pool, time.Hour, nil), joinBudget(pool, time.Hour, nil)
	assert.Same(t, first.budget, second.budget)
	assert.Equal(t, 3, first.budget.capacity)
	release, ok := second.try()
	require.True(t, ok)
	first.leave()
	second.leave()
	assert.Contains(t, budgets.of, pool, "a batch still has a place")
	release()
	assert.NotContains(t, budgets.of, pool)
}

// Each projection finds a place, however many batches of another hang.
func TestAProjectionLeavesPlacesToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(4)
		s := b.join(time.Hour, "p", "q", "r")
		taken := func(projection string) bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := s.acquire(ctx, projection, func(time.Duration, []string) {})
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
		b := newBudget(2)
		s := b.join(5*time.Second, "p", "q", "r", "s")
		acquire := func(projection string) (func(), time.Duration, []string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			var by []string
			release, err := s.acquire(ctx, projection, func(_ time.Duration, holders []string) { by = holders })
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
			_, ok := s.try()
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

// Two projections hang in a pool of four: the third goes on, and the log says for whom it has waited.
func TestHandlersThatHangLeaveConnectionsToOthers(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	config := f.pool.Config()
	config.MaxConns = 4
	small, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(small.Close)
	want := f.append("Order", 20)
	p, q, r := newHang(t, want...), newHang(t, want...), &recorder{name: "r"}
	q.name = "q"
	released := make(chan struct{})
	r.before = func(context.Context, pgx.Tx, es.PersistedEvent, int) error { <-released; return nil }
	w := f.start(func(c *Config) {
		c.Pool, c.Membership.Partitions, c.Timing.Place = small, 2, 50*time.Millisecond
	}, p, q, r)
	receive(t, p.reached, "p does not begin")
	receive(t, q.reached, "q does not begin")
	close(released)
	for range 2 {
		eventually(t, func() bool { return len(f.handled("r")) == len(want) }, "r stands still")
		want = append(want, f.append("Order", 20)...)
	}
	eventually(t, func() bool { return w.count("batches_waiting") == 2 }, "p's and q's other partitions do not wait")
	log := w.log.Await(t, "a batch waits for a pool connection")
	assert.Contains(t, log.Attrs["taken_by"], "p for ")
	log = w.log.Await(t, "the pool has too few connections")
	assert.Equal(t, "5", log.Attrs["pool_connections_needed"])
	p.release()
	q.release()
	for _, name := range []string{"p", "q", "r"} {
		eventually(t, func() bool { return len(f.handled(name)) == len(want) }, "%s stands still", name)
	}
	assert.Positive(t, w.count("batch_wait_seconds_total"))
	assert.Zero(t, w.count("batches_waiting"))
}

// greedy is a projection whose handlers take a second connection from the pool.
type greedy struct {
	name string
	pool *pgxpool.Pool
}

func (g greedy) Name() string { return g.name }

func (g greedy) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if err := g.pool.QueryRow(ctx, "SELECT 1").Scan(nil); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO handled VALUES ($1, $2)", g.name, event.GlobalPosition)
	return err
}

func TestHandlersOfTwoReplicaSetsFindASecondConnection(t *testing.T) {
	f := newFixture(t)
	config := f.pool.Config()
	config.MaxConns = 4
	shared, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(shared.Close)
	const events = 200
	f.append("user", events)
	for _, replicaSet := range []string{"one", "two"} {
		store, err := pgcoord.Open(t.Context(), f.pool, "", replicaSet, f.events.EventsTable())
		require.NoError(t, err)
		f.start(func(c *Config) {
			c.Pool, c.Store, c.Membership.Partitions, c.Batch.Size = shared, store, 2, 10
		}, projection.Projection(greedy{replicaSet + " a", shared}), greedy{replicaSet + " b", shared})
	}
	eventually(t, func() bool {
		return query[int](f, "SELECT count(DISTINCT (projection, position)) FROM handled") == 4*events
	}, "handlers wait for connections that batches have")
}

// free says whether nobody holds a place.
func (b *budget) free() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.places) == 0
}
