package projection

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// ErrBatchTransaction is returned to a handler that tries to end the
// transaction it was given, and is part of the error of [HandleSafely] when a
// handler did end it by SQL.
var ErrBatchTransaction = errors.New("the batch's transaction is committed by its owner")

// GuardTx returns tx as handlers may have it: everything works, including
// savepoints by Begin, but Commit and Rollback do nothing and return
// [ErrBatchTransaction]. The owner keeps tx itself to commit with.
//
// A transaction that is begun in a pipeline together with other statements is
// available as a pgx.Tx too: see [pgx.Batch.BeginTx].
func GuardTx(tx pgx.Tx) pgx.Tx { return guardedTx{Tx: tx} }

// guardedTx is a transaction that its holder cannot end.
type guardedTx struct{ pgx.Tx }

// Commit refuses; see [ErrBatchTransaction].
func (guardedTx) Commit(context.Context) error { return ErrBatchTransaction }

// Rollback refuses; see [ErrBatchTransaction].
func (guardedTx) Rollback(context.Context) error { return ErrBatchTransaction }

// NewBatchTx returns the transaction that is open on conn as handlers may have
// it, with the rules of [GuardTx]. It is for owners that sent BEGIN themselves
// and hold no pgx.Tx; they end the transaction on conn.
//
// Nothing is sent until the handler uses it. Begin and LargeObjects need a
// pgx.Tx behind them, which costs one empty round trip, once.
func NewBatchTx(conn *pgx.Conn) pgx.Tx { return &connTx{conn: conn} }

// adoptQuery stands for BEGIN where the transaction is open already. It is
// empty for the server, so it succeeds even in a transaction that a failed
// statement has aborted, where any other statement would be refused.
const adoptQuery = "-- transaction is open"

// connTx is the transaction open on a connection. Only the goroutine that may
// use the connection uses it.
type connTx struct {
	conn *pgx.Conn
	tx   pgx.Tx // nil until something needs it; never committed or rolled back
}

var _ pgx.Tx = (*connTx)(nil)

// adopted is a pgx.Tx for the open transaction.
func (t *connTx) adopted(ctx context.Context) (pgx.Tx, error) {
	if t.tx != nil {
		return t.tx, nil
	}
	tx, err := t.conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: adoptQuery})
	if err != nil {
		return nil, fmt.Errorf("adopting the batch's transaction: %w", err)
	}
	t.tx = tx
	return tx, nil
}

// Begin sets a savepoint. The nested transaction can be committed and rolled back.
func (t *connTx) Begin(ctx context.Context) (pgx.Tx, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("setting a savepoint: %w", err)
	}
	tx, err := t.adopted(ctx)
	if err != nil {
		return nil, err
	}
	return tx.Begin(ctx)
}

// Commit refuses; see [ErrBatchTransaction].
func (t *connTx) Commit(context.Context) error { return ErrBatchTransaction }

// Rollback refuses; see [ErrBatchTransaction].
func (t *connTx) Rollback(context.Context) error { return ErrBatchTransaction }

// SendBatch sends the batch within the transaction. A batch that begins a
// transaction (see [pgx.Batch.BeginTx]) is refused.
func (t *connTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if len(b.QueuedQueries) > 0 && beginsTransaction(b.QueuedQueries[0].SQL) {
		return pgx.FailedBatchResults(b, fmt.Errorf("sending a batch that begins a transaction: %w", ErrBatchTransaction))
	}
	return t.conn.SendBatch(ctx, b)
}

// beginsTransaction says whether sql is a statement that begins a transaction.
func beginsTransaction(sql string) bool {
	first, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(sql)), " ")
	return first == "begin" || first == "start"
}

// LargeObjects gives access to large objects. It panics with an error if the
// connection is lost, as it can return none.
func (t *connTx) LargeObjects() pgx.LargeObjects {
	tx, err := t.adopted(context.Background())
	if err != nil {
		panic(fmt.Errorf("using large objects: %w", err))
	}
	return tx.LargeObjects()
}

// CopyFrom copies rows in; see [pgx.Conn.CopyFrom].
func (t *connTx) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, rows pgx.CopyFromSource) (int64, error) {
	return t.conn.CopyFrom(ctx, table, columns, rows)
}

// Prepare prepares a statement on the connection; see [pgx.Conn.Prepare].
func (t *connTx) Prepare(ctx context.Context, name, sql string) (*pgconn.StatementDescription, error) {
	return t.conn.Prepare(ctx, name, sql)
}

// Exec executes a statement; see [pgx.Conn.Exec].
func (t *connTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return t.conn.Exec(ctx, sql, args...)
}

// Query executes a query; see [pgx.Conn.Query].
func (t *connTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return t.conn.Query(ctx, sql, args...)
}

// QueryRow executes a query for one row; see [pgx.Conn.QueryRow].
func (t *connTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return t.conn.QueryRow(ctx, sql, args...)
}

// Conn is the connection that the transaction is open on. Ending the
// transaction through it breaks the promise of exactly once.
func (t *connTx) Conn() *pgx.Conn { return t.conn }
