package face

import (
	"maps"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// bounced is a world that reaches its database through a PgBouncer of its own.
func bounced(t *testing.T, mode pgtest.PoolMode, exec pgx.QueryExecMode) *world {
	t.Helper()
	pgtest.SkipBehindPooler(t, "it has a PgBouncer of its own")
	skipHostile(t, "the pooler connects as the administrator")
	w := newWorld(t)
	server := w.db.Config()
	b := pgtest.OwnBouncer(t, server.ConnString(), mode, nil)
	config, err := pgxpool.ParseConfig(b.DSN(server.ConnConfig.Database))
	require.NoError(t, err)
	config.ConnConfig.DefaultQueryExecMode = exec
	w.db, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(w.db.Close)
	return w
}

// refused runs a worker that cannot work and returns what Run says, which must
// not take long.
func refused(t *testing.T, w *world, options ...orchestrator.Option) error {
	t.Helper()
	ended := make(chan error, 1)
	orch := w.orchestrator("set", options...)
	go func() { ended <- orch.Run(t.Context(), []projection.Projection{recorder{name: "users"}}) }()
	return await(t, ended, "Run to refuse")
}

func TestRunNeedsASessionOrPollOnly(t *testing.T) {
	w := bounced(t, pgtest.TransactionMode, pgx.QueryExecModeExec)
	err := refused(t, w)
	require.ErrorIs(t, err, orchestrator.ErrNoSession)
	require.ErrorContains(t, err, "WithPollOnly")

	w.append("ada", 3)
	r := start(t, w.orchestrator("set", orchestrator.WithPollOnly()), recorder{name: "users"})
	w.awaitHandled("users", 3)
	require.NoError(t, r.stop())
}

func TestRunThroughAPoolerThatKeepsSessions(t *testing.T) {
	w := bounced(t, pgtest.SessionMode, pgx.QueryExecModeCacheStatement)
	w.append("ada", 3)
	r := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitHandled("users", 3)
	w.awaitRunning("set", 1)
	assert.Equal(t, "1", w.value(`SELECT count(*) FROM orchestrator_workers AS w JOIN pg_locks AS l
		ON l.locktype = 'advisory' AND l.granted AND ((l.classid::bigint << 32) | l.objid::bigint) = w.session_key`), "the worker's lock")
	require.NoError(t, r.stop())
}

// That statements are described and then executed is refused whatever PgBouncer's
// version; that they are prepared is a matter of its settings (see pgcoord).
func TestRunSaysWhichExecModeHelps(t *testing.T) {
	w := bounced(t, pgtest.TransactionMode, pgx.QueryExecModeDescribeExec)
	err := refused(t, w, orchestrator.WithPollOnly())
	require.ErrorIs(t, err, orchestrator.ErrNoPreparedStatements)
	require.ErrorContains(t, err, "default_query_exec_mode=exec")
}

func TestRunRefusesAPoolerWithoutTransactions(t *testing.T) {
	w := bounced(t, pgtest.StatementMode, pgx.QueryExecModeExec)
	for _, options := range [][]orchestrator.Option{nil, {orchestrator.WithPollOnly()}} {
		err := refused(t, w, options...)
		require.ErrorIs(t, err, orchestrator.ErrNoTransactions)
		require.ErrorContains(t, err, "statement pooling mode")
	}
	require.ErrorContains(t, orchestrator.RunMigrations(w.db), "statement pooling mode")
}

// PgBouncer names one parameter at a time, and refuses for ever: nothing that is tried again.
func TestRunNamesTheParametersThatAPoolerRefuses(t *testing.T) {
	w := bounced(t, pgtest.SessionMode, pgx.QueryExecModeExec)
	config := w.db.Config()
	maps.Copy(config.ConnConfig.RuntimeParams, map[string]string{"statement_timeout": "60000", "work_mem": "8MB", "application_name": "shop"})
	var err error
	w.db, err = pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(w.db.Close)
	for _, options := range [][]orchestrator.Option{nil, {orchestrator.WithPollOnly()}} {
		err := refused(t, w, options...)
		require.ErrorIs(t, err, orchestrator.ErrNoStartupParameters)
		require.ErrorContains(t, err, "refuses statement_timeout and work_mem")
		require.ErrorContains(t, err, "ignore_startup_parameters")
		require.NotContains(t, err.Error(), "shop")
	}
}

// The migrations wait for each other with a lock of their transaction, and do not
// prepare statements, so they work in transaction mode whatever the pool's mode.
func TestRunMigrationsThroughAPooler(t *testing.T) {
	for _, exec := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		w := bounced(t, pgtest.TransactionMode, exec)
		const processes = 4
		ended := make(chan error, 2*processes)
		for range processes {
			go func() { ended <- orchestrator.RunMigrations(w.db, orchestrator.WithSchema("coordination")) }()
			go func() {
				ended <- eventstore.RunMigrations(w.db, eventstore.WithSchema("facts"), eventstore.WithLogger(nil))
			}()
		}
		for range 2 * processes {
			require.NoError(t, await(t, ended, "the migrations"), exec.String())
		}
	}
}
