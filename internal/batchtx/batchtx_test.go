package batchtx_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// begin begins a transaction on a connection of its own.
func begin(t *testing.T, s batchtx.Settings) *batchtx.Tx {
	t.Helper()
	return beginOn(t, pgtest.NewDatabase(t), s)
}

// beginOn begins a transaction on a connection of its own to the pool's database.
func beginOn(t *testing.T, pool *pgxpool.Pool, s batchtx.Settings) *batchtx.Tx {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { batchtx.Close(conn) })
	tx, rows, err := batchtx.Begin(t.Context(), conn, s, batchtx.Statement{SQL: "SELECT generate_series(1, $1)", Args: []any{3}})
	require.NoError(t, err)
	assert.EqualValues(t, 3, rows)
	return tx
}

// run sends a string by the simple protocol.
func run(t *testing.T, tx *batchtx.Tx, sql string) {
	t.Helper()
	_, err := tx.Conn().PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

func TestVerifyFindsTheEvent(t *testing.T) {
	for _, sql := range []string{"ROLLBACK; BEGIN", "ROLLBACK AND CHAIN", "COMMIT AND CHAIN", "ROLLBACK; BEGIN; SELECT pg_current_xact_id()"} {
		tx := begin(t, batchtx.Settings{ApplicationName: "one of a kind"})
		require.NoError(t, tx.Verify(t.Context()))
		run(t, tx, "SET LOCAL application_name = 'mine'")
		require.NoError(t, tx.Verify(t.Context()), "a handler may set it")
		run(t, tx, "SAVEPOINT s; SET LOCAL application_name = 'other'; ROLLBACK TO s")
		require.NoError(t, tx.Verify(t.Context()))
		run(t, tx, sql)
		require.ErrorIs(t, tx.Verify(t.Context()), batchtx.ErrOwner, sql)
		require.ErrorIs(t, tx.CommitWith(t.Context()), batchtx.ErrOwner, sql)
	}
}

func TestWithoutANameTheCommitFindsOut(t *testing.T) {
	tx := begin(t, batchtx.Settings{})
	run(t, tx, "ROLLBACK AND CHAIN")
	require.NoError(t, tx.Verify(t.Context()))
	require.ErrorIs(t, tx.CommitWith(t.Context()), batchtx.ErrOwner)
}

func TestConflictsAreSeenWhateverAHandlerMakesOfThem(t *testing.T) {
	const conflict = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40P01'; END $$"
	fails := map[string]func(tx pgx.Tx){
		"Exec":     func(tx pgx.Tx) { _, _ = tx.Exec(t.Context(), conflict) },
		"Query":    func(tx pgx.Tx) { rows, _ := tx.Query(t.Context(), conflict); rows.Close() }, //nolint:rowserrcheck // ignored
		"Next":     func(tx pgx.Tx) { rows, _ := tx.Query(t.Context(), conflict); rows.Next() },  //nolint:rowserrcheck // ignored
		"QueryRow": func(tx pgx.Tx) { _ = tx.QueryRow(t.Context(), conflict).Scan() },
		"SendBatch": func(tx pgx.Tx) {
			var batch pgx.Batch
			batch.Queue(conflict)
			_ = tx.SendBatch(t.Context(), &batch).Close()
		},
	}
	for name, fail := range fails {
		for _, nested := range []bool{false, true} {
			tx := begin(t, batchtx.Settings{})
			var own pgx.Tx = tx
			if nested {
				for range 2 {
					var err error
					own, err = own.Begin(t.Context())
					require.NoError(t, err)
				}
			}
			assert.False(t, tx.Conflict(), name)
			fail(own)
			assert.True(t, tx.Conflict(), name)
			_, err := own.Exec(t.Context(), "SELECT 1")
			require.Error(t, err)
			assert.True(t, tx.Conflict(), "%s: a statement of the aborted transaction hides it", name)
			if nested {
				require.NoError(t, own.Rollback(t.Context()))
				require.NoError(t, tx.Verify(t.Context()))
				assert.False(t, tx.Conflict(), "%s: it was handled", name)
			}
		}
	}
}

// What a handler deals with is not why a later error of its own failed the event.
func TestAConflictThatAHandlerDealtWithIsForgotten(t *testing.T) {
	const conflict = "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '55P03'; END $$"
	for name, deal := range map[string]func(tx pgx.Tx){
		"by Rollback": func(tx pgx.Tx) {
			own, err := tx.Begin(t.Context())
			require.NoError(t, err)
			_, err = own.Exec(t.Context(), conflict)
			require.Error(t, err)
			require.NoError(t, own.Rollback(t.Context()))
		},
		"by SQL": func(tx pgx.Tx) {
			_, err := tx.Exec(t.Context(), "SAVEPOINT s")
			require.NoError(t, err)
			_, err = tx.Exec(t.Context(), conflict)
			require.Error(t, err)
			_, err = tx.Exec(t.Context(), "ROLLBACK TO s")
			require.NoError(t, err)
		},
		"by pgx.BeginFunc, at Commit": func(tx pgx.Tx) {
			require.Error(t, pgx.BeginFunc(t.Context(), tx, func(own pgx.Tx) error {
				_, _ = own.Exec(t.Context(), conflict)
				return nil
			}))
			_, err := tx.Exec(t.Context(), "ROLLBACK TO sp_1")
			require.NoError(t, err)
		},
	} {
		tx := begin(t, batchtx.Settings{})
		deal(tx)
		assert.False(t, tx.Conflict(), name)
		require.NoError(t, tx.Last(), name)
		_, err := tx.Conn().PgConn().Exec(t.Context(), "SELECT 1/0").ReadAll() // not seen
		require.Error(t, err)
		assert.False(t, tx.Conflict(), "%s: another error has aborted the transaction", name)
	}

	tx := begin(t, batchtx.Settings{})
	own, err := tx.Begin(t.Context())
	require.NoError(t, err)
	_, err = own.Exec(t.Context(), conflict)
	require.Error(t, err)
	_, err = tx.Conn().PgConn().Exec(t.Context(), "ROLLBACK TO sp_1").ReadAll() // not seen
	require.NoError(t, err)
	assert.False(t, tx.Conflict(), "nothing has aborted the transaction")

	tx = begin(t, batchtx.Settings{})
	var batch pgx.Batch
	batch.Queue(conflict)
	_, err = tx.SendBatch(t.Context(), &batch).Exec() // and the results are left open
	require.Error(t, err)
	assert.True(t, tx.Conflict())
}

// A statement that waits for another transaction ends because of that, and not of its own timeout. A lock_timeout that is shorter stays.
func TestLocksAreWaitedForLessThanAStatementMayTake(t *testing.T) {
	pool := pgtest.NewDatabase(t)
	for _, one := range []struct{ statement, lock, want string }{
		{"0", "0", "0"},
		{"0", "7s", "7s"},
		{"10s", "0", "4s"},
		{"10s", "9s", "4s"},
		{"10s", "3s", "3s"},
		{"2001ms", "0", "801ms"},
		{"1min", "0", "24s"},
		{"1h", "2h", "24min"},
		{"5d", "0", "2d"},
	} {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		for setting, value := range map[string]string{"statement_timeout": one.statement, "lock_timeout": one.lock} {
			_, err = conn.Exec(t.Context(), "SELECT set_config($1, $2, false)", setting, value)
			require.NoError(t, err)
		}
		tx, _, err := batchtx.Begin(t.Context(), conn.Conn(), batchtx.Settings{})
		require.NoError(t, err)
		var statement, lock string
		require.NoError(t, tx.QueryRow(t.Context(), "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')").Scan(&statement, &lock))
		assert.Equal(t, []string{one.statement, one.want}, []string{statement, lock}, "%+v", one)
		assert.False(t, tx.Abort(t.Context()))
		batchtx.Close(conn.Conn())
		conn.Release()
	}
}

// A connection goes back to its pool only if the transaction that is rolled back is the one that was begun.
func TestAbortClosesWhatAHandlerEnded(t *testing.T) {
	pool := pgtest.NewDatabase(t)
	named := batchtx.Settings{ApplicationName: "one of a kind"}
	for sql, closes := range map[string]bool{
		"SELECT 1":                                      false,
		"SELECT 1/0":                                    false,
		"SET LOCAL application_name = 'mine'":           false,
		"SAVEPOINT s; ROLLBACK TO s":                    false,
		"SET SESSION search_path = x; COMMIT":           true,
		"SET SESSION search_path = x; ROLLBACK":         true,
		"COMMIT; BEGIN":                                 true,
		"COMMIT AND CHAIN":                              true,
		"ROLLBACK; SET search_path = x; BEGIN":          true,
		"COMMIT; BEGIN; SELECT pg_current_xact_id()":    true,
		"COMMIT; BEGIN; SELECT 1/0":                     true,
		"ROLLBACK|SET ROLE pg_monitor|BEGIN|SELECT 1/0": true,
		"SET ROLE pg_monitor; SELECT 1/0":               false,
		"SAVEPOINT s; SELECT 1/0":                       false,
		"SELECT set_config('application_name', 'one of a kind', false); COMMIT; BEGIN":               true,
		"SELECT set_config('application_name', 'one of a kind', false); COMMIT; BEGIN; SELECT 1 / 0": true,
	} {
		tx := beginOn(t, pool, named)
		for one := range strings.SplitSeq(sql, "|") {
			_, _ = tx.Conn().PgConn().Exec(t.Context(), one).ReadAll()
		}
		assert.False(t, tx.Abort(t.Context()), "%s: it was not lost", sql)
		assert.Equal(t, closes, tx.Conn().IsClosed(), sql)
		if !closes {
			assert.EqualValues(t, 'I', tx.Conn().PgConn().TxStatus(), sql)
		}
	}
	tx := beginOn(t, pool, batchtx.Settings{})
	_, err := tx.Query(t.Context(), "SELECT 1") //nolint:rowserrcheck,sqlclosecheck // left open
	require.NoError(t, err)
	assert.False(t, tx.Abort(t.Context()))
	assert.True(t, tx.Conn().IsClosed(), "a result was left open")

	for sql, closes := range map[string]bool{
		"SET statement_timeout = 1; SELECT pg_sleep(30)":                            true,
		"SET ROLE pg_monitor; SELECT * FROM pg_authid":                              true,
		"SAVEPOINT s; SET statement_timeout = 1; SELECT pg_sleep(30)|ROLLBACK TO s": false,
		"SELECT 1/0": false,
	} {
		tx = beginOn(t, pool, named)
		for one := range strings.SplitSeq(sql, "|") {
			_, _ = tx.Exec(t.Context(), one, pgx.QueryExecModeSimpleProtocol)
		}
		assert.False(t, tx.Abort(t.Context()), "%s: it was not lost", sql)
		assert.Equal(t, closes, tx.Conn().IsClosed(), sql)
	}

	tx = beginOn(t, pool, named)
	_, err = tx.Exec(t.Context(), "SELECT pg_terminate_backend(pg_backend_pid())")
	require.Error(t, err)
	assert.True(t, tx.Abort(t.Context()))
}

func TestMoreIdleIsBounded(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		time.Second: 4 * time.Second, time.Minute: 4 * time.Minute, 30 * time.Minute: time.Hour, 59 * time.Minute: time.Hour,
	} {
		more, ok := batchtx.MoreIdle(d)
		assert.True(t, ok)
		assert.Equal(t, want, more)
	}
	for _, d := range []time.Duration{time.Hour, 24 * time.Hour} {
		more, ok := batchtx.MoreIdle(d)
		assert.False(t, ok)
		assert.Equal(t, d, more)
	}
}

func TestMayBeIdleEnd(t *testing.T) {
	ended, lost, other := &pgconn.PgError{Code: "25P03"}, errors.New("EOF"), &pgconn.PgError{Code: "57P01"}
	assert.True(t, batchtx.MayBeIdleEnd(ended, time.Second, time.Second))
	assert.True(t, batchtx.MayBeIdleEnd(lost, time.Second, time.Second))
	assert.False(t, batchtx.MayBeIdleEnd(other, time.Second, time.Second))
	assert.False(t, batchtx.MayBeIdleEnd(lost, time.Second, time.Minute))
}
