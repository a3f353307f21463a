package face

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestRunHandlesOldAndNewEvents(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	w.append("grace", 2)
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("worker of the test")), recorder{name: "users"})
	w.awaitHandled("users", 5)
	w.append("ada", 2)
	w.append("barbara", 1)
	w.awaitHandled("users", 8)
	w.requireOrder("users")

	require.NoError(t, r.stop())

	assert.Equal(t, "stopped worker of the test", w.value("SELECT state, name FROM orchestrator_workers"))
	assert.Equal(t, "0 65536 "+w.lastPosition(), w.value("SELECT slot_from, slot_to, position FROM orchestrator_checkpoints WHERE projection = 'users'"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"))
	w.append("ada", 1)
	assert.Equal(t, "8", w.value("SELECT count(*) FROM handled"))
}

func TestRunAgain(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	for run := range 3 {
		w.append("ada", 2)
		r := start(t, orch, recorder{name: "users"})
		w.awaitHandled("users", 2*(run+1))
		require.NoError(t, r.stop())
		assert.Equal(t, fmt.Sprint(run+1), w.value("SELECT count(*) FROM orchestrator_workers WHERE state = 'stopped'"))
		assert.Equal(t, fmt.Sprint(run+1), w.value("SELECT max(number) FROM orchestrator_generations"))
	}
	w.requireOrder("users")
	assert.Empty(t, metric(t, orch, `events_handled_total{projection="users",replica_set="set"}`), "the series go with the worker")
}

// Without the tables' default schema, and with events in a third one.
func TestRunInSchemas(t *testing.T) {
	w := newEmptyWorld(t)
	w.store = eventstore.New(eventstore.WithSchema("facts"))
	require.NoError(t, eventstore.RunMigrations(w.application(), eventstore.WithSchema("facts")))
	require.NoError(t, orchestrator.RunMigrations(w.application(), orchestrator.WithSchema("Co-ordination")))
	w.exec("CREATE TABLE handled (projection text, position bigint, aggregate_id text, aggregate_version bigint)")
	w.append("ada", 3)
	r := start(t, w.orchestrator("set", orchestrator.WithSchema("Co-ordination")), recorder{name: "users"})
	w.awaitHandled("users", 3)
	require.NoError(t, r.stop())
	assert.Equal(t, "users 3 facts.events", w.value(`SELECT projection, position, events_table FROM "Co-ordination".orchestrator_checkpoints`))
}

func TestRunPollOnly(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	r := start(t, w.orchestrator("set", orchestrator.WithPollOnly()), recorder{name: "users"})
	w.awaitHandled("users", 3)
	w.append("ada", 2)
	w.awaitHandled("users", 5)
	assert.Equal(t, "0", w.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"))
	require.NoError(t, r.stop())
	w.requireOrder("users")
}

// The smallest pool that New accepts is enough.
func TestRunWithTheSmallestPool(t *testing.T) {
	w := newWorld(t)
	orch := w.withPool(3, w.logs, orchestrator.WithPartitionsPerWorker(8))
	for i := range 20 {
		w.append(fmt.Sprint("user ", i), 3)
	}
	r := start(t, orch, recorder{name: "a"}, recorder{name: "b"}, recorder{name: "c"})
	for _, name := range []string{"a", "b", "c"} {
		w.awaitHandled(name, 60)
		w.requireOrder(name)
	}
	require.NoError(t, r.stop())
}

// withPool makes a worker with a pool of its own.
func (w *world) withPool(connections int32, logs *logbook.Book, options ...orchestrator.Option) *orchestrator.Orchestrator {
	w.t.Helper()
	config := w.config()
	config.MaxConns = connections
	orch, err := orchestrator.New(w.open(config), w.store, "set", forPooler(append(options, orchestrator.WithLogger(logs.Logger()))...)...)
	require.NoError(w.t, err)
	return orch
}

// A worker without a pool handles nothing. Its partitions must go to the others, though its session is alive.
func TestRunEndsWhenItsPoolIsClosed(t *testing.T) {
	w := newWorld(t)
	w.troubled = true
	w.append("ada", 2)
	db, err := pgxpool.NewWithConfig(t.Context(), w.config())
	require.NoError(t, err)
	orch, err := orchestrator.New(db, w.store, "set", forPooler(orchestrator.WithLogger(w.logs.Logger()), orchestrator.WithPollInterval(20*time.Millisecond))...)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(t.Context(), asConfigured([]projection.Projection{recorder{name: "users"}})) }()
	w.awaitRunning("set", 1)
	second := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 2)
	db.Close()
	err = await(t, ended, "Run to return")
	require.ErrorContains(t, err, "the pool was closed")
	if !pgtest.BehindPooler() {
		require.NotErrorIs(t, err, orchestrator.ErrNotStopped)
		w.awaitRunning("set", 1)
	}
	require.ErrorContains(t, orch.Run(t.Context(), []projection.Projection{recorder{name: "users"}}), "closed pool")
	require.NoError(t, second.stop())
}

