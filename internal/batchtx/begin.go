package batchtx

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// ErrTurn says that the statement Settings.Turn waited for a lock longer than Settings.TurnWait. No transaction is open.
var ErrTurn = errors.New("another batch has the turn")

// ErrLocked says that one of the locks waited for longer than Settings.LockWait. No transaction is open.
var ErrLocked = errors.New("another transaction has locked the row for long")

// Settings are local to the transaction, since its connection is the application's.
type Settings struct {
	// ApplicationName is shown in pg_stat_activity. It should differ from the names of other sessions. The transaction also shares
	// the advisory lock hashtextextended(ApplicationName, 0), by which others recognize it: a pooler may change the name that is shown.
	// Empty leaves the connection's name and takes no lock, and then Verify finds out nothing.
	ApplicationName string
	// IdleTimeout ends the transaction on the server if nothing is sent for so long. 0 leaves the connection's.
	IdleTimeout time.Duration
	// SynchronousCommit makes the commit wait for the disk, whatever the connection's setting is. Without it the commit does not wait.
	SynchronousCommit bool
	// Turn, unless its SQL is empty, runs before the locks. It may wait for a lock for TurnWait. It returns a boolean, see Tx.Turn.
	Turn     Statement
	TurnWait time.Duration
	// LockWait is how long each of the locks may wait. 0 means that it waits as long as it must.
	LockWait time.Duration
}

// Statement is a statement and its arguments.
type Statement struct {
	SQL  string
	Args []any
}

// transaction is how a batch begins, whatever the connection's defaults are. What waited for a row must see it as it is then, which
// the higher levels refuse.
var transaction = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// sqlSettings returns what CommitWith restores, and then sets what the library's statements depend on. The handlers' timeouts are kept in
// parameters of the transaction until sqlHandOver. The columns are evaluated from left to right.
const sqlSettings = `
SELECT pg_catalog.current_setting('session_authorization'), pg_catalog.current_setting('role'), pg_catalog.current_setting('row_security'),
    pg_catalog.set_config('pupsourcing.statement_timeout', pg_catalog.current_setting('statement_timeout'), true),
    pg_catalog.set_config('pupsourcing.lock_timeout', pg_catalog.current_setting('lock_timeout'), true),
    pg_catalog.set_config('statement_timeout', '0', true),
    pg_catalog.set_config('lock_timeout', $1, true),
    CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL THEN pg_catalog.set_config('transaction_timeout', '0', true) END,
    CASE WHEN $2 <> '' THEN pg_catalog.set_config('application_name', $2, true) END,
    CASE WHEN $3 <> '' THEN pg_catalog.set_config('idle_in_transaction_session_timeout', $3, true) END,
    CASE WHEN $4 = 'off' THEN pg_catalog.set_config('synchronous_commit', 'off', true)
         WHEN pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', 'on', true) END,
    pg_catalog.current_setting('application_name'), pg_catalog.current_setting('synchronous_commit'),
    CASE WHEN $2 <> '' THEN pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.hashtextextended($2, 0)) END`

// sqlEndTurn replaces the time that the turn may wait by the time that each lock may wait.
const sqlEndTurn = `SELECT pg_catalog.set_config('lock_timeout', $1, true)`

// sqlHandOver returns the transaction's id and its backend's, and gives the handlers the timeouts that the connection has. Where statements have a
// timeout, a lock is waited for no longer than two fifths of it. The error then says that another transaction is the cause, and not the handler. A row
// that several transactions wait for is waited for twice: first for the transaction that is next, then for the one that has it.
const sqlHandOver = `
SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text, pg_catalog.pg_backend_pid(),
    pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('pupsourcing.statement_timeout'), true),
    pg_catalog.set_config('lock_timeout', CASE WHEN pg_catalog.current_setting('pupsourcing.statement_timeout') = '0' THEN pg_catalog.current_setting('pupsourcing.lock_timeout')
        ELSE (
            SELECT CASE WHEN own > 0 THEN least(own, most) ELSE most END::pg_catalog.text
            FROM (SELECT pg_catalog.ceil(400 * extract(epoch FROM pg_catalog.current_setting('pupsourcing.statement_timeout')::pg_catalog.interval))::pg_catalog.int8 AS most,
                (1000 * extract(epoch FROM pg_catalog.current_setting('pupsourcing.lock_timeout')::pg_catalog.interval))::pg_catalog.int8 AS own) AS milliseconds
        ) END, true)`

