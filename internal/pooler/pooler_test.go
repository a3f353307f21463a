package pooler

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// exec executes a statement that must succeed.
func exec(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err, sql)
}

// dial opens a connection that is closed when the test ends.
func dial(t testing.TB, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// bounced is a database, and a pool that reaches it through a PgBouncer.
func bounced(t *testing.T, mode pgtest.PoolMode, settings map[string]string) (direct, pool *pgxpool.Pool) {
	t.Helper()
	direct = pgtest.NewDatabase(t)
	dsn := direct.Config().ConnString()
	b := pgtest.OwnBouncer(t, dsn, mode, settings)
	return direct, poolOf(t, b.DSN(direct.Config().ConnConfig.Database), pgx.QueryExecModeExec)
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

// connector opens connections as the pool does.
func connector(pool *pgxpool.Pool) Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, pool.Config().ConnConfig) }
}

// busy occupies n backends for the rest of the test and leaves some others at rest.
func busy(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for i := range 2 * n {
		conn := dial(t, pool)
		exec(t, conn, `BEGIN`)
		if i < n {
			t.Cleanup(func() { _, _ = conn.Exec(context.Background(), `COMMIT`) })
		} else {
			defer exec(t, conn, `COMMIT`)
		}
	}
}

func TestConnectionWithoutAPoolerIsASession(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	require.NoError(t, Check(t.Context(), pool, func(context.Context) (*pgx.Conn, error) {
		return nil, errors.New("without a pooler there is nothing to prove")
	}))
	require.NoError(t, Check(t.Context(), pool, nil))
}

// What is in use otherwise, and in which order PgBouncer hands out its backends,
// must not matter to what is found out.
func TestPoolerInTransactionModeKeepsNoSession(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string]map[string]string{
		"last used first": {"server_round_robin": "0"},
		"round robin":     {"server_round_robin": "1"},
		"one backend":     {"default_pool_size": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, pool := bounced(t, pgtest.TransactionMode, settings)
			for range 5 {
				require.ErrorIs(t, Check(t.Context(), pool, connector(pool)), ErrNoSession)
				require.NoError(t, Check(t.Context(), pool, nil))
			}
			if settings["default_pool_size"] != "1" {
				busy(t, pool, 2)
				require.ErrorIs(t, Check(t.Context(), pool, connector(pool)), ErrNoSession, "among others")
			}
		})
	}
}

func TestPoolerInSessionModeKeepsSessions(t *testing.T) {
	t.Parallel()
	_, pool := bounced(t, pgtest.SessionMode, nil)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeDescribeExec} {
		own := inMode(t, pool, mode)
		for range 5 {
			require.NoError(t, Check(t.Context(), own, connector(own)), mode.String())
		}
	}
}

// A pool behind a pooler does not keep the worker from a session without it.
func TestSessionBesideThePooler(t *testing.T) {
	t.Parallel()
	direct, pool := bounced(t, pgtest.TransactionMode, nil)
	require.NoError(t, Check(t.Context(), pool, connector(direct)))
}

func TestPoolerInStatementModeIsRefused(t *testing.T) {
	t.Parallel()
	_, pool := bounced(t, pgtest.StatementMode, nil)
	for _, session := range []Connect{nil, connector(pool)} {
		err := Check(t.Context(), pool, session)
		require.ErrorIs(t, err, ErrNoTransactions)
		require.ErrorContains(t, err, "statement pooling mode")
	}
}

// PgBouncer says 08P01 also if it cannot reach the server, which may pass.
func TestPoolerWithoutAServerIsNoMode(t *testing.T) {
	t.Parallel()
	server := pgtest.Own(t, pgtest.Options{})
	b := pgtest.OwnBouncer(t, server.DSN("postgres"), pgtest.TransactionMode, map[string]string{"query_wait_timeout": "1"})
	pool := poolOf(t, b.DSN("postgres"), pgx.QueryExecModeExec)
	require.NoError(t, Check(t.Context(), pool, nil))
	require.NoError(t, server.Stop(pgtest.Immediate))
	err := checkTransactions(t.Context(), pool)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNoTransactions)
	err = Check(t.Context(), poolOf(t, b.DSN("postgres")+"&application_name=shop", pgx.QueryExecModeExec), nil)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNoStartupParameters)
}

// Which of pgx's modes work in transaction mode. That prepared statements do is
// up to PgBouncer's version and settings, so there what is found out is compared
// with what happens.
func TestExecModesInTransactionMode(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"0", "1"} {
		_, pool := bounced(t, pgtest.TransactionMode, map[string]string{"server_round_robin": order})
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			require.NoError(t, Check(t.Context(), inMode(t, pool, mode), nil), mode.String())
		}
		err := Check(t.Context(), inMode(t, pool, pgx.QueryExecModeDescribeExec), nil)
		require.ErrorIs(t, err, ErrNoPreparedStatements)
		require.ErrorContains(t, err, "default_query_exec_mode=exec")

		preparing := inMode(t, pool, pgx.QueryExecModeCacheStatement)
		if loses := losesStatements(t, preparing); loses == nil {
			require.NoError(t, Check(t.Context(), preparing, nil))
		} else {
			require.ErrorIs(t, Check(t.Context(), preparing, nil), ErrNoPreparedStatements, "%v", loses)
		}
	}
}

// losesStatements executes a prepared statement on two backends and returns what
// comes of it.
func losesStatements(t *testing.T, pool *pgxpool.Pool) error {
	t.Helper()
	conns := [2]*pgx.Conn{dial(t, pool), dial(t, pool)}
	for _, conn := range conns {
		for _, other := range conns { // on whatever backend
			if _, err := other.Exec(t.Context(), `SELECT $1::int`, 1); err != nil {
				return err
			}
		}
		exec(t, conn, `BEGIN`)
		for _, other := range conns {
			if _, err := other.Exec(t.Context(), `SELECT $1::int`, 1); err != nil {
				return err
			}
		}
		exec(t, conn, `COMMIT`)
	}
	return nil
}
