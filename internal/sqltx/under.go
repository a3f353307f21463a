package sqltx

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// Querier is what a *sql.Tx and a *sql.Conn have in common, and what tools around database/sql give.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Under calls f with the connection of pgx that the querier sends its statements through. Nothing else can use the connection meanwhile. It is an error if
// the querier has none.
//
// It asks by a query whose argument is a pgx.QueryRewriter: pgx gives that the connection before it sends anything, and the rewriter's error ends the query.
func Under(ctx context.Context, q Querier, f func(*pgx.Conn) error) error {
	r := &rewriter{f: f}
	found, err := q.QueryContext(ctx, "SELECT 1", r)
	switch {
	case r.called:
		return r.err
	case err != nil:
		return fmt.Errorf("finding the connection under database/sql, which must be of github.com/jackc/pgx/v5/stdlib: %w", err)
	}
	defer func() { _ = found.Close() }()
	return errors.Join(errors.New("finding the connection under database/sql: it is not of github.com/jackc/pgx/v5/stdlib"), found.Err())
}

// rewriter calls f in place of the query.
type rewriter struct {
	f      func(*pgx.Conn) error
	called bool
	err    error
}

var errCalled = errors.New("there is nothing to query")

// RewriteQuery calls f.
func (r *rewriter) RewriteQuery(_ context.Context, conn *pgx.Conn, _ string, _ []any) (string, []any, error) {
	if !r.called {
		r.called = true
		r.err = r.f(conn)
	}
	return "", nil, errors.Join(errCalled, r.err) // whoever watches the statements of a batch sees what the database has said
}

// Begun is the transaction that the connection is in, which somebody else ends.
func Begun(conn *pgx.Conn) pgx.Tx { return begun{conn} }

// pgxConn is a connection, without the name of its type.
type pgxConn = pgx.Conn

// begun is a transaction that somebody else has begun.
type begun struct{ *pgxConn }

// Begin refuses: on the connection it would begin a transaction.
func (begun) Begin(context.Context) (pgx.Tx, error) {
	return nil, errors.New("a transaction of database/sql has no savepoints of pgx")
}

// Commit refuses.
func (begun) Commit(context.Context) error { return batchtx.ErrOwner }

// Rollback refuses.
func (begun) Rollback(context.Context) error { return batchtx.ErrOwner }

// LargeObjects is not available.
func (begun) LargeObjects() pgx.LargeObjects { return pgx.LargeObjects{} }

// Conn is the connection.
func (b begun) Conn() *pgx.Conn { return b.pgxConn }
