package face

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// wide is a bounded context that the server takes long to tell from another of the same length.
var wide = strings.Repeat("x", 600_000)

// inWide is a recorder of the events in it.
type inWide struct{ recorder }

func (inWide) BoundedContexts() []string { return []string{wide} }

// Passing over the events that a projection does not want takes several times as long as the role's statements may take.
func TestCatchingUpTakesLongerThanAStatementMay(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the role that connects is its own")
	const events = 4000
	w := newWorld(t)
	w.exec("ALTER TABLE events DROP CONSTRAINT events_bounded_context_aggregate_type_aggregate_id_aggregat_key") // it would compare the contexts
	w.exec("CREATE TABLE contexts AS SELECT repeat('x', $1) AS wanted, repeat('x', $1 - 1) || 'y' AS other", len(wide))
	w.exec(`INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT CASE WHEN i IN (1, $1 / 2, $1) THEN wanted ELSE other END, 'User', 'ada', i, gen_random_uuid(), 'Something', ''
		FROM generate_series(1, $1) AS i, contexts ORDER BY i`, events)
	role := w.role("impatient", "SUPERUSER")
	w.exec("ALTER ROLE " + role + " SET statement_timeout = '100ms'")
	if _, is := hostileMode(); is { // a parallel worker takes longer to start
		w.makeHostile(role, map[string]string{"force_parallel_mode": "off", "debug_parallel_query": "off"})
	}
	w.with(func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "pw" })
	_, err := w.workers.Exec(t.Context(), "SELECT count(*) FROM events WHERE bounded_context = $1", wide)
	require.Error(t, err, "all events must take longer than the timeout")

	r := start(t, w.orchestrator("set"), inWide{recorder{name: "worker"}})
	w.awaitHandled("worker", 3)
	w.await("4000", "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = 'worker'")
	require.NoError(t, r.stop())

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: w.workers, EventStore: w.store, Projection: inWide{recorder{name: "manual"}}, BatchSize: 100, TotalPartitions: 1,
			Logger: w.logs.Logger(),
		}).Run(ctx)
	}()
	w.awaitHandled("manual", 3)
	cancel()
	require.NoError(t, await(t, ended, "Run to return"))
}

// A handler waits for a row that another transaction has locked for longer than the role's statements may take. The event is innocent.
func TestWaitingForARowIsNoFailureOfTheEvent(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the role that connects is its own")
	skipHostile(t, "the role has timeouts of its own")
	w := newWorld(t)
	w.exec("CREATE TABLE stock (item text PRIMARY KEY, n int); INSERT INTO stock VALUES ('bolt', 0)")
	w.append("ada", 1)
	role := w.role("impatient", "SUPERUSER")
	w.exec("ALTER ROLE " + role + " SET statement_timeout = '3s'")
	w.with(func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = role, "pw" })
	other, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = other.Exec(t.Context(), "UPDATE stock SET n = n + 1")
	require.NoError(t, err)

	strict := projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(strict)), counting{name: "worker"})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: w.workers, EventStore: w.store, Projection: counting{name: "manual"}, ErrorPolicy: &strict, PollInterval: 20 * time.Millisecond, Logger: w.logs.Logger(),
		}).Run(ctx)
	}()
	const waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'UPDATE stock%'"
	w.await("2", waiting)
	w.await("0", waiting) // each has given up
	w.await("2", waiting)
	require.NoError(t, other.Commit(t.Context()))
	w.await("3", "SELECT n FROM stock")
	cancel()
	require.NoError(t, await(t, ended, "Run to return"))
	require.NoError(t, r.stop())
	require.Equal(t, "0", w.value("SELECT (SELECT count(*) FROM orchestrator_dead_letters) + (SELECT count(*) FROM projection_dead_letters)"))
}

// counting changes the same row for each event.
type counting struct{ name string }

func (c counting) Name() string { return c.name }

func (counting) Handle(ctx context.Context, tx pgx.Tx, _ es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "UPDATE stock SET n = n + 1")
	return err
}
