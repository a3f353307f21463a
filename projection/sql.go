package projection

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// SQLProjection is a Projection that uses database/sql, or a tool that is built on it. HandleSQL is called instead of
// Handle. Embed [SQLOnly] to satisfy the interface.
//
// Running a projection whose HandleSQL has another signature, or that also has HandleBatch, is an error.
type SQLProjection interface {
	Projection

	// HandleSQL applies one event. The promises and rules of Handle apply. tx is the transaction of the batch, on its
	// connection of the pool, so everything written through tx is committed together with the checkpoint. Commit and
	// Rollback on tx return an error and do nothing to the transaction, but end tx for the rest of this call. After
	// HandleSQL has returned, tx has ended, and its statements and results are closed.
	//
	// Values are converted as in github.com/jackc/pgx/v5/stdlib. Arguments may be anything that pgx accepts.
	HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error
}

// SQLBatchProjection is a [BatchProjection] that uses database/sql. HandleSQLBatch is called instead of Handle and
// HandleSQL.
//
// Running a projection whose HandleSQLBatch has another signature, or that also has HandleBatch, is an error.
type SQLBatchProjection interface {
	Projection

	// HandleSQLBatch applies the events, as HandleBatch does. tx is as in HandleSQL.
	HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error
}

// ErrSQLOnly is the error that [SQLOnly.Handle] returns.
var ErrSQLOnly = errors.New("this projection uses database/sql: call HandleSQL or HandleSQLBatch, or give a wrapper around it the method Unwrap() projection.Projection")

// SQLOnly gives a [SQLProjection] or [SQLBatchProjection] the Handle that it does not need. Embed it. Its Handle returns
// [ErrSQLOnly], which reveals a wrapper that hides the other methods.
type SQLOnly struct{}

// Handle returns ErrSQLOnly.
func (SQLOnly) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return ErrSQLOnly }
