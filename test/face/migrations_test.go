package face

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Somebody migrates and does not end. Both functions wait for that until their context ends, whatever the pool does about contexts.
func TestMigrationsEndWithTheirContext(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it cancels statements, of which PgBouncer 1.18 may die")
	t.Parallel()
	w := newEmptyWorld(t)
	db := w.application()
	asked := db.Config()
	asked.ConnConfig.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: time.Minute}
	}
	cancelling := w.open(asked)
	other, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = other.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = other.Exec(t.Context(), "SELECT pg_advisory_xact_lock(x'7075706d69677261'::bigint)")
	require.NoError(t, err)

	for name, migrate := range map[string]func(context.Context, *pgxpool.Pool) error{
		"orchestrator": func(ctx context.Context, db *pgxpool.Pool) error { return orchestrator.RunMigrationsContext(ctx, db) },
		"eventstore": func(ctx context.Context, db *pgxpool.Pool) error {
			return eventstore.RunMigrationsContext(ctx, db, eventstore.WithLogger(nil))
		},
	} {
		require.ErrorContains(t, migrate(nil, db), "ctx must not be nil", name)
		for _, pool := range []*pgxpool.Pool{db, cancelling} {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- migrate(ctx, pool) }()
			eventually(t, func() bool {
				var waits bool
				require.NoError(t, other.QueryRow(t.Context(), "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted)").Scan(&waits))
				return waits
			}, func() string { return name + " does not wait for the lock" })
			cancel()
			require.ErrorIs(t, await(t, ended, name), context.Canceled)
		}
	}
	require.NoError(t, other.Rollback(t.Context()))
	var tables int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").Scan(&tables))
	assert.Zero(t, tables)
	require.NoError(t, eventstore.RunMigrationsContext(t.Context(), db, eventstore.WithLogger(nil)))
	require.NoError(t, orchestrator.RunMigrationsContext(t.Context(), db))
}

// A newer version has migrated, as in a rolling update. Workers that run go on, also when their session is lost; a worker that starts says why it
// cannot.
func TestWorkersGoOnWithNewerTables(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.append("ada", 1)
	w.awaitHandled("users", 1)
	w.exec("INSERT INTO orchestrator_schema_version (version, name) VALUES (999, 'of the future')")
	require.ErrorIs(t, w.orchestrator("set").Run(t.Context(), []projection.Projection{recorder{name: "users"}}), orchestrator.ErrMigrationsNewer)
	require.Equal(t, "1", w.value("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%' || (SELECT worker_id FROM orchestrator_workers)"))
	w.append("grace", 1)
	w.awaitHandled("users", 2)
	require.NoError(t, r.stop())
}

// Tables that go back below the versions that hold what workers declare, and up again, forget these workers, not what they declare: those that run enter again by
// themselves, and an operator can reset and cut over as before. What a worker that has ended had declared is unknown then, and not taken for nothing.
func TestDeclarationsOutlastMigrationsDownAndUp(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	w.troubled = true
	w.append("ada", 3)
	second := newVersion()
	r := start(t, w.orchestrator("set"), recorder{name: "p1"}, second)
	w.awaitHandled("p2", 3)
	require.NoError(t, r.stop())
	third := succeeding{acting{recorder{name: "p3"}}, "p2"}
	start(t, w.orchestrator("set"), rebuildable{recorder: recorder{name: "p"}}, recorder{name: "q"})
	start(t, w.orchestrator("set"), third)
	w.awaitHandled("p", 3)
	w.awaitHandled("p3", 3)
	const declared = `SELECT resettable::text, replaces::text FROM orchestrator_workers WHERE state = 'running' ORDER BY resettable`
	const before = `{p} {}, {} {"p3": "p2"}`
	w.await(before, declared)

	require.NoError(t, migrations.Down(t.Context(), w.db, "", migrations.Latest()-5))
	w.append("ada", 1)
	require.NoError(t, orchestrator.RunMigrationsContext(t.Context(), w.db))
	w.await(before, declared)
	w.awaitHandled("q", 4)
	require.NoError(t, w.admin("set").Reset(w.patiently(), "p", admin.Start(), ""))
	w.awaitHandled("p", 4)
	w.requireOrder("p")
	_, err := w.admin("set").CutOver(w.patiently(), "p2", "p3", "")
	require.ErrorContains(t, err, `no worker is on record that has run projection "p2", so it is not known whether it has taken over from another one itself`)
}

// The logger hears of each migration that is applied, of both, and of nothing else.
func TestMigrationsAreLogged(t *testing.T) {
	directOnly(t)
	w := newEmptyWorld(t)
	for range 2 {
		require.NoError(t, eventstore.RunMigrations(w.db, eventstore.WithLogger(w.logs.Logger())))
		require.NoError(t, orchestrator.RunMigrations(w.db, orchestrator.WithLogger(w.logs.Logger())))
	}
	lines := strings.Split(strings.TrimSpace(w.logs.String()), "\n")
	assert.Equal(t, w.value("SELECT (SELECT count(*) FROM orchestrator_schema_version) + (SELECT count(*) FROM eventstore_schema_version)"), fmt.Sprint(len(lines)), lines)
	for _, line := range lines {
		assert.Contains(t, line, `level=INFO msg="a migration was run" component=`)
	}
}
