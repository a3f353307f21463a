package face

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

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
