package face

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// patience bounds every wait.
const patience = 30 * time.Second

// world is a database with all tables, and the read model of recorders.
type world struct {
	t     *testing.T
	db    *pgxpool.Pool
	store *eventstore.Store
	logs  *logbook.Book

	workers  *pgxpool.Pool // what the application and its workers use; nil for db, which is the administrator's too
	troubled bool          // the test breaks what the library depends on
}

// newWorld makes the tables. That an event is entered once per projection is
// the read model's constraint, so handling one again is a failure of a handler.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := newMigratedWorld(t)
	w.exec(`CREATE TABLE handled (
		nth bigserial, projection text, position bigint, aggregate_id text, aggregate_version bigint,
		PRIMARY KEY (projection, position))`)
	t.Cleanup(func() {
		for line := range strings.Lines(w.logs.String()) {
			for _, trouble := range []string{"the database failed", "unexpectedly", "panicked and"} {
				assert.True(t, w.troubled || !strings.Contains(line, trouble) || byHostility(line),
					"nothing in this test breaks the database or an actor, but the log has: %s", line)
			}
		}
		if t.Failed() {
			t.Logf("the library's log:\n%s", w.logs.String())
		}
	})
	return w
}

// newMigratedWorld makes the library's tables. A hostile role makes them itself.
func newMigratedWorld(t *testing.T) *world {
	t.Helper()
	migrate := func(db *pgxpool.Pool) error {
		return errors.Join(eventstore.RunMigrations(db, eventstore.WithLogger(nil)), orchestrator.RunMigrations(db, orchestrator.WithLogger(slog.New(slog.DiscardHandler))))
	}
	if _, is := hostileMode(); is {
		w := newEmptyWorld(t)
		require.NoError(t, migrate(w.application()))
		return w
	}
	return &world{t: t, db: pgtest.NewDatabaseFrom(t, "all tables", migrate), store: eventstore.New(), logs: newLogs()}
}

// orchestrator makes a worker that is quick to retry.
func (w *world) orchestrator(replicaSet string, options ...orchestrator.Option) *orchestrator.Orchestrator {
	w.t.Helper()
	quick := []orchestrator.Option{
		orchestrator.WithLogger(w.logs.Logger()),
		orchestrator.WithPollInterval(20 * time.Millisecond),
		orchestrator.WithRetryBackoff(5*time.Millisecond, 20*time.Millisecond),
	}
	orch, err := orchestrator.New(w.application(), w.store, replicaSet, forPooler(append(quick, options...)...)...)
	require.NoError(w.t, err)
	return orch
}

// forPooler adds to the options what a worker needs behind a pooler, if it is.
func forPooler(options ...orchestrator.Option) []orchestrator.Option {
	if pgtest.BehindPooler() {
		options = append(options, orchestrator.WithPollOnly())
	}
	return options
}

// append appends n events to a stream of the type User in the context Identity.
func (w *world) append(aggregateID string, n int) {
	w.t.Helper()
	w.appendTo("Identity", "User", aggregateID, n)
}

func (w *world) appendTo(boundedContext, aggregateType, aggregateID string, n int) {
	w.t.Helper()
	events := make([]es.Event, n)
	for i := range events {
		events[i] = es.Event{
			BoundedContext: boundedContext, AggregateType: aggregateType, AggregateID: aggregateID,
			EventType: "Something", Payload: []byte("{}"),
		}
	}
	require.NoError(w.t, w.inTx(func(tx pgx.Tx) error {
		_, err := w.store.Append(w.t.Context(), tx, es.Any(), events)
		return err
	}))
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.db.Exec(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
}

// value is what a query yields, as text; columns are separated by a space, rows
// by a comma.
func (w *world) value(sql string, args ...any) string {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), sql, args...)
	require.NoError(w.t, err)
	texts, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		values, err := row.Values()
		return strings.TrimSuffix(fmt.Sprintln(values...), "\n"), err
	})
	require.NoError(w.t, err)
	return strings.Join(texts, ", ")
}

