package sqltx_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/sqltx"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// do calls f within a transaction of pgx, which it commits.
func do(t testing.TB, db *pgxpool.Pool, f func(tx *sql.Tx) error) error {
	t.Helper()
	return pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		return sqltx.Do(t.Context(), batchtx.Guard(tx), f)
	})
}

// columns are a value of each type that database/sql may meet.
var columns = strings.Join([]string{
	`NULL::int4 AS nothing`, `true AS "bool"`, `1::int2 AS "int2"`, `-2::int4 AS "int4"`, `9223372036854775807::int8 AS "int8"`, `1.5::float4 AS "float4"`,
	`'NaN'::float8 AS "float8"`, `123456789012345678901234567890.5::numeric AS "numeric"`, `'text'::text AS "text"`, `'v'::varchar(3) AS "varchar"`,
	`'c'::char(3) AS "char"`, `''::text AS "empty"`, `'\x00ff'::bytea AS "bytea"`, `'{"a": 1}'::json AS "json"`, `'{"a": 1}'::jsonb AS "jsonb"`,
	`'2026-02-03'::date AS "date"`, `'infinity'::date AS "no_date"`, `'2026-02-03 04:05:06.789'::timestamp AS "timestamp"`,
	`'2026-02-03 04:05:06.789+02'::timestamptz AS "timestamptz"`, `'-infinity'::timestamptz AS "no_time"`, `'1 day 02:03'::interval AS "interval"`,
	`'04:05'::time AS "time"`, `'6f9619ff-8b86-d011-b42d-00cf4fc964ff'::uuid AS "uuid"`, `'{1,NULL,3}'::int4[] AS "array"`, `'{a,"b c"}'::text[] AS "texts"`,
	`'[1,5)'::int4range AS "range"`, `'10.0.0.1'::inet AS "inet"`, `'101'::varbit AS "varbit"`, `26::oid AS "oid"`, `7::text::xid AS "xid"`, `'<a/>'::xml AS "xml"`,
	`1.5::money AS "money"`, `ROW(1, 'a') AS "record"`, `'a'::"char" AS "quoted_char"`,
}, ", ")

// A row is what it is through pgx's own package for database/sql, whatever the mode of the connections.
func TestValuesAreThoseOfStdlib(t *testing.T) {
	pool := pgtest.NewDatabase(t)
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			db := pgtest.PoolInMode(t, pool.Config(), mode)
			other := stdlib.OpenDBFromPool(db)
			defer func() { require.NoError(t, other.Close()) }()
			query := `SELECT ` + columns + ` WHERE $1::text = 'yes'`
			want := read(t, other.QueryContext, query, "yes")
			require.Greater(t, len(want), 30)
			require.NoError(t, do(t, db, func(tx *sql.Tx) error {
				assert.Equal(t, want, read(t, tx.QueryContext, query, "yes"))
				return nil
			}))
		})
	}
}

// column is what database/sql says of a column, and has in it.
type column struct{ name, database, scan, value any }

// read reads a row.
func read(t *testing.T, query func(context.Context, string, ...any) (*sql.Rows, error), sql string, args ...any) []column {
	t.Helper()
	rows, err := query(t.Context(), sql, args...)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	require.True(t, rows.Next())
	types, err := rows.ColumnTypes()
	require.NoError(t, err)
	values := make([]any, len(types))
	into := make([]any, len(types))
	for i := range values {
		into[i] = &values[i]
	}
	require.NoError(t, rows.Scan(into...))
	found := make([]column, len(types))
	for i, c := range types {
		if moment, is := values[i].(time.Time); is {
			values[i] = moment.UTC()
		}
		if number, is := values[i].(float64); is && number != number { //nolint:gocritic // this is how NaN is told
			values[i] = "NaN"
		}
		found[i] = column{c.Name(), c.DatabaseTypeName(), c.ScanType().String(), values[i]}
	}
	require.False(t, rows.Next())
	require.NoError(t, rows.Err())
	return found
}

// Whatever a handler does with its *sql.Tx, the transaction goes on, and what it has done is committed with it.
func TestTheTransactionGoesOn(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *sql.Tx){
		"nothing":  func(*testing.T, *sql.Tx) {},
		"commit":   func(t *testing.T, tx *sql.Tx) { require.ErrorIs(t, tx.Commit(), batchtx.ErrOwner) },
		"rollback": func(t *testing.T, tx *sql.Tx) { require.ErrorIs(t, tx.Rollback(), batchtx.ErrOwner) },
		"a result is left open": func(t *testing.T, tx *sql.Tx) {
			rows, err := tx.QueryContext(t.Context(), `SELECT generate_series(1, 100000)`) //nolint:sqlclosecheck // that is the fault
			require.NoError(t, err)
			require.True(t, rows.Next())
			require.NoError(t, rows.Err())
		},
		"a statement is left open": func(t *testing.T, tx *sql.Tx) {
			statement, err := tx.PrepareContext(t.Context(), `INSERT INTO words VALUES ($1)`) //nolint:sqlclosecheck // that is the fault
			require.NoError(t, err)
			for _, word := range []string{"one", "two"} {
				_, err = statement.ExecContext(t.Context(), word)
				require.NoError(t, err)
			}
			var n int
			statement, err = tx.PrepareContext(t.Context(), `DELETE FROM words WHERE word <> $1 RETURNING 7`) //nolint:sqlclosecheck // that is the fault
			require.NoError(t, err)
			require.NoError(t, statement.QueryRowContext(t.Context(), "first").Scan(&n))
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.NewDatabase(t)
			_, err := db.Exec(t.Context(), `CREATE TABLE words (word text)`)
			require.NoError(t, err)
			require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
				require.NoError(t, sqltx.Do(t.Context(), batchtx.Guard(tx), func(tx *sql.Tx) error {
					result, err := tx.ExecContext(t.Context(), `INSERT INTO words VALUES ($1)`, "first")
					require.NoError(t, err)
					n, err := result.RowsAffected()
					require.NoError(t, err)
					assert.Equal(t, int64(1), n)
					end(t, tx)
					return nil
				}))
				assert.Equal(t, byte('T'), tx.Conn().PgConn().TxStatus())
				return sqltx.Do(t.Context(), batchtx.Guard(tx), func(tx *sql.Tx) error {
					_, err := tx.ExecContext(t.Context(), `INSERT INTO words VALUES ($1)`, "second")
					return err
				})
			}))
			var found string
			require.NoError(t, db.QueryRow(t.Context(), `SELECT string_agg(word, ' ' ORDER BY word) FROM words`).Scan(&found))
			assert.Equal(t, "first second", found)
		})
	}
}

