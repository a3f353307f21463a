package sqltx

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// conn is a connection of database/sql that sends all statements through a transaction.
type conn struct{ tx pgx.Tx }

// These are what database/sql looks for.
var (
	_ driver.ConnBeginTx        = conn{}
	_ driver.ConnPrepareContext = conn{}
	_ driver.ExecerContext      = conn{}
	_ driver.QueryerContext     = conn{}
	_ driver.NamedValueChecker  = conn{}
	_ driver.StmtExecContext    = statement{}
	_ driver.StmtQueryContext   = statement{}
)

// BeginTx begins nothing: the transaction has begun.
func (conn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return ended{}, nil }

// Begin is needed by driver.Conn; database/sql calls BeginTx.
func (c conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

// Close leaves the connection to its owner.
func (conn) Close() error { return nil }

// Prepare is needed by driver.Conn; database/sql calls PrepareContext.
func (c conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext keeps the text. pgx prepares and caches what is sent, as the application's pool is configured.
func (c conn) PrepareContext(_ context.Context, query string) (driver.Stmt, error) {
	return statement{c, query}, nil
}

// ExecContext sends a statement.
func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	tag, err := c.tx.Exec(ctx, query, values(args)...)
	if err != nil {
		return nil, err
	}
	return driver.RowsAffected(tag.RowsAffected()), nil
}

// QueryContext sends a query. The first row is read at once, since the columns are not known before.
func (c conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	found, err := c.tx.Query(ctx, query, append([]any{formats}, values(args)...)...)
	if err != nil {
		return nil, err
	}
	r := &rows{rows: found, types: c.tx.Conn().TypeMap(), ahead: true, more: found.Next()}
	if err := found.Err(); err != nil {
		found.Close()
		return nil, err
	}
	return r, nil
}

// CheckNamedValue leaves values to pgx, which knows more types than database/sql does.
func (conn) CheckNamedValue(*driver.NamedValue) error { return nil }

// values are the arguments as pgx takes them.
func values(args []driver.NamedValue) []any {
	list := make([]any, len(args))
	for i := range args {
		list[i] = args[i].Value
	}
	return list
}

// statement is a prepared statement.
type statement struct {
	conn  conn
	query string
}

// errContext is what the methods without a context return, which database/sql does not call.
var errContext = errors.New("database/sql calls the methods that take a context")

// Close does nothing: pgx keeps what it has prepared.
func (statement) Close() error { return nil }

// NumInput leaves the arguments to the server.
func (statement) NumInput() int { return -1 }

// Exec is not called.
func (statement) Exec([]driver.Value) (driver.Result, error) { return nil, errContext }

// Query is not called.
func (statement) Query([]driver.Value) (driver.Rows, error) { return nil, errContext }

// ExecContext sends the statement.
func (s statement) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.query, args)
}

// QueryContext sends the query.
func (s statement) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.query, args)
}

// formats asks for the types in binary form that database/sql has a value for, and for the rest as text.
var formats = pgx.QueryResultFormatsByOID{
	pgtype.BoolOID: pgx.BinaryFormatCode, pgtype.ByteaOID: pgx.BinaryFormatCode, pgtype.CIDOID: pgx.BinaryFormatCode, pgtype.DateOID: pgx.BinaryFormatCode,
	pgtype.Float4OID: pgx.BinaryFormatCode, pgtype.Float8OID: pgx.BinaryFormatCode, pgtype.Int2OID: pgx.BinaryFormatCode, pgtype.Int4OID: pgx.BinaryFormatCode,
	pgtype.Int8OID: pgx.BinaryFormatCode, pgtype.OIDOID: pgx.BinaryFormatCode, pgtype.TimestampOID: pgx.BinaryFormatCode,
	pgtype.TimestamptzOID: pgx.BinaryFormatCode, pgtype.XIDOID: pgx.BinaryFormatCode,
}
