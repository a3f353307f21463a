package projection

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// SQLProjection is a Projection that uses database/sql, or a tool that is built on it. HandleSQL is called in place of Handle. Embed [SQLOnly] to have a Handle.
//
// A HandleSQL with another signature is an error when the projection is run, and so is one beside HandleBatch.
type SQLProjection interface {
	Projection

	// HandleSQL applies one event. tx is the transaction of the batch, on its connection of the pool. All that Handle promises and asks for holds here: what is
	// written through tx is committed together with the checkpoint. Commit and Rollback on it return an error and do nothing to the transaction, but end
	// tx for the rest of this call. When HandleSQL has returned, tx has ended, and its statements and results are closed.
	//
	// Values are as those of github.com/jackc/pgx/v5/stdlib. Arguments may be whatever pgx takes.
	HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error
}

// SQLBatchProjection is a [BatchProjection] that uses database/sql. HandleSQLBatch is called in place of Handle and HandleSQL.
//
// A HandleSQLBatch with another signature is an error when the projection is run, and so is one beside HandleBatch.
type SQLBatchProjection interface {
	Projection

	// HandleSQLBatch applies the events, as HandleBatch does. tx is as HandleSQL has it.
	HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error
}

// ErrSQLOnly is returned by the Handle of [SQLOnly].
var ErrSQLOnly = errors.New("this projection uses database/sql: call HandleSQL or HandleSQLBatch, or give a wrapper around it the method Unwrap() projection.Projection")

// SQLOnly is the Handle of a [SQLProjection] or [SQLBatchProjection]. Embed it. It returns [ErrSQLOnly], so that a wrapper that hides the other methods is noticed.
type SQLOnly struct{}

// Handle returns ErrSQLOnly.
func (SQLOnly) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return ErrSQLOnly }