// Batches that wait for connections are no error, but somebody should know.
func TestRunWarnsOfASmallPool(t *testing.T) {
	w := newWorld(t)
	projections := []projection.Projection{named("a"), named("b"), whole{recorder{name: "c"}}} // 3 partitions of each but c
	for _, test := range []struct {
		connections int32
		partitions  int
		warning     string
	}{
		{8, 3, "pool_connections=8 batches_at_once=6 batches_possible=7"},
		{9, 3, ""},
		{4, 1, "pool_connections=4 pool_connections_needed=5 batches_at_once=2 projections=3"}, // two that hang hold up the third
		{5, 1, ""},
	} {
		logs := newLogs()
		orch := w.withPool(test.connections, logs, orchestrator.WithPartitionsPerWorker(test.partitions))
		r := start(t, orch, projections...)
		w.awaitRunning("set", 1)
		require.NoError(t, r.stop())
		warnings := 0
		for line := range strings.Lines(logs.String()) {
			if strings.Contains(line, "the pool has too few connections") {
				warnings++
				assert.Contains(t, line, "level=WARN")
				assert.Contains(t, line, test.warning)
			}
		}
		want := 0
		if test.warning != "" {
			want = 1
		}
		assert.Equal(t, want, warnings, "%d connections", test.connections)
	}
}

func TestTwoReplicaSetsAreIndependent(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	w.append("ada", 3)
	first := start(t, w.orchestrator("first", orchestrator.WithMetricsRegisterer(registry)), recorder{name: "a"})
	second := start(t, w.orchestrator("second", orchestrator.WithMetricsRegisterer(registry)), recorder{name: "b"})
	w.awaitHandled("a", 3)
	w.awaitHandled("b", 3)
	eventually(t, func() bool {
		page := scrape(t, metrics.Handler(registry))
		return strings.Contains(page, "pupsourcing_orchestrator_"+`events_handled_total{projection="a",replica_set="first"} 3`) &&
			strings.Contains(page, "pupsourcing_orchestrator_"+`events_handled_total{projection="b",replica_set="second"} 3`)
	}, func() string { return "the handled events of both in one registry" })

	require.NoError(t, first.stop())
	w.append("ada", 2)
	w.awaitHandled("b", 5)

	assert.Equal(t, "3", w.value("SELECT count(*) FROM handled WHERE projection = 'a'"))
	assert.Equal(t, "second 1 active", w.value("SELECT replica_set, number, state FROM orchestrator_generations WHERE replica_set = 'second'"),
		"the departure of the first is nothing to the second")
	assert.NotContains(t, scrape(t, metrics.Handler(registry)), `replica_set="first"`)
	require.NoError(t, second.stop())
}

func TestTwoWorkersShareTheStream(t *testing.T) {
	w := newWorld(t)
	const aggregates = 40
	appendAll := func(n int) {
		for i := range aggregates {
			w.append(fmt.Sprint("user ", i), n)
		}
	}
	appendAll(1)
	first := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitHandled("users", aggregates)
	second := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 2)
	assert.Equal(t, "2 2", w.value("SELECT count(DISTINCT worker_id), max(total_partitions) FROM orchestrator_checkpoints"))
	appendAll(2)
	w.awaitHandled("users", 3*aggregates)
	require.NoError(t, first.stop())
	w.awaitRunning("set", 1)
	appendAll(1)
	w.awaitHandled("users", 4*aggregates)
	require.NoError(t, second.stop())
	w.requireOrder("users")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"), "no event was handled twice")
}

// A handler that is at work when the context ends may finish.
func TestStopWaitsForTheHandler(t *testing.T) {
	w := newWorld(t)
	begun, finish := make(chan struct{}), make(chan struct{})
	r := start(t, w.orchestrator("set"), recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
		begun <- struct{}{}
		<-finish
		return nil
	}})
	w.append("ada", 2)
	await(t, begun, "the handler")
	r.cancel()
	w.await("stopping", "SELECT state FROM orchestrator_workers") // which it says when its processors have been told
	close(finish)
	require.NoError(t, r.stop())
	assert.Equal(t, "1 1", w.value("SELECT position, (SELECT count(*) FROM handled) FROM orchestrator_checkpoints"), "the event at work, and no more")
	assert.Equal(t, "stopped", w.value("SELECT state FROM orchestrator_workers"))
}

