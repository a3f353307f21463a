package dbguard

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Pool is an application's pool. Statements run on it as they do on the pool itself, except that a connection is closed,
// and not used again, when a statement finds out that its server is a standby.
type Pool struct{ pool *pgxpool.Pool }

// New returns the pool as the library uses it.
func New(pool *pgxpool.Pool) Pool { return Pool{pool: pool} }

// Unguarded returns the application's pool itself.
func (p Pool) Unguarded() *pgxpool.Pool { return p.pool }

// closeTimeout bounds the farewell to a server whose connection is closed.
const closeTimeout = time.Second

// Release returns the connection to its pool. err is what the caller's last statement returned: if it shows that the server is of
// no use, the connection is closed first.
func Release(conn *pgxpool.Conn, err error) {
	if unfit(err) {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		_ = conn.Conn().Close(ctx)
	}
	conn.Release()
}

// unfit says whether the connection's server is of no use. A standby answers BEGIN READ WRITE with 0A000 (feature not
// supported), which is no answer to any other statement of the library.
func unfit(err error) bool {
	return IsStandby(err) || dbfault.Code(err) == "0A000"
}

// Exec executes a statement.
func (p Pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := conn.Exec(ctx, sql, args...)
	Release(conn, err)
	return tag, err
}

// Query executes a query. The connection is held until the rows are closed.
func (p Pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return failedRows{err: err}, err
	}
	found, err := conn.Query(ctx, sql, args...) //nolint:rowserrcheck // whoever reads the rows checks it
	if err != nil {
		Release(conn, err)
		return found, err
	}
	return &rows{Rows: found, conn: conn}, nil
}

// QueryRow executes a query that returns one row.
func (p Pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	found, err := p.Query(ctx, sql, args...) //nolint:rowserrcheck // Scan checks it
	return row{rows: found, err: err}
}

// SendBatch sends the batch. The connection is held until the results are closed.
func (p Pool) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return pgx.FailedBatchResults(b, err)
	}
	return &results{BatchResults: conn.SendBatch(ctx, b), conn: conn}
}

// BeginTx begins a transaction. The connection is held until it ends.
func (p Pool) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	begun, err := conn.BeginTx(ctx, options)
	if err != nil {
		Release(conn, err)
		return nil, err
	}
	return &tx{Tx: begun, conn: conn}, nil
}

// rows releases its connection when it is closed.
type rows struct {
	pgx.Rows
	conn *pgxpool.Conn // nil once it is released
}

// Next reads the next row, and closes the rows after the last.
func (r *rows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Scan reads the row's values, and closes the rows if that fails.
func (r *rows) Scan(destinations ...any) error {
	err := r.Rows.Scan(destinations...)
	if err != nil {
		r.Close()
	}
	return err
}

// Close ends the query and releases the connection.
func (r *rows) Close() {
	r.Rows.Close()
	if r.conn != nil {
		Release(r.conn, r.Err())
		r.conn = nil
	}
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

// results releases its connection when it is closed.
type results struct {
	pgx.BatchResults
	conn *pgxpool.Conn // nil once it is released
}

// Close reads what is left and releases the connection.
func (r *results) Close() error {
	err := r.BatchResults.Close()
	if r.conn != nil {
		Release(r.conn, err)
		r.conn = nil
	}
	return err
}

// tx releases its connection when it ends.
type tx struct {
	pgx.Tx
	conn *pgxpool.Conn // nil once it is released
}

// Commit commits.
func (t *tx) Commit(ctx context.Context) error { return t.end(t.Tx.Commit(ctx)) }

// Rollback rolls back.
func (t *tx) Rollback(ctx context.Context) error { return t.end(t.Tx.Rollback(ctx)) }

func (t *tx) end(err error) error {
	if t.conn != nil {
		Release(t.conn, err)
		t.conn = nil
	}
	return err
}
