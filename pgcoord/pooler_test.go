package pgcoord

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// bounced is a database, and a pool that reaches it through a PgBouncer.
func bounced(t *testing.T, mode pgtest.PoolMode, settings map[string]string) (direct, pool *pgxpool.Pool) {
	t.Helper()
	direct = pgtest.NewDatabase(t)
	dsn := direct.Config().ConnString()
	b := pgtest.OwnBouncer(t, dsn, mode, settings)
	return direct, poolOf(t, b.DSN(direct.Config().ConnConfig.Database), pgx.QueryExecModeExec)
}

// eachWay runs a test in a database with the tables that is reached directly, and
// in one that is reached through PgBouncer in transaction mode.
func eachWay(t *testing.T, test func(*testing.T, *pgxpool.Pool)) {
	t.Helper()
	t.Run("directly", func(t *testing.T) {
		t.Parallel()
		test(t, newPool(t))
	})
	t.Run("through PgBouncer", func(t *testing.T) {
		t.Parallel()
		_, pool := bounced(t, pgtest.TransactionMode, nil)
		createTables(t, pool)
		test(t, pool)
	})
}

func poolOf(t *testing.T, dsn string, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.ConnConfig.DefaultQueryExecMode = mode
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// inMode is a pool as the other one but for the exec mode.
func inMode(t *testing.T, pool *pgxpool.Pool, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	return poolOf(t, pool.Config().ConnString(), mode)
}

func TestTheWholeCycleThroughPgBouncer(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			_, pool := bounced(t, pgtest.TransactionMode, nil)
			pool = inMode(t, pool, mode)
			createTables(t, pool)
			goThroughTheWholeCycle(t, pool, "")
		})
	}
}

// sessionSettings is what a backend's next transaction would run with.
const sessionSettings = `
SELECT concat_ws(' ', pg_backend_pid(), current_setting('synchronous_commit'), current_setting('idle_in_transaction_session_timeout'),
    current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('default_transaction_isolation'), (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()))`

// settingsOf are the settings of every backend of the pooler, as another client
// meets them: it takes n at once.
func settingsOf(t *testing.T, pool *pgxpool.Pool, n int) map[string]string {
	t.Helper()
	found := map[string]string{}
	for range n {
		conn := dial(t, pool)
		exec(t, conn, `BEGIN`)
		defer exec(t, conn, `COMMIT`)
		text := value[string](t, conn, sessionSettings)
		var pid string
		_, err := fmt.Sscan(text, &pid)
		require.NoError(t, err)
		found[pid] = text + " " + value[string](t, conn, `SELECT current_setting('application_name')`)
	}
	return found
}

// A pooled backend is the application's again after each transaction.
func TestNothingOfAWorkerStaysOnAPooledBackend(t *testing.T) {
	t.Parallel()
	const backends = 3
	_, pool := bounced(t, pgtest.TransactionMode, map[string]string{"default_pool_size": fmt.Sprint(backends)})
	createTables(t, pool)
	before := settingsOf(t, pool, backends)
	require.Len(t, before, backends)
	s := open(t, pool, "main")
	w := join(t, s, pool, "orders")
	number := generation(t, s, pool, 0, w)
	rows, err := s.Assignment(t.Context(), pool, w, number)
	require.NoError(t, err)
	f := Fence{Projection: "orders", Partition: rows[0].Partition, Generation: number, Worker: w}
	for i := range 2 * int64(backends) {
		b, err := s.BeginBatch(t.Context(), pool, f, whole(i), i+1, BatchSettings{IdleTimeout: 7654321 * time.Millisecond})
		require.NoError(t, err)
		t.Cleanup(func() { b.Rollback(context.Background()) })
		if i%2 == 0 {
			assert.Equal(t, ApplicationName(w), value[string](t, b.Tx(), `SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()`))
			assert.Equal(t, "off", value[string](t, b.Tx(), `SHOW synchronous_commit`))
		}
		require.NoError(t, b.Commit(t.Context(), i+1))
	}
	_, err = s.BeginBatch(t.Context(), pool, f, whole(0), 100, BatchSettings{})
	require.ErrorIs(t, err, ErrMoved)
	require.NoError(t, s.Stop(t.Context(), pool, w, "done"))
	assert.Equal(t, before, settingsOf(t, pool, backends))
}
