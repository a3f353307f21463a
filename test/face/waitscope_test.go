package face

import (
	"context"
	"fmt"
	"slices"
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
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A position where nothing is in scope is written once a second. Who waits for it in another process has it written at once, also where workers only poll. A role that
// may only read waits too, if longer, and so does everybody while somebody has locked the table.
func TestWaitsForWhatIsOutOfScope(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	const tries = 3
	projections := []projection.Projection{scoped{recorder: recorder{name: "read"}, types: []string{"Order"}}, scoped{recorder: recorder{name: "locked"}, types: []string{"Order"}}}
	for i := range tries {
		projections = append(projections, scoped{recorder: recorder{name: fmt.Sprint("p", i)}, types: []string{"Order"}})
	}
	r := start(t, w.orchestrator("set", orchestrator.WithPollOnly()), projections...)
	w.awaitRunning("set", 1)
	web := w.elsewhere()
	soonest := time.Hour
	for i := range tries { // each projection's first wait
		result, began := w.appends("ada", 1), time.Now()
		require.NoError(t, web.WaitForAppend(w.patiently(), fmt.Sprint("p", i), result))
		soonest = min(soonest, time.Since(began))
	}
	assert.Less(t, soonest, 500*time.Millisecond, "the position is written when a second has passed")

	reader := w.role("reader", "")
	w.exec("GRANT SELECT ON ALL TABLES IN SCHEMA public TO " + reader)
	require.NoError(t, w.on(w.as(reader)).WaitForAppend(w.patiently(), "read", w.appends("ada", 1)))
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_waits WHERE projection = 'read'"))
	tx := w.locked("orchestrator_waits")
	const unread = "waits for a projection cannot be looked up (orchestrator_waits)"
	eventually(t, func() bool { // a wait may end before a worker has looked
		require.NoError(t, web.WaitForAppend(w.patiently(), "locked", w.appends("ada", 1)))
		return len(w.logs.Find(unread)) > 0
	}, func() string { return "a line of the log: " + unread })
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, r.stop())
}

// BenchmarkWaitOutOfScope reports how long a wait takes for an event that is out of the projection's scope, from the append on. Each wait is for another
// projection, so the workers know of no earlier wait.
func BenchmarkWaitOutOfScope(b *testing.B) {
	for kind, one := range map[string]struct{ pollOnly, here, reader bool }{
		"notified/here":              {here: true},
		"notified/elsewhere":         {},
		"poll-only/here":             {pollOnly: true, here: true},
		"poll-only/elsewhere":        {pollOnly: true},
		"poll-only/elsewhere/reader": {pollOnly: true, reader: true},
	} {
		b.Run(kind, func(b *testing.B) { benchmarkWaitOutOfScope(b, one.pollOnly, one.here, one.reader) })
	}
}

func benchmarkWaitOutOfScope(b *testing.B, pollOnly, here, reader bool) {
	pgtest.SkipBehindPooler(b, "figures are of direct connections")
	db := pgtest.NewDatabase(b)
	store := eventstore.New(eventstore.WithLogger(nil))
	require.NoError(b, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	require.NoError(b, orchestrator.RunMigrations(db, orchestrator.WithLogger(newLogs().Logger())))
	options := []orchestrator.Option{orchestrator.WithLogger(newLogs().Logger()), orchestrator.WithPollInterval(5 * time.Millisecond)}
	if pollOnly {
		options = append(options, orchestrator.WithPollOnly())
	}
	orch, err := orchestrator.New(db, store, "set", options...)
	require.NoError(b, err)
	names := make([]string, 16) // until the first is waited for again, its worker has forgotten the wait before
	projections := make([]projection.Projection, len(names))
	for i := range names {
		names[i] = fmt.Sprint("p", i)
		projections[i] = scoped{recorder: recorder{name: names[i]}, types: []string{"Order"}}
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(ctx, projections) }()
	waiter := orch
	if !here {
		cfg := db.Config()
		if reader {
			_, err := db.Exec(ctx, "DO $$ BEGIN IF to_regrole('bench_reader') IS NULL THEN CREATE ROLE bench_reader; END IF; END $$; GRANT SELECT ON ALL TABLES IN SCHEMA public TO bench_reader")
			require.NoError(b, err)
			cfg.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
				_, err := conn.Exec(ctx, "SET ROLE bench_reader")
				return err
			}
		}
		pool, err := pgxpool.NewWithConfig(ctx, cfg)
		require.NoError(b, err)
		b.Cleanup(pool.Close)
		waiter, err = orchestrator.New(pool, store, "set", orchestrator.WithLogger(newLogs().Logger()))
		require.NoError(b, err)
	}
	wait := func(i int) time.Duration {
		var result es.AppendResult
		require.NoError(b, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			result, err = store.Append(ctx, tx, es.Any(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: fmt.Sprint(i % 100), EventType: "Something", Payload: []byte("{}"),
			}})
			return err
		}))
		began := time.Now()
		require.NoError(b, waiter.WaitForAppend(ctx, names[i%len(names)], result))
		return time.Since(began)
	}
	require.Eventually(b, func() bool {
		var n int
		return db.QueryRow(ctx, "SELECT count(*) FROM orchestrator_workers WHERE state = 'running'").Scan(&n) == nil && n == 1
	}, time.Minute, 10*time.Millisecond)
	var took []time.Duration
	next := time.NewTicker(80 * time.Millisecond)
	defer next.Stop()
	for i := 0; b.Loop(); i++ {
		took = append(took, wait(i))
		<-next.C
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "ms-p99")
	stop()
	require.NoError(b, <-ended)
}
