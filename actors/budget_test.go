package actors

import (
	"context"
	"testing"

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
	first, second := b.join(), b.join()
	one, ok := first.try()
	require.True(t, ok)
	two, ok := first.try()
	require.True(t, ok)
	_, ok = first.try()
	assert.False(t, ok, "the last place is for the worker that has none")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := first.acquire(ended)
	require.ErrorIs(t, err, context.Canceled)
	three, err := second.acquire(t.Context())
	require.NoError(t, err)

	served := make(chan *share, 2)
	for _, s := range []*share{first, second} {
		go func() {
			release, err := s.acquire(t.Context())
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
	assert.Same(t, first, <-served, "both have one place, and it came first")
	assert.Same(t, second, <-served)
	two()
	three()
	second.leave()
	assert.Zero(t, b.used)
}

func TestABudgetIsForgottenWithItsLastUser(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "host=127.0.0.1 pool_max_conns=5")
	require.NoError(t, err)
	defer pool.Close()
	first, second := joinBudget(pool), joinBudget(pool)
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
	return b.used == 0
}
