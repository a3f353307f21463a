package face

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// misleads is a handler that leaves its connection with other tables in sight.
type misleads struct{ name string }

func (m misleads) Name() string { return m.name }

func (m misleads) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "INSERT INTO public.handled (projection, position) VALUES ($1, $2)", m.name, event.GlobalPosition)
	if err == nil {
		_, err = tx.Exec(ctx, mislead)
	}
	return err
}

const (
	otherTables = `CREATE SCHEMA other; CREATE TABLE other.events (LIKE public.events INCLUDING ALL);
		CREATE TABLE other.projection_checkpoints (LIKE public.projection_checkpoints INCLUDING ALL)`
	mislead = `SET search_path = other; CREATE TEMP TABLE IF NOT EXISTS events (LIKE public.events INCLUDING ALL)`
)

// shared is the pool of a worker, apart from the test's own, whose first connection misleads.
func (w *world) shared() *pgxpool.Pool {
	w.t.Helper()
	if mode, is := hostileMode(); is && mode != pgx.QueryExecModeSimpleProtocol {
		skipHostile(w.t, "it has a mode of its own")
	}
	config := w.config()
	config.MaxConns = 5
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	pool := w.open(config)
	require.NoError(w.t, pgx.BeginTxFunc(w.t.Context(), pool, readWrite, func(tx pgx.Tx) error {
		_, err := tx.Exec(w.t.Context(), mislead)
		return err
	}))
	return pool
}

// requireAllHandled appends until every connection has misled, and requires that nothing is missing.
func (w *world) requireAllHandled(projections ...string) {
	w.t.Helper()
	for round := 1; round <= 30; round++ {
		w.append("a", 5)
		w.append("b", 5)
		for _, name := range projections {
			w.awaitHandled(name, 10*round)
		}
	}
}

func TestASearchPathThatIsLeftBehindMisleadsNobody(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it changes sessions")
	w := newWorld(t)
	w.exec(otherTables)
	require.NoError(t, w.store.InstallWakeUp(t.Context(), w.application()))
	orch, err := orchestrator.New(w.shared(), w.store, "set", orchestrator.WithLogger(w.logs.Logger()), orchestrator.WithBatchSize(3),
		orchestrator.WithSchema("public"))
	require.NoError(t, err)
	r := start(t, orch, misleads{"p"}, misleads{"q"})
	w.requireAllHandled("p", "q")
	require.NoError(t, r.stop())
}

func TestASearchPathThatIsLeftBehindDoesNotMisleadTheManualProcessor(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it changes sessions")
	w := newWorld(t)
	w.exec(otherTables)
	processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
		DB: w.shared(), EventStore: eventstore.New(), Projection: misleads{"p"}, BatchSize: 3, Logger: w.logs.Logger(),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- processor.Run(ctx) }()
	w.requireAllHandled("p")
	cancel()
	require.NoError(t, await(t, ended, "Run to return"))
}

// A worker must not join the replica set of another schema's tables, and no migration may make tables there.
func TestASearchPathThatIsLeftBehindDoesNotDecideWhereTheTablesAre(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it changes sessions")
	skipHostile(t, "its roles have a search_path of their own")
	w := newEmptyWorld(t)
	w.exec("CREATE SCHEMA other")
	silent := orchestrator.WithLogger(slog.New(slog.DiscardHandler))
	left := func() *pgxpool.Pool {
		pool := w.open(w.config())
		_, err := pool.Exec(t.Context(), "SET search_path = other")
		require.NoError(t, err)
		return pool
	}
	require.NoError(t, eventstore.RunMigrations(left(), eventstore.WithLogger(nil)))
	require.NoError(t, orchestrator.RunMigrations(left(), silent))
	const schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('events', 'orchestrator_checkpoints')"
	require.Equal(t, "public", w.value(schemas))

	require.NoError(t, orchestrator.RunMigrations(w.db, silent, orchestrator.WithSchema("other")))
	orch, err := orchestrator.New(left(), w.store, "set", orchestrator.WithLogger(w.logs.Logger()))
	require.NoError(t, err)
	r := start(t, orch, publicRecorder{recorder{name: "users"}})
	w.await("1", "SELECT count(*) FROM public.orchestrator_workers WHERE state = 'running'")
	require.NoError(t, r.stop())

	// What a hook of the pool sets is meant.
	w.exec("DROP SCHEMA other CASCADE; CREATE SCHEMA other")
	config := w.config()
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		_, err := conn.Exec(ctx, "SET search_path = other")
		return err == nil, err
	}
	require.NoError(t, orchestrator.RunMigrations(w.open(config), silent))
	require.Equal(t, "other, public", w.value(schemas+" ORDER BY 1"))
}