// Tx is a batch's transaction. It is used by one goroutine at a time.
type Tx struct {
	pgx.Tx
	conn     *pgx.Conn
	settings Settings
	id       string
	backend  int
	turn     bool
	found    found
	reported string // the application_name that the server has reported, or "" if it reports none of ours
	last     error  // the last error of the database that a handler has met, see Conflict
	aside    *aside // nil if there is none

	// over says that it has ended, or is about to. A handler may have left goroutines behind that still have it.
	over atomic.Bool
}

// found is settings as they were before a handler ran.
type found struct {
	sessionAuthorization, role, rowSecurity string
	applicationName, synchronousCommit      string
}

// Begin begins a transaction on the connection, and runs the locks in it, in one round trip. It returns how many rows the
// locks returned. After an error no transaction is open: the connection is closed, since a setting of it may be the cause, unless the
// error is ErrTurn or ErrLocked.
func Begin(ctx context.Context, conn *pgx.Conn, s Settings, locks ...Statement) (*Tx, int64, error) {
	t := &Tx{conn: conn, settings: s}
	rows, err := t.begin(ctx, locks)
	if err == nil {
		t.reported = t.reportedName()
		if t.reported != s.ApplicationName {
			t.reported = "" // a pooler reports something else
		}
		return t, rows, nil
	}
	if errors.Is(err, ErrTurn) || errors.Is(err, ErrLocked) {
		Rollback(ctx, conn)
	} else {
		Close(conn)
	}
	return nil, 0, err
}

func (t *Tx) begin(ctx context.Context, locks []Statement) (rows int64, err error) {
	results := t.conn.SendBatch(ctx, t.beginning(locks))
	t.Tx = results.Tx()
	defer func() {
		if closeErr := results.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("beginning the transaction: %w", closeErr)
		}
	}()
	if _, err := results.Exec(); err != nil {
		return 0, fmt.Errorf("beginning the transaction: %w", err)
	}
	f := &t.found
	err = results.QueryRow().Scan(&f.sessionAuthorization, &f.role, &f.rowSecurity, nil, nil, nil, nil, nil, nil, nil, nil,
		&f.applicationName, &f.synchronousCommit, nil)
	if err != nil {
		return 0, fmt.Errorf("setting the transaction's settings: %w", err)
	}
	if t.settings.Turn.SQL != "" {
		if err := t.takeTurn(results); err != nil {
			return 0, err
		}
	}
	for range locks {
		tag, err := results.Exec()
		switch {
		case dbfault.Code(err) == lockNotAvailable:
			return 0, fmt.Errorf("%w: %w", ErrLocked, err)
		case err != nil:
			return 0, fmt.Errorf("locking: %w", err)
		}
		rows += tag.RowsAffected()
	}
	if err := results.QueryRow().Scan(&t.id, &t.backend, nil, nil); err != nil {
		return 0, fmt.Errorf("reading the transaction's id: %w", err)
	}
	return rows, nil
}

// beginning is what begins the transaction.
func (t *Tx) beginning(locks []Statement) *pgx.Batch {
	s := t.settings
	idle, commit, lockWait := "", "off", "0"
	if s.IdleTimeout > 0 {
		idle = milliseconds(s.IdleTimeout)
	}
	if s.SynchronousCommit {
		commit = "on"
	}
	if s.LockWait > 0 {
		lockWait = milliseconds(s.LockWait)
	}
	first := lockWait
	if s.Turn.SQL != "" {
		first = milliseconds(s.TurnWait)
	}
	var batch pgx.Batch
	batch.BeginTx(transaction)
	batch.Queue(sqlSettings, first, s.ApplicationName, idle, commit)
	if s.Turn.SQL != "" {
		batch.Queue(s.Turn.SQL, s.Turn.Args...)
		batch.Queue(sqlEndTurn, lockWait)
	}
	for _, lock := range locks {
		batch.Queue(lock.SQL, lock.Args...)
	}
	batch.Queue(sqlHandOver)
	return &batch
}

// milliseconds is d as a setting's value, at least 1, since 0 means no bound.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

const lockNotAvailable = "55P03"

// takeTurn reads the results of the turn's statements.
func (t *Tx) takeTurn(results pgx.BatchResults) error {
	err := results.QueryRow().Scan(&t.turn)
	if dbfault.Code(err) == lockNotAvailable {
		return fmt.Errorf("%w: %w", ErrTurn, err)
	}
	if err == nil {
		_, err = results.Exec()
	}
	if err != nil {
		return fmt.Errorf("taking the turn: %w", err)
	}
	return nil
}

// Backend is the process id of the server's backend. A pooler tells the client of another one.
func (t *Tx) Backend() int { return t.backend }

// Turn is what the statement Settings.Turn returned.
func (t *Tx) Turn() bool { return t.turn }
