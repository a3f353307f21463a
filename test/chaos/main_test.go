package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

func TestMain(m *testing.M) {
	workload.ServeCustomIfAsked(runWorker)
	pgtest.Main(m)
}

// patience bounds every wait for something that happens elsewhere.
const patience = time.Minute

// world is a server of its own with all tables.
type world struct {
	t       *testing.T
	cluster *pgtest.Cluster
	dsn     string
	pool    *pgxpool.Pool
	store   *eventstore.Store
}

var recorded = []workload.ProjectionSpec{{Name: "recorded"}}

func newWorld(t *testing.T, settings map[string]string) *world {
	t.Helper()
	cluster := pgtest.Own(t, pgtest.Options{Durable: true, Settings: settings})
	dsn, err := cluster.CreateDatabase(t.Context(), "chaos")
	require.NoError(t, err)
	w := &world{t: t, cluster: cluster, dsn: dsn, store: eventstore.New(eventstore.WithLogger(nil))}
	w.pool = w.connect(dsn, 12)
	require.NoError(t, workload.Migrate(t.Context(), w.pool, recorded))
	return w
}

func (w *world) connect(dsn string, connections int) *pgxpool.Pool {
	w.t.Helper()
	pool, err := workload.Target{DSN: dsn}.Pool(context.WithoutCancel(w.t.Context()), connections)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

// through is the database behind a wire of its own.
func (w *world) through() (*wire.Proxy, string) {
	w.t.Helper()
	dsn, err := url.Parse(w.dsn)
	require.NoError(w.t, err)
	way, err := wire.Listen(w.t.Context(), dsn.Host)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { assert.NoError(w.t, way.Close()) })
	dsn.Host = net.JoinHostPort("127.0.0.1", strconv.Itoa(way.Port()))
	return way, dsn.String()
}

// start runs a worker in this process until the test ends, and returns what it logs.
func (w *world) start(dsn, name string, p projection.Projection, options ...orchestrator.Option) *logbook.Book {
	w.t.Helper()
	log := logbook.New(slog.LevelInfo, patience)
	options = append([]orchestrator.Option{
		orchestrator.WithWorkerName(name), orchestrator.WithLogger(log.Logger()),
		orchestrator.WithPollInterval(20 * time.Millisecond),
	}, options...)
	orch, err := orchestrator.New(w.connect(dsn, 6), eventstore.New(eventstore.WithLogger(nil)), replicaSet, options...)
	require.NoError(w.t, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan error, 1)
	go func() { done <- orch.Run(ctx, []projection.Projection{p}) }()
	w.t.Cleanup(func() {
		stop()
		assert.NoError(w.t, <-done)
		if w.t.Failed() {
			w.t.Logf("the log of %s:\n%s", name, log.String())
		}
	})
	return log
}

// append appends events, in transactions of several writers.
func (w *world) append(transactions int) {
	w.t.Helper()
	stats := workload.StartWriters(w.t.Context(), w.pool, w.store, workload.WriterOptions{
		Writers: 4, Transactions: transactions, MaxHold: 5 * time.Millisecond, MaxPause: time.Millisecond, RollbackShare: 0.1,
	}).Wait()
	require.NoError(w.t, stats.Err)
}

// restart does something to the server and lets the test's own pool forget its connections.
func (w *world) restart(do func() error) {
	w.t.Helper()
	require.NoError(w.t, do())
	w.pool.Reset()
}

func (w *world) value(sql string) string {
	w.t.Helper()
	var text string
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), "SELECT ("+sql+")::text").Scan(&text))
	return text
}

func (w *world) execute(sql string) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql)
	require.NoError(w.t, err)
}

// awaitDrained waits until every checkpoint has reached the last event.
func (w *world) awaitDrained() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		drained, err := workload.Drained(w.t.Context(), w.pool, replicaSet)
		return err == nil && drained
	}, patience, 20*time.Millisecond, "the checkpoints have not reached the last event")
}

// prove runs all checks on what was handled.
func (w *world) prove() {
	w.t.Helper()
	for _, check := range workload.Checks() {
		result, err := workload.RunCheck(w.t.Context(), w.pool, check)
		require.NoError(w.t, err)
		assert.True(w.t, result.OK(), "%s: %d", check.Title, result.Count)
	}
}

func workerName(i int) string { return fmt.Sprintf("worker-%d", i) }
