package batchtx

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// ErrOwner says that a handler tried to end the transaction, or did end it by SQL.
var ErrOwner = errors.New("Commit or Rollback was called on the library's transaction: leave that out, the library ends it itself")

// ErrReadOnly says that a handler made the transaction read-only.
var ErrReadOnly = errors.New("a handler made the batch's transaction read-only (SET TRANSACTION READ ONLY), so its checkpoint cannot be written")

// ErrRows says that a statement of CommitWith did not change exactly one row.
var ErrRows = errors.New("the row that was locked is not there, or a row security policy or a trigger keeps it from being changed")

// Parameters that do not exist, which the failures of the statements of CommitWith name.
const (
	otherTransaction = "pupsourcing.a_handler_ended_the_transaction"
	readOnly         = "pupsourcing.a_handler_made_the_transaction_read_only"
	notOneRow        = "pupsourcing.not_exactly_one_row"
)

// sqlNoTimeout ends the time that a statement may take, which a handler may have set to a millisecond. It is all that still has to be done
// in that time, so it does as little as possible: no planning, and nothing that a new connection has to look up. With 1ms, on a busy machine, one of
// 600 new connections failed here, and 52 of 600 where sqlRestore came first. After such a failure the batch is handled again, and no event is blamed.
const sqlNoTimeout = `SET LOCAL statement_timeout = 0`

// sqlRestore fails unless the transaction is the one that was begun, and can write. Then it restores what the following statements
// depend on. The role, the session's user and row_security are set for the session: a handler may have set them by SET instead of
// SET LOCAL, which would stay on the application's connection.
var sqlRestore = `
SELECT CASE WHEN (pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text = $1) IS NOT TRUE THEN ` + dbguard.Raise(otherTransaction) + ` END,
    CASE WHEN pg_catalog.current_setting('transaction_read_only') = 'on' THEN ` + dbguard.Raise(readOnly) + ` END,
    CASE WHEN pg_catalog.current_setting('session_authorization') <> $2 THEN pg_catalog.set_config('session_authorization', $2, false) END,
    CASE WHEN pg_catalog.current_setting('role') <> $3 THEN pg_catalog.set_config('role', $3, false) END,
    CASE WHEN pg_catalog.current_setting('row_security') <> $4 THEN pg_catalog.set_config('row_security', $4, false) END,
    CASE WHEN pg_catalog.current_setting('application_name') <> $5 THEN pg_catalog.set_config('application_name', $5, true) END,
    CASE WHEN $6 <> 'off' AND pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', $6, true) END,
    pg_catalog.set_config('lock_timeout', '0', true)`

// sqlSettle checks what the handlers have written and may check at the end: constraints and triggers that are deferred. After it none is, so that a
// failure of a later statement, or of a trigger on its table, is not taken for the handlers'.
const sqlSettle = `SET CONSTRAINTS ALL IMMEDIATE`

// ExactlyOne makes an UPDATE fail with ErrRows in CommitWith, unless it changes exactly one row.
func ExactlyOne(update string) string {
	return `WITH changed AS (` + update + ` RETURNING 1) SELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(notOneRow) + ` END FROM changed`
}

// CommitWith restores the settings that statements depend on, checks what is deferred, runs the statements, and commits, in one round trip. If any of them
// fails nothing is committed. If the connection is lost meanwhile it is not known whether it was. The error wraps ErrOwner, ErrReadOnly
// or ErrRows where the name applies.
func (t *Tx) CommitWith(ctx context.Context, statements ...Statement) error {
	t.over.Store(true)
	restore := t.restore()
	known := t.conn.PgConn().CustomData()
	if known[committed] == nil {
		for _, s := range []Statement{{SQL: sqlNoTimeout}, restore} {
			if _, err := t.conn.Exec(ctx, s.SQL, s.Args...); err != nil {
				return fmt.Errorf("restoring the transaction's settings: %w", explained(err))
			}
		}
	}
	var batch pgx.Batch
	batch.Queue(sqlNoTimeout)
	batch.Queue(restore.SQL, restore.Args...)
	batch.Queue(sqlSettle)
	for _, s := range statements {
		batch.Queue(s.SQL, s.Args...)
	}
	if t.aside != nil {
		t.aside.queue(&batch, t.found)
	}
	batch.Queue("COMMIT")
	results := t.conn.SendBatch(ctx, &batch)
	err := t.readCommit(results, len(statements))
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	delete(known, committed)
	if err == nil {
		known[committed] = true
	}
	return err
}

// Settle restores the settings and checks what is deferred, as CommitWith does before its statements. It neither commits nor rolls back.
func (t *Tx) Settle(ctx context.Context) error {
	restore := t.restore()
	for _, s := range []Statement{{SQL: sqlNoTimeout}, restore} {
		if _, err := t.conn.Exec(ctx, s.SQL, s.Args...); err != nil {
			return fmt.Errorf("restoring the transaction's settings: %w", explained(err))
		}
	}
	if _, err := t.conn.Exec(ctx, sqlSettle); err != nil {
		return commitError{fmt.Errorf("checking what the handlers have deferred: %w", err)}
	}
	return nil
}

// restore is the statement that restores the settings.
func (t *Tx) restore() Statement {
	f := t.found
	return Statement{SQL: sqlRestore, Args: []any{t.id, f.sessionAuthorization, f.role, f.rowSecurity, f.applicationName, f.synchronousCommit}}
}

// committed is a key of a connection's custom data, which is set if the last CommitWith on it succeeded. On a connection that has no
// prepared statements yet, the driver prepares all of them first, under the role that a handler has set, and the server refuses to
// prepare what names a schema that the role may not use. So the first CommitWith on a connection restores the settings in a round trip of
// its own.
const committed = "pupsourcing.batch_committed"

func (t *Tx) readCommit(results pgx.BatchResults, statements int) error {
	for range 2 {
		if _, err := results.Exec(); err != nil {
			return fmt.Errorf("restoring the transaction's settings: %w", explained(err))
		}
	}
	if _, err := results.Exec(); err != nil {
		return commitError{fmt.Errorf("checking what the handlers have deferred: %w", err)}
	}
	for range statements {
		if _, err := results.Exec(); err != nil {
			return explained(err)
		}
	}
	if t.aside != nil {
		if err := t.aside.read(results); err != nil {
			return err
		}
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	if err != nil {
		return commitError{fmt.Errorf("committing: %w", err)}
	}
	return nil
}

// commitError is an error of what is deferred, or of COMMIT itself.
type commitError struct{ error }

func (e commitError) Unwrap() error { return e.error }

// IsOfCommit says whether an error of CommitWith came of what the handlers have deferred, or of COMMIT itself. Where it is an answer of the database,
// it speaks of what the handlers did: a constraint or a trigger that is deferred, or a notification.
func IsOfCommit(err error) bool {
	_, ok := errors.AsType[commitError](err)
	return ok
}

// explained says what a failure of the own conditions means.
func explained(err error) error {
	switch {
	case dbguard.Raised(err, otherTransaction):
		return errReplaced
	case dbguard.Raised(err, readOnly):
		return ErrReadOnly
	case dbguard.Raised(err, notOneRow):
		return ErrRows
	}
	return err
}

// errReplaced wraps ErrOwner.
var errReplaced = fmt.Errorf("%w. Here a handler ended it by SQL and began another: what the batch's earlier events wrote is not in it", ErrOwner)
