package projection_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// appendOpen appends an event in a transaction that stays open.
func appendOpen(t *testing.T, pool *pgxpool.Pool, store *eventstore.Store, id string) (tx pgx.Tx, position int64) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	result, err := store.Append(t.Context(), tx, es.Any(), []es.Event{{
		BoundedContext: "shop", AggregateType: "Order", AggregateID: id, EventType: "OrderChanged", Payload: []byte("{}"),
	}})
	require.NoError(t, err)
	return tx, result.GlobalPositions[0]
}

// One row is below where the sequence went back to, the other above. When the sequence is looked at again it has passed both.
func TestSequenceThatWentBackBelowTheHighestRow(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 5)
	tx, open := appendOpen(t, pool, store, "open")
	later := appendEvents(t, pool, store, "User", 14)
	execute(t, pool, `INSERT INTO projection_checkpoints VALUES ('orders[0/1:0-100]', $1), ('orders[0/1:100-65536]', $2)`, positions[4], later[13])

	held, wentBack := make(chan struct{}), make(chan struct{})
	config := configFor(pool, store, recorder("orders"))
	signal, passed := sync.OnceFunc(func() { close(held) }), sync.OnceFunc(func() {
		execute(t, pool, `SELECT setval('events_global_position_seq', $1)`, later[13]+100)
		close(wentBack)
	})
	config.Logger = logbook.Looking(slog.LevelDebug, func(line logbook.Record) {
		if line.Message == "a transaction holds the horizon back" {
			signal()
		}
		if _, back := errors.AsType[*horizon.RegressionError](line.Err); back {
			passed()
		}
	}).Logger()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- projection.NewPostgresProcessor(config).Run(ctx) }()
	<-held
	execute(t, pool, `SELECT setval('events_global_position_seq', $1)`, open+4)
	<-wentBack
	require.NoError(t, tx.Commit(t.Context()))
	back, ok := errors.AsType[*horizon.RegressionError](<-result)
	require.True(t, ok, "it does not end by itself")
	assert.True(t, back.Floor)
	assert.Equal(t, later[13], back.Reached)
}

// The server ends and starts again, and positions are given a second time, while the processor rests between two statements: a pool opens
// other connections then, and no statement fails.
func TestHorizonIsFoundAgainAfterARest(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it has a server of its own")
	cluster := pgtest.Own(t, pgtest.Options{})
	dsn, err := cluster.CreateDatabase(t.Context(), "app")
	require.NoError(t, err)
	connect := func(change func(*pgxpool.Config)) *pgxpool.Pool {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(t, err)
		change(config)
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		return pool
	}
	pool, store := connect(func(*pgxpool.Config) {}), eventstore.New()
	require.NoError(t, eventstore.RunMigrations(pool))
	execute(t, pool, `CREATE TABLE handled (position bigint, aggregate_id text, by text, n bigserial)`)
	want := appendEvents(t, pool, store, "Order", 5)
	execute(t, pool, `SELECT setval('events_global_position_seq', $1)`, want[4]+20) // numbers of transactions that were rolled back

	var state atomic.Int32
	resting, goOn := make(chan struct{}), make(chan struct{})
	own := connect(func(c *pgxpool.Config) {
		c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
			if state.CompareAndSwap(1, 2) {
				close(resting)
				<-goOn
				return false, nil
			}
			return true, nil
		}
	})
	p := atEvent(func(_ context.Context, _ pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition == want[4] {
			state.CompareAndSwap(0, 1) // it rests after this batch
		}
		return nil
	})["one by one"]
	config := configFor(own, store, p)
	config.BatchSize = 5
	held := make(chan struct{})
	signal := sync.OnceFunc(func() { close(held) })
	config.Logger = logbook.Looking(slog.LevelDebug, func(line logbook.Record) {
		if line.Message == "a transaction holds the horizon back" {
			signal()
		}
	}).Logger()
	stop := start(t, config)
	<-resting
	rested := time.Now()
	require.NoError(t, cluster.Restart(pgtest.Immediate))
	pool = connect(func(*pgxpool.Config) {})
	execute(t, pool, `SELECT setval('events_global_position_seq', $1)`, want[4])
	tx, open := appendOpen(t, pool, store, "open")
	want = append(want, open)
	want = append(want, appendEvents(t, pool, store, "User", 30)...)
	require.Eventually(t, func() bool { return time.Since(rested) > 1100*time.Millisecond }, patience, tick)
	close(goOn)
	<-held
	require.NoError(t, tx.Commit(t.Context()))
	assert.Equal(t, want, eventually(t, pool, len(want)))
	require.NoError(t, stop())
}
