package dbguard

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Transactions runs each statement of a [Pool] in a transaction of its own, in one round trip. The transaction is READ COMMITTED and
// READ WRITE, whatever the role's defaults are, so it fails on a standby. Rows that row-level security hides are an error. The role's
// statement_timeout does not apply.
type Transactions struct {
	Pool
	wait time.Duration // for a lock; 0 leaves the connection's
}

// Waiting is the same with statements that wait for a lock for at most d.
func (t Transactions) Waiting(d time.Duration) Transactions {
	t.wait = d
	return t
}

// InTransactions runs each statement in a transaction of its own.
func (p Pool) InTransactions() Transactions { return Transactions{Pool: p} }

// Options of every transaction of Transactions.
var readWrite = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// sqlOwnSettings turns what a policy hides into an error, and takes the role's statement_timeout from the statement: a busy server may never keep it,
// and the library's statements end with their contexts. Where the caller is frozen, the server ends the statement by $1.
const sqlOwnSettings = `SELECT pg_catalog.set_config('row_security', 'off', true), pg_catalog.set_config('statement_timeout', $1, true)`

// sqlSeveral is sqlOwnSettings for a transaction of several statements, between which the caller may take its time.
const sqlSeveral = sqlOwnSettings + `, pg_catalog.set_config('idle_in_transaction_session_timeout', $2, true)`

// frozenMargin is how long after its context the server ends a statement whose caller does not.
const frozenMargin = time.Second

// statementTimeout is the setting for a statement of the Transactions.
func (t Transactions) statementTimeout() string {
	return strconv.FormatInt((t.watch.patience() + frozenMargin).Milliseconds(), 10)
}

// sqlLockTimeout bounds how long a statement waits for a lock.
const sqlLockTimeout = `SELECT pg_catalog.set_config('lock_timeout', $1, true)`

// Exec executes a statement.
func (t Transactions) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	found, err := t.Query(ctx, sql, args...)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	found.Close()
	return found.CommandTag(), found.Err()
}

// QueryRow executes a query that returns one row.
func (t Transactions) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	found, err := t.Query(ctx, sql, args...) //nolint:rowserrcheck // Scan checks it
	return row{rows: found, err: err}
}

// Query executes a query. The transaction commits when the rows are closed.
func (t Transactions) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if len(args) > 0 {
		if _, ok := args[0].(pgx.QueryExecMode); ok {
			return t.queryInTurn(ctx, sql, args...) //nolint:rowserrcheck // whoever reads the rows checks it
		}
	}
	conn, err := t.Acquire(ctx)
	if err != nil {
		return failedRows{err: err}, err
	}
	var batch pgx.Batch
	batch.BeginTx(readWrite)
	batch.Queue(sqlOwnSettings, t.statementTimeout())
	before := 2
	if t.wait > 0 {
		batch.Queue(sqlLockTimeout, strconv.FormatInt(max(1, t.wait.Milliseconds()), 10))
		before++
	}
	batch.Queue(sql, args...)
	batch.Queue("COMMIT")
	limited, timer := t.watch.time(ctx)
	results := conn.SendBatch(limited, &batch)
	for range before {
		if _, err = results.Exec(); err != nil {
			break
		}
	}
	var found pgx.Rows
	if err == nil {
		found, err = results.Query() //nolint:rowserrcheck // whoever reads the rows checks it
	}
	timer.answered()
	end := func(err error) error {
		var commitErr error
		if err == nil {
			_, commitErr = results.Exec()
		}
		if closeErr := results.Close(); commitErr == nil && err == nil {
			commitErr = closeErr
		}
		commitErr = timer.explain(commitErr)
		endTransaction(ctx, conn)
		Release(conn, errors.Join(err, commitErr))
		return commitErr
	}
	if err != nil {
		timer.waits()
		err = timer.explain(err)
		_ = end(err)
		timer.stop()
		return failedRows{err: err}, err
	}
	return &rows{Rows: found, timer: timer, done: end}, nil
}

// queryInTurn executes a query whose mode is not the connection's, which a batch cannot. It takes several round trips.
func (t Transactions) queryInTurn(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	begun, err := t.BeginTx(ctx, readWrite)
	if err != nil {
		return failedRows{err: err}, err
	}
	_, err = begun.Exec(ctx, sqlOwnSettings, args[0], t.statementTimeout())
	var found pgx.Rows
	if err == nil {
		found, err = begun.Query(ctx, sql, args...) //nolint:rowserrcheck // whoever reads the rows checks it
	}
	if err != nil {
		return failedRows{err: err}, errors.Join(err, begun.Rollback(ctx))
	}
	_, timer := t.watch.time(ctx)
	return &rows{Rows: found, timer: timer, done: func(err error) error {
		if err != nil {
			return begun.Rollback(ctx)
		}
		return begun.Commit(ctx)
	}}, nil
}

// endTransaction rolls back what a failed statement has left open.
func endTransaction(ctx context.Context, conn *pgxpool.Conn) {
	if conn.Conn().IsClosed() || conn.Conn().PgConn().TxStatus() == 'I' {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	_, _ = conn.Exec(ctx, "ROLLBACK")
}
