package actors

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

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