// Errors are the database's own, and what f returns or panics with is passed on.
func TestErrorsArePassedOn(t *testing.T) {
	db := pgtest.NewDatabase(t)
	err := do(t, db, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `SELECT 1/0`)
		return err
	})
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "22012", pgErr.Code)
	err = do(t, db, func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(t.Context(), `SELECT 1/(2 - n) FROM generate_series(1, 2) AS n ORDER BY n DESC`).Scan(&n)
	})
	require.ErrorAs(t, err, &pgErr)
	own := errors.New("own")
	require.ErrorIs(t, do(t, db, func(*sql.Tx) error { return own }), own)
	require.PanicsWithValue(t, "own", func() { _ = do(t, db, func(*sql.Tx) error { panic("own") }) })

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		require.ErrorIs(t, sqltx.Do(ctx, tx, func(*sql.Tx) error { return nil }), context.Canceled)
		return nil
	}))
}

// pidOf is the backend that a query runs in.
func pidOf(t *testing.T, q sqltx.Querier) (pid uint32) {
	t.Helper()
	rows, err := q.QueryContext(t.Context(), `SELECT pg_backend_pid()`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	require.True(t, rows.Next())
	require.NoError(t, rows.Scan(&pid))
	require.NoError(t, rows.Err())
	return pid
}

// When Do has returned, nothing uses the connection any more, though the context ended while a result was open. The race detector watches.
func TestNothingUsesTheConnectionAfterwards(t *testing.T) {
	db := pgtest.NewDatabase(t)
	for range 30 {
		conn, err := pgx.ConnectConfig(t.Context(), db.Config().ConnConfig)
		require.NoError(t, err)
		own, _, err := batchtx.Begin(t.Context(), conn, batchtx.Settings{})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err = sqltx.Do(ctx, batchtx.Guard(own), func(tx *sql.Tx) error {
			rows, err := tx.QueryContext(t.Context(), `SELECT generate_series(1, 300000)`) //nolint:sqlclosecheck // that is the fault
			if err != nil || !rows.Next() {
				return errors.Join(err, rows.Err())
			}
			<-ctx.Done()
			return ctx.Err()
		})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.False(t, conn.PgConn().IsBusy())
		own.Abort(t.Context())
		batchtx.Close(conn)
	}
}

// Under has the connection that the *sql.Tx or *sql.Conn sends its statements through.
func TestTheConnectionUnderDatabaseSQL(t *testing.T) {
	pool := pgtest.NewDatabase(t)
	other := stdlib.OpenDBFromPool(pool)
	defer func() { require.NoError(t, other.Close()) }()
	check := func(q sqltx.Querier) {
		t.Helper()
		pid := pidOf(t, q)
		require.NoError(t, sqltx.Under(t.Context(), q, func(conn *pgx.Conn) error {
			assert.Equal(t, pid, conn.PgConn().PID())
			var one int
			return conn.QueryRow(t.Context(), `SELECT 1`).Scan(&one)
		}))
		own := errors.New("own")
		require.ErrorIs(t, sqltx.Under(t.Context(), q, func(*pgx.Conn) error { return own }), own)
	}
	conn, err := other.Conn(t.Context())
	require.NoError(t, err)
	check(conn)
	require.NoError(t, conn.Close())
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	check(tx)
	require.NoError(t, tx.Rollback())
	require.ErrorIs(t, sqltx.Under(t.Context(), tx, func(*pgx.Conn) error { return nil }), sql.ErrTxDone)
	require.NoError(t, do(t, pool, func(tx *sql.Tx) error {
		check(tx)
		return nil
	}))
}

// What a call costs beside its statements.
func BenchmarkDo(b *testing.B) {
	db := pgtest.NewDatabase(b)
	tx, err := db.Begin(b.Context())
	require.NoError(b, err)
	defer func() { _ = tx.Rollback(b.Context()) }()
	b.ReportAllocs()
	for b.Loop() {
		_ = sqltx.Do(b.Context(), tx, func(*sql.Tx) error { return nil })
	}
}
