package face

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// appendLarge appends n events of 1 MiB each, so that a worker reads only some of them ahead.
func (w *world) appendLarge(n int) {
	w.t.Helper()
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	require.NoError(w.t, pgx.BeginFunc(w.t.Context(), w.db, func(tx pgx.Tx) error { // sending so much takes longer than a hostile role may idle
		events := make([]es.Event, n)
		for i := range events {
			events[i] = es.Event{BoundedContext: "Identity", AggregateType: "User", AggregateID: "ada", EventType: "Something", Payload: large}
		}
		_, err := w.store.Append(w.t.Context(), tx, es.Any(), events)
		return err
	}))
}

// The events table is replaced by an empty one, which draws from the same sequence, while a worker has read only some of the events and
// knows that it may read the others. It passes over none of them.
func TestAnotherTableOfTheNameEndsReads(t *testing.T) {
	const events = 24
	w := newWorld(t)
	w.troubled = true
	w.appendLarge(events)
	began, goOn := make(chan struct{}), make(chan struct{})
	var once, open sync.Once
	r := recorder{name: "users", before: func(ctx context.Context, _ es.PersistedEvent) error {
		once.Do(func() { close(began) })
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	t.Cleanup(func() { open.Do(func() { close(goOn) }) })
	start(t, w.orchestrator("set"), r)
	await(t, began, "the first event")

	// While the horizon cannot start afresh, the worker goes on by the one that it knows.
	lock := w.locked("orchestrator_horizons")
	w.exec(`CREATE TABLE replacement (LIKE events INCLUDING ALL);
		ALTER TABLE events RENAME TO former; ALTER TABLE replacement RENAME TO events`)
	open.Do(func() { close(goOn) })
	w.logs.AwaitLine(t, "another_table_has_the_name")
	w.exec(`ALTER TABLE events RENAME TO replacement; ALTER TABLE former RENAME TO events`)
	require.NoError(t, lock.Rollback(t.Context()))
	w.awaitHandled("users", events)
}

// locked locks a table until the transaction ends.
func (w *world) locked(table string) pgx.Tx {
	w.t.Helper()
	pgtest.SkipBehindPooler(w.t, "the table is locked in a transaction")
	tx, err := w.db.Begin(w.t.Context())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(w.t.Context(), "LOCK TABLE "+table)
	require.NoError(w.t, err)
	return tx
}

// swap gives the name of the events table to the table next.
const swap = "ALTER TABLE events RENAME TO former; ALTER TABLE next RENAME TO events"

// The events table becomes a partitioned one while workers run and events are appended: all are handled, once.
func TestTheEventsTableIsPartitionedWhileWorkersRun(t *testing.T) {
	w := newWorld(t)
	w.troubled = true // a probe may begin with the one table and end with the other; it is repeated
	for range 2 {
		start(t, w.orchestrator("set"), recorder{name: "users"})
	}
	w.append("ada", 3)
	w.awaitHandled("users", 3)
	w.exec(partition)
	w.append("ada", 3)
	w.append("grace", 3)
	w.awaitHandled("users", 9)
	w.requireOrder("users")
}

// partition puts a partitioned table with the same events in the place of the events table.
const partition = `BEGIN; LOCK TABLE events;
	CREATE TABLE next (LIKE events INCLUDING DEFAULTS INCLUDING STORAGE, PRIMARY KEY (global_position)) PARTITION BY RANGE (global_position);
	CREATE TABLE low PARTITION OF next FOR VALUES FROM (1) TO (3); CREATE TABLE high PARTITION OF next DEFAULT;
	INSERT INTO next SELECT * FROM events; ` + swap + `; COMMIT`

// The manual runner knows a horizon of the table before, and reads on when it knows one of the new table.
func TestTheEventsTableIsPartitionedWhileAManualRunnerReads(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 5)
	began, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := recorder{name: "users", before: func(ctx context.Context, _ es.PersistedEvent) error {
		once.Do(func() { close(began) })
		select {
		case <-goOn:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: w.application(), EventStore: w.store, Projection: r, BatchSize: 1, Logger: w.logs.Logger(),
		}).Run(ctx)
	}()
	await(t, began, "the first event")
	w.exec(partition)
	close(goOn)
	w.awaitHandled("users", 5)
	w.requireOrder("users")
	cancel()
	require.NoError(t, await(t, ended, "Run to return"))
}

// An empty table gets the name, with the same sequence. Workers handle nothing and say what a person can do; here they accept the table.
func TestTheEventsTableIsReplacedByAnother(t *testing.T) {
	w := newWorld(t)
	w.troubled = true
	orch := w.orchestrator("set")
	start(t, orch, recorder{name: "users"})
	w.append("ada", 3)
	w.awaitHandled("users", 3)
	w.await("3", "SELECT last_event_position FROM orchestrator_horizons")
	w.exec("CREATE TABLE next (LIKE events INCLUDING ALL); " + swap)
	w.append("grace", 3)
	const fault = `horizon_fault{reason="replaced",replica_set="set"}`
	w.logs.AwaitLine(t, "is not the one that was handled so far")
	awaitMetric(t, orch, "1", fault)
	require.Equal(t, "3", w.value("SELECT count(*) FROM handled"))
	w.exec("DELETE FROM orchestrator_horizons WHERE events_table = 'public.events'")
	w.awaitHandled("users", 6)
	awaitMetric(t, orch, "0", fault)
}
