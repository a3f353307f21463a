// Package sqltx presents a transaction of pgx as a *sql.Tx, so that handlers written for database/sql can use it. It
// also finds the pgx connection under a *sql.Tx.
//
// The stdlib package of pgx makes database/sql connections only from connections that it has opened or acquired itself.
// A batch's transaction has already begun, in one round trip with its locks, and the batch must be able to take its
// connection away from a handler that hangs. This package therefore has a driver of its own that only passes statements
// on. It returns the same column values as stdlib.
package sqltx

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// Do calls f with the transaction as database/sql knows it. When f has returned, the *sql.Tx has ended and what f left open is closed; tx goes on.
// Commit returns batchtx.ErrOwner, and neither Commit nor Rollback does anything but end the *sql.Tx.
func Do(ctx context.Context, tx pgx.Tx, f func(*sql.Tx) error) error {
	db := sql.OpenDB(connector{tx})
	defer func() { _ = db.Close() }() // it has a goroutine
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("showing the transaction to database/sql: %w", err)
	}
	// If it ended with ctx, on a goroutine of database/sql, Rollback would not wait until nothing uses the connection any more.
	given, err := db.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		return fmt.Errorf("showing the transaction to database/sql: %w", err)
	}
	defer func() { _ = given.Rollback() }()
	return f(given)
}

// connector is the driver.Connector of one transaction.
type connector struct{ tx pgx.Tx }

// Connect returns a connection within the transaction.
func (c connector) Connect(context.Context) (driver.Conn, error) { return conn(c), nil }

// Driver is needed by driver.Connector.
func (connector) Driver() driver.Driver { return refusing{} }

// refusing is a driver.Driver that opens nothing.
type refusing struct{}

// Open refuses.
func (refusing) Open(string) (driver.Conn, error) {
	return nil, errors.New("a transaction cannot be opened by name")
}

// ended is the end of a *sql.Tx, which is not that of the transaction.
type ended struct{}

// Commit refuses.
func (ended) Commit() error { return batchtx.ErrOwner }

// Rollback refuses; the *sql.Tx is ended by it.
func (ended) Rollback() error { return batchtx.ErrOwner }