// Handlers that are slow get smaller batches, and none is handled in vain.
func TestSlowHandler(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 12)
	var calls atomic.Int64
	orch := w.orchestrator("set")
	r := start(t, orch, recorder{name: "users", before: func(ctx context.Context, _ es.PersistedEvent) error {
		calls.Add(1)
		work := time.NewTimer(20 * time.Millisecond)
		defer work.Stop()
		select {
		case <-work.C:
		case <-ctx.Done():
		}
		return nil
	}})
	w.awaitHandled("users", 12)
	require.NoError(t, r.stop())
	w.requireOrder("users")
	assert.Equal(t, int64(12), calls.Load())
	assert.NotEqual(t, "1", w.value("SELECT count(DISTINCT xmin::text) FROM handled"), "transactions that the events were handled in")
}

// A handler that takes longer is told by its context, and what it did is undone.
func TestStopCancelsTheHandler(t *testing.T) {
	w := newWorld(t)
	begun := make(chan struct{}, 1)
	r := start(t, w.orchestrator("set", orchestrator.WithShutdownTimeout(2*time.Second)), recorder{name: "users", before: func(ctx context.Context, _ es.PersistedEvent) error {
		begun <- struct{}{}
		<-ctx.Done()
		return context.Cause(ctx)
	}})
	w.append("ada", 1)
	await(t, begun, "the handler")
	require.NoError(t, r.stop())
	assert.Equal(t, "0 0", w.value("SELECT position, (SELECT count(*) FROM handled) FROM orchestrator_checkpoints"))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"), "to be stopped is no failure")
	assert.Equal(t, "stopped", w.value("SELECT state FROM orchestrator_workers"))
}

// A handler that ignores its context is named by the error, and Run returns in time all the same.
func TestStopWithoutTheHandler(t *testing.T) {
	for _, timeout := range []time.Duration{10 * time.Millisecond, 200 * time.Millisecond} {
		t.Run(timeout.String(), func(t *testing.T) {
			w := newWorld(t)
			begun, finish := make(chan struct{}), make(chan struct{})
			r := start(t, w.orchestrator("set", orchestrator.WithShutdownTimeout(timeout)), recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
				begun <- struct{}{}
				<-finish
				return nil
			}})
			w.append("ada", 1)
			await(t, begun, "the handler")
			asked := time.Now()
			err := r.stop()
			took := time.Since(asked)
			close(finish)
			require.ErrorIs(t, err, orchestrator.ErrNotStopped)
			require.ErrorContains(t, err, "users")
			require.ErrorContains(t, err, "position 1")
			require.ErrorContains(t, err, `replica set "set"`)
			assert.Less(t, took, timeout+250*time.Millisecond, "some of which is the machine's")
		})
	}
}

func TestMetricsHandlerWithoutMetrics(t *testing.T) {
	pool := unconnected(t, 10)
	for name, options := range map[string][]orchestrator.Option{
		"disabled":                             {orchestrator.WithMetricsEnabled(false)},
		"a registerer that cannot be gathered": {orchestrator.WithMetricsRegisterer(prometheus.WrapRegistererWithPrefix("app_", prometheus.NewRegistry()))},
	} {
		orch, err := orchestrator.New(pool, eventstore.New(), "set", options...)
		require.NoError(t, err, name)
		answer := httptest.NewRecorder()
		orch.MetricsHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		assert.Equal(t, http.StatusNotFound, answer.Code, name)
	}
}

// The README's way from the manual runner to the orchestrator: what the one has handled, the other does not.
func TestGoingOverFromTheManualProcessor(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 5)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	manual := projection.NewPostgresProcessor(projection.ProcessorConfig{DB: w.application(), EventStore: w.store, Projection: recorder{name: "users"}})
	go func() { ended <- manual.Run(ctx) }()
	w.awaitHandled("users", 5)
	stop()
	require.NoError(t, <-ended)
	w.exec(`
INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, position, replica_set, events_table)
SELECT projection_name, 0, 65536, last_global_position, 'main-projections', 'public.events'
FROM projection_checkpoints
WHERE projection_name = 'users'`)
	r := start(t, w.orchestrator("main-projections"), recorder{name: "users"}) // a second time would violate its table's key
	w.append("ada", 5)
	w.awaitHandled("users", 10)
	w.requireOrder("users")
	require.NoError(t, r.stop())
	assert.NotContains(t, w.logs.String(), "a handler failed")
}
