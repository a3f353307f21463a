package face

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// counted counts events by aggregate, a batch in one statement, and can be rebuilt.
type counted struct{ projection.BatchOnly }

func (counted) Name() string { return "counts" }

func (counted) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	ids := make([]string, len(events))
	for i := range events {
		ids[i] = events[i].AggregateID
	}
	_, err := tx.Exec(ctx, `INSERT INTO counts SELECT id, count(*) FROM unnest($1::text[]) AS id GROUP BY id ORDER BY id
		ON CONFLICT (id) DO UPDATE SET events = counts.events + excluded.events`, ids)
	return err
}

func (counted) Reset(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "TRUNCATE counts")
	return err
}

// countedWorld is a database with so many events of 10,000 aggregates.
func countedWorld(b *testing.B, events int) (*pgxpool.Pool, *admin.Admin) {
	pgtest.SkipBehindPooler(b, "figures are of direct connections")
	db := pgtest.NewDatabase(b)
	require.NoError(b, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	require.NoError(b, orchestrator.RunMigrations(db, orchestrator.WithLogger(newLogs().Logger())))
	for _, sql := range []string{
		"CREATE TABLE counts (id text PRIMARY KEY, events bigint NOT NULL) WITH (fillfactor = 50)",
		fmt.Sprintf(`INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
			SELECT 'Identity', 'User', 'user ' || n %% 10000, n / 10000 + 1, gen_random_uuid(), 'Something', '{}' FROM generate_series(0, %d) AS n`, events-1),
		"VACUUM ANALYZE events",
	} {
		_, err := db.Exec(b.Context(), sql)
		require.NoError(b, err)
	}
	a, err := admin.New(db, eventstore.New(eventstore.WithLogger(nil)), "set")
	require.NoError(b, err)
	return db, a
}

// startCounting starts a worker with a pool of its own.
func startCounting(b *testing.B, db *pgxpool.Pool, name string, options ...orchestrator.Option) {
	pool, err := pgxpool.NewWithConfig(b.Context(), db.Config())
	require.NoError(b, err)
	orch, err := orchestrator.New(pool, eventstore.New(eventstore.WithLogger(nil)), "set", append(options, orchestrator.WithLogger(newLogs().Logger()), orchestrator.WithWorkerName(name))...)
	require.NoError(b, err)
	ctx, stop := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(ctx, []projection.Projection{counted{}}) }()
	b.Cleanup(func() {
		stop()
		require.NoError(b, <-ended)
		pool.Close()
	})
}

// BenchmarkPause reports how long Pause takes while a worker with four partitions handles events as fast as it can.
func BenchmarkPause(b *testing.B) {
	db, a := countedWorld(b, 1_000_000)
	startCounting(b, db, "one", orchestrator.WithPartitionsPerWorker(4))
	require.Eventually(b, func() bool {
		var moved bool
		return db.QueryRow(b.Context(), "SELECT coalesce(min(position) > 0, false) FROM orchestrator_checkpoints").Scan(&moved) == nil && moved
	}, time.Minute, 10*time.Millisecond)
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		require.NoError(b, a.Pause(b.Context(), admin.Target{Projection: "counts"}, "", time.Time{}))
		took = append(took, time.Since(began))
		require.NoError(b, a.Resume(b.Context(), admin.Target{Projection: "counts"}, ""))
		if s, err := a.Snapshot(b.Context()); err == nil && s.Projections[0].Lag < 50_000 { // there is load all the time
			require.NoError(b, a.Reset(b.Context(), "counts", admin.Start(), ""))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "p99-ms")
}

// BenchmarkRebuild reports how long the rebuild of a projection takes over 1,000,000 events, from the call of Reset on.
func BenchmarkRebuild(b *testing.B) {
	for _, workers := range []int{1, 4} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			db, a := countedWorld(b, 1_000_000)
			for n := range workers {
				startCounting(b, db, fmt.Sprint("worker ", n))
			}
			caughtUp := func() bool {
				s, err := a.Snapshot(b.Context())
				return err == nil && len(s.Projections) == 1 && s.Projections[0].Lag == 0 && len(s.Projections[0].Partitions) == workers
			}
			require.Eventually(b, caughtUp, 2*time.Minute, 10*time.Millisecond)
			var reset, rebuilt time.Duration
			n := 0
			for b.Loop() {
				began := time.Now()
				require.NoError(b, a.Reset(b.Context(), "counts", admin.Start(), ""))
				reset += time.Since(began)
				require.Eventually(b, caughtUp, 2*time.Minute, 10*time.Millisecond)
				rebuilt += time.Since(began)
				n++
			}
			b.ReportMetric(float64(reset.Milliseconds())/float64(n), "reset-ms")
			b.ReportMetric(float64(rebuilt.Milliseconds())/float64(n), "rebuilt-ms")
			var total int64
			require.NoError(b, db.QueryRow(b.Context(), "SELECT sum(events) FROM counts").Scan(&total))
			require.EqualValues(b, 1_000_000, total)
		})
	}
}
