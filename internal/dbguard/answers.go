package dbguard

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// rows is the result of a query whose connection goes back when it is closed.
type rows struct {
	pgx.Rows
	timer *timer
	done  func(error) error // nil once it was called
	err   error             // of done
}

// Next reads the next row, and closes the rows after the last.
func (r *rows) Next() bool {
	r.timer.waits()
	more := r.Rows.Next()
	r.timer.answered()
	if !more {
		r.Close()
	}
	return more
}

// Scan reads the row's values, and closes the rows if that fails.
func (r *rows) Scan(destinations ...any) error {
	err := r.Rows.Scan(destinations...)
	if err != nil {
		r.Close()
	}
	return err
}

// Close ends the query and gives the connection back.
func (r *rows) Close() {
	r.timer.waits()
	r.Rows.Close()
	if r.done != nil {
		r.err = r.done(r.timer.explain(r.Rows.Err()))
		r.done = nil
	}
	r.timer.stop()
}

// Err is why the rows ended early.
func (r *rows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return r.timer.explain(err)
	}
	return r.err
}

// row is the result of QueryRow.
type row struct {
	rows pgx.Rows
	err  error
}

// Scan reads the row's values. It returns pgx.ErrNoRows if there is no row.
func (r row) Scan(destinations ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(destinations...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}

// failedRows is the result of a query that was not sent.
type failedRows struct {
	pgx.Rows
	err error
}

// Close does nothing.
func (failedRows) Close() {}

// Err is why the query was not sent.
func (r failedRows) Err() error { return r.err }

// Next says that there are no rows.
func (failedRows) Next() bool { return false }

// Scan returns why the query was not sent.
func (r failedRows) Scan(...any) error { return r.err }

// results gives its connection back when it is closed.
type results struct {
	pgx.BatchResults
	conn    *pgxpool.Conn // nil once it was given back
	explain func(error) error
	cancel  context.CancelFunc
}

// Close reads what is left and gives the connection back.
func (r *results) Close() error {
	err := r.explain(r.BatchResults.Close())
	if r.conn != nil {
		Release(r.conn, err)
		r.conn = nil
		r.cancel()
	}
	return err
}

// tx gives its connection back when it ends.
type tx struct {
	pgx.Tx
	pool Pool
	conn *pgxpool.Conn // nil once it was given back
	// unfit is the error of a statement that has shown that the server is of no use.
	unfit error
}

// Exec executes a statement in the transaction.
func (t *tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	tag, err := t.Tx.Exec(ctx, sql, args...)
	if Unfit(err) {
		t.unfit = err
	}
	return tag, err
}

// Commit commits.
func (t *tx) Commit(ctx context.Context) error { return t.end(ctx, t.Tx.Commit) }

// Rollback rolls back.
func (t *tx) Rollback(ctx context.Context) error { return t.end(ctx, t.Tx.Rollback) }

func (t *tx) end(ctx context.Context, end func(context.Context) error) error {
	ctx, explain, cancel := t.pool.Limit(ctx)
	defer cancel()
	err := explain(end(ctx))
	if t.conn != nil {
		Release(t.conn, errors.Join(err, t.unfit))
		t.conn = nil
	}
	return err
}
