package batchtx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// endTimeout bounds a rollback. The connection is closed if it passes.
const endTimeout = 5 * time.Second

// Rollback ends whatever transaction is open on the connection, also after ctx has ended. It closes the connection if that fails.
func Rollback(ctx context.Context, conn *pgx.Conn) {
	if conn.IsClosed() || conn.PgConn().TxStatus() == inNone {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		_ = conn.Close(ctx) // the server rolls back what has lost its connection
	}
}

// Close closes the connection without waiting long for a server that may be gone.
func Close(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}

// Abort rolls back, in one round trip, also after ctx has ended, and says whether the connection was lost. It closes the connection unless the
// transaction is the one that was begun: a handler that has ended it may have set a role, or anything else, for the session. It closes it as
// well where a handler has left a result open, and where a statement of the handler has failed for a timeout or a role that whoever had the connection
// before may have left behind: the pool would give that connection to the next attempt. Then it was not lost.
func (t *Tx) Abort(ctx context.Context) (lost bool) {
	t.over.Store(true)
	if t.conn.IsClosed() {
		return true
	}
	aborted := t.conn.PgConn().TxStatus() == inAborted
	own := t.abort(ctx, aborted)
	lost = t.conn.IsClosed()
	if !own || aborted && dbguard.Unfit(t.last) {
		Close(t.conn)
	}
	return lost
}

// abort rolls back, and says whether that was the transaction that was begun. One that an error has aborted does not tell its id. There it is looked
// afterwards whether the transaction that was begun was rolled back, and the session's roles are as they were.
func (t *Tx) abort(ctx context.Context, aborted bool) (own bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	sql, at := sqlCurrent+"; ROLLBACK", 0
	want := []string{t.id}
	if aborted {
		sql, at = fmt.Sprintf(sqlAborted, t.id), 1
		want = []string{"aborted", t.found.sessionAuthorization, t.found.role, t.found.rowSecurity}
	}
	results, err := t.conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil || len(results) <= at || len(results[at].Rows) != 1 {
		return false
	}
	return slices.EqualFunc(results[at].Rows[0], want, func(found []byte, want string) bool { return string(found) == want })
}

// sqlAborted rolls back and returns what became of the transaction with an id.
const sqlAborted = `ROLLBACK; SELECT pg_catalog.pg_xact_status('%s'::pg_catalog.xid8), pg_catalog.current_setting('session_authorization'),
    pg_catalog.current_setting('role'), pg_catalog.current_setting('row_security')`

// Spoils says whether an error of CommitWith leaves a connection that nobody should use: a handler has ended the transaction and may have
// set anything for the session, or the error may come of the connection's own state, such as prepared statements that a handler has discarded.
func Spoils(err error) bool { return errors.Is(err, ErrOwner) || dbfault.HasClass(err, "26", "42") }