// await waits until a query yields what is wanted.
func (w *world) await(want, sql string, args ...any) {
	w.t.Helper()
	got := ""
	eventually(w.t, func() bool {
		got = w.value(sql, args...)
		return got == want
	}, func() string { return fmt.Sprintf("%s\nwanted %s\ngot    %s", sql, want, got) })
}

// awaitHandled waits until a projection has handled n events.
func (w *world) awaitHandled(projection string, n int) {
	w.t.Helper()
	w.await(fmt.Sprint(n), "SELECT count(*) FROM handled WHERE projection = $1", projection)
}

// awaitRunning waits until n workers of a replica set are running in its generation.
func (w *world) awaitRunning(replicaSet string, n int) {
	w.t.Helper()
	w.await(fmt.Sprint(n), `SELECT count(*) FROM orchestrator_workers w JOIN orchestrator_generations g
		ON g.replica_set = w.replica_set AND g.number = w.generation AND g.state = 'active'
		WHERE w.replica_set = $1 AND w.state = 'running' AND cardinality(g.members) = $2`, replicaSet, n)
}

// requireOrder requires that a projection handled each aggregate's events in
// order: aggregates entered by a larger number come later.
func (w *world) requireOrder(projection string) {
	w.t.Helper()
	require.Equal(w.t, "0", w.value(`SELECT count(*) FROM (
		SELECT aggregate_version, row_number() OVER (PARTITION BY aggregate_id ORDER BY nth) AS expected
		FROM handled WHERE projection = $1) AS h WHERE aggregate_version <> expected`, projection),
		"events of an aggregate that projection %s handled out of order", projection)
}

// lastPosition is the position of the last event.
func (w *world) lastPosition() string {
	w.t.Helper()
	return w.value("SELECT max(global_position) FROM events")
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool, describe func() string) {
	t.Helper()
	awaiting.Until(t, patience, holds, describe)
}

// await waits for a value on a channel.
func await[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	return awaiting.Value(t, patience, from, what)
}

// running is a call of Run.
type running struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error
	once   sync.Once
	err    error
}

// start calls Run; it is stopped when the test ends at the latest.
func start(t *testing.T, orch *orchestrator.Orchestrator, projections ...projection.Projection) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- orch.Run(ctx, asConfigured(projections)) }()
	t.Cleanup(func() { _ = r.stop() })
	return r
}

// stop ends the context and returns what Run returns.
func (r *running) stop() error {
	r.t.Helper()
	r.cancel()
	r.once.Do(func() { r.err = await(r.t, r.ended, "Run to return") })
	return r.err
}

// recorder enters each event that it handles into the table handled.
type recorder struct {
	name string
	// before is called before an event is entered; nil does nothing.
	before func(context.Context, es.PersistedEvent) error
}

func (r recorder) Name() string { return r.name }

func (r recorder) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if r.before != nil {
		if err := r.before(ctx, event); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "INSERT INTO handled (projection, position, aggregate_id, aggregate_version) VALUES ($1, $2, $3, $4)",
		r.name, event.GlobalPosition, event.AggregateID, event.AggregateVersion)
	return err
}

// metric is the value of a series on the Orchestrator's page of metrics, or
// empty if there is none. The series is named with its labels, without prefix.
func metric(t *testing.T, orch *orchestrator.Orchestrator, series string) string {
	t.Helper()
	for line := range strings.Lines(scrape(t, orch.MetricsHandler())) {
		if value, ok := strings.CutPrefix(line, "pupsourcing_orchestrator_"+series+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// awaitMetric waits until a series has a value. What a commit made visible is counted after it.
func awaitMetric(t *testing.T, orch *orchestrator.Orchestrator, want, series string) {
	t.Helper()
	got := ""
	eventually(t, func() bool {
		got = metric(t, orch, series)
		return got == want
	}, func() string { return fmt.Sprintf("%s\nwanted %s\ngot    %s", series, want, got) })
}

func scrape(t *testing.T, handler http.Handler) string {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, answer.Code)
	return answer.Body.String()
}

// newLogs is what the library logs, as a user sees it.
func newLogs() *logbook.Book { return logbook.New(slog.LevelInfo, patience) }
