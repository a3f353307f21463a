package batchtx

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// States of a transaction, as the server reports them after each statement.
const (
	inNone    = 'I'
	inGood    = 'T'
	inAborted = 'E'
)

// errOver is returned to a goroutine that uses the transaction after its batch has ended. The connection may be another batch's by then.
var errOver = fmt.Errorf("the batch's transaction has ended, and its handler must not use it after it has returned: %w", pgx.ErrTxClosed)

// refused is the results of a batch, or of a query if that is nil, after the transaction.
func refused(b *pgx.Batch) pgx.BatchResults {
	if b == nil {
		b = &pgx.Batch{}
	}
	return pgx.FailedBatchResults(b, errOver)
}

// note remembers an error of the database. 25P02, which every statement of an aborted transaction gets, says nothing of why it is
// aborted. An error that a handler has dealt with, by going back to a savepoint, is forgotten.
func (t *Tx) note(err error) {
	code := dbfault.Code(err)
	switch conn := t.conn.PgConn(); {
	case code != "" && code != "25P02":
		t.last = err
	case t.last != nil && conn.TxStatus() == inGood && !conn.IsBusy():
		t.last = nil
	}
}

// Conflict says whether a conflict with another transaction has aborted the transaction, whatever the handler made of the error: a deadlock, a
// serialization failure, or a lock that was not to be had in time. A result that is still open may hide the transaction's state; then the last
// error decides. A conflict that the handler has dealt with by going back to a savepoint is none. Errors of statements that
// handlers run on Conn() directly are not seen.
func (t *Tx) Conflict() bool {
	conn := t.conn.PgConn()
	return IsConflict(t.last) && (conn.TxStatus() == inAborted || conn.IsBusy())
}

// IsConflict says whether err shows a conflict with another transaction.
func IsConflict(err error) bool { return dbfault.IsConflict(err) || dbfault.Code(err) == "55P03" }

// Last returns the last error of the database that a handler met since Verify and has not dealt with, or nil.
func (t *Tx) Last() error { return t.last }

// Begin begins a savepoint.
func (t *Tx) Begin(ctx context.Context) (pgx.Tx, error) {
	if t.over.Load() {
		return nil, errOver
	}
	return t.savepoint(t.Tx.Begin(ctx))
}

// Exec executes a statement.
func (t *Tx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if t.over.Load() {
		return pgconn.CommandTag{}, errOver
	}
	tag, err := t.Tx.Exec(ctx, sql, args...)
	t.note(err)
	return tag, err
}

// Query executes a query.
func (t *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if t.over.Load() {
		return refused(nil).Query()
	}
	return t.rows(t.Tx.Query(ctx, sql, args...))
}

// QueryRow executes a query that returns one row.
func (t *Tx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if t.over.Load() {
		return refused(nil).QueryRow()
	}
	return notedRow{Row: t.Tx.QueryRow(ctx, sql, args...), tx: t}
}

// SendBatch sends the batch.
func (t *Tx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if t.over.Load() {
		return refused(b)
	}
	return notedResults{BatchResults: t.Tx.SendBatch(ctx, b), tx: t}
}

// CopyFrom copies rows into a table.
func (t *Tx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if t.over.Load() {
		return 0, errOver
	}
	n, err := t.Tx.CopyFrom(ctx, table, columns, source)
	t.note(err)
	return n, err
}

func (t *Tx) savepoint(tx pgx.Tx, err error) (pgx.Tx, error) {
	t.note(err)
	if err != nil {
		return tx, err
	}
	return notedSavepoint{Tx: tx, tx: t}, nil
}

func (t *Tx) rows(rows pgx.Rows, err error) (pgx.Rows, error) {
	t.note(err)
	if err != nil {
		return rows, err
	}
	return notedRows{Rows: rows, tx: t}, nil
}

// notedSavepoint is a savepoint whose errors are noted.
type notedSavepoint struct {
	pgx.Tx
	tx *Tx
}

// Commit releases the savepoint.
func (s notedSavepoint) Commit(ctx context.Context) error {
	if s.tx.over.Load() {
		return errOver
	}
	err := s.Tx.Commit(ctx)
	s.tx.note(err)
	return err
}

// Rollback goes back to the savepoint.
func (s notedSavepoint) Rollback(ctx context.Context) error {
	if s.tx.over.Load() {
		return errOver
	}
	err := s.Tx.Rollback(ctx)
	s.tx.note(err)
	return err
}

// Begin begins a savepoint within it.
func (s notedSavepoint) Begin(ctx context.Context) (pgx.Tx, error) {
	if s.tx.over.Load() {
		return nil, errOver
	}
	return s.tx.savepoint(s.Tx.Begin(ctx))
}

// Exec executes a statement.
func (s notedSavepoint) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if s.tx.over.Load() {
		return pgconn.CommandTag{}, errOver
	}
	tag, err := s.Tx.Exec(ctx, sql, args...)
	s.tx.note(err)
	return tag, err
}

// Query executes a query.
func (s notedSavepoint) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if s.tx.over.Load() {
		return refused(nil).Query()
	}
	return s.tx.rows(s.Tx.Query(ctx, sql, args...))
}

// QueryRow executes a query that returns one row.
func (s notedSavepoint) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if s.tx.over.Load() {
		return refused(nil).QueryRow()
	}
	return notedRow{Row: s.Tx.QueryRow(ctx, sql, args...), tx: s.tx}
}

// SendBatch sends the batch.
func (s notedSavepoint) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if s.tx.over.Load() {
		return refused(b)
	}
	return notedResults{BatchResults: s.Tx.SendBatch(ctx, b), tx: s.tx}
}

// CopyFrom copies rows into a table.
func (s notedSavepoint) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if s.tx.over.Load() {
		return 0, errOver
	}
	n, err := s.Tx.CopyFrom(ctx, table, columns, source)
	s.tx.note(err)
	return n, err
}

// notedRows is rows whose errors are noted.
type notedRows struct {
	pgx.Rows
	tx *Tx
}

// Next reads the next row.
func (r notedRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.tx.note(r.Err())
	return false
}

// Close ends the query.
func (r notedRows) Close() {
	r.Rows.Close()
	r.tx.note(r.Err())
}

// notedRow is a row whose errors are noted.
type notedRow struct {
	pgx.Row
	tx *Tx
}

// Scan reads the row's values.
func (r notedRow) Scan(destinations ...any) error {
	err := r.Row.Scan(destinations...)
	r.tx.note(err)
	return err
}

// notedResults is the results of a batch whose errors are noted.
type notedResults struct {
	pgx.BatchResults
	tx *Tx
}

// Exec reads the next result.
func (r notedResults) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	r.tx.note(err)
	return tag, err
}

// Query reads the next result.
func (r notedResults) Query() (pgx.Rows, error) { return r.tx.rows(r.BatchResults.Query()) }

// QueryRow reads the next result.
func (r notedResults) QueryRow() pgx.Row {
	return notedRow{Row: r.BatchResults.QueryRow(), tx: r.tx}
}

// Close reads what is left.
func (r notedResults) Close() error {
	err := r.BatchResults.Close()
	r.tx.note(err)
	return err
}
