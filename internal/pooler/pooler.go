package pooler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What a pooler between the worker and the database may not give.
var (
	// ErrNoSession says that connections are not sessions: a pooler hands each
	// transaction to another backend, so locks and LISTEN do not last.
	ErrNoSession = errors.New("the database is reached through a pooler that keeps no sessions (PgBouncer in transaction mode?): use WithPollOnly, or connect without it")

	// ErrNoPreparedStatements says that a statement that was prepared on a connection is
	// not there when it is to be executed: another backend does that.
	ErrNoPreparedStatements = errors.New("the database is reached through a pooler that loses prepared statements (PgBouncer in transaction mode?): put default_query_exec_mode=exec into the pool's connection string")

	// ErrNoTransactions says that each statement goes to another backend.
	ErrNoTransactions = errors.New("the database is reached through a pooler that refuses transactions (PgBouncer in statement mode?): set its pool_mode to transaction or session, or connect without it")
)

// Connect opens a connection of its own.
type Connect = func(context.Context) (*pgx.Conn, error)

// transaction is how the transactions of the checks begin, whatever the connection's defaults are.
var transaction = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// sqlNotify sends a notification.
const sqlNotify = `SELECT pg_catalog.pg_notify($1, $2)`

// Check returns an error wrapping ErrNoTransactions, ErrNoPreparedStatements or
// ErrNoStartupParameters if the pool reaches the database through a pooler that nothing of the library can work with,
// and one wrapping ErrNoSession if the connections that session opens are
// not sessions. session is nil for a caller that needs none. It costs a round
// trip where there is no pooler: its client sees another process id than the
// backend has.
func Check(ctx context.Context, pool *pgxpool.Pool, session Connect) error {
	pooled := false
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		pooled, err = isPooled(ctx, conn.Conn())
		return err
	})
	if err != nil {
		return explained(ctx, pool, err)
	}
	if !pooled {
		return nil
	}
	if err := checkTransactions(ctx, pool); err != nil {
		return err
	}
	if err := checkStatements(ctx, pool); err != nil {
		return err
	}
	if session == nil {
		return nil
	}
	conn, err := session(ctx)
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	defer closeConn(conn)
	return proveSession(ctx, conn, pool)
}

// oneTrip makes pgx send statement and arguments together: nothing that is to be
// found out about prepared statements is presumed.
const oneTrip = pgx.QueryExecModeExec

// querier is a connection or a transaction.
type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// backendOf is the process id of the backend that answers at the moment.
func backendOf(ctx context.Context, db querier) (pid uint32, err error) {
	if err := db.QueryRow(ctx, "SELECT pg_catalog.pg_backend_pid()", oneTrip).Scan(&pid); err != nil {
		return 0, fmt.Errorf("asking for the backend's process id: %w", err)
	}
	return pid, nil
}

// isPooled says whether somebody else than the backend talks to the connection.
func isPooled(ctx context.Context, conn *pgx.Conn) (bool, error) {
	pid, err := backendOf(ctx, conn)
	return pid != conn.PgConn().PID(), err
}

// protocolViolation is what PgBouncer answers to a BEGIN in statement mode. It has
// this SQLSTATE for nearly everything, so others must be let pass first.
const protocolViolation = "08P01"

// checkTransactions opens a transaction. If the pooler refuses that, though it
// answers a statement after it, it will always.
func checkTransactions(ctx context.Context, pool *pgxpool.Pool) error {
	tx, err := pool.BeginTx(ctx, transaction)
	if err == nil {
		return tx.Rollback(ctx)
	}
	refusal, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || refusal.Code != protocolViolation {
		return fmt.Errorf("opening a transaction: %w", err)
	}
	if _, asked := backendOf(ctx, pool); asked != nil {
		return fmt.Errorf("opening a transaction: %w", err)
	}
	return fmt.Errorf("opening a transaction: %w: it says %q", ErrNoTransactions, refusal.Message)
}

// checkStatements proves that the way in which the pool's connections execute
// statements works through the pooler.
func checkStatements(ctx context.Context, pool *pgxpool.Pool) error {
	var prove func(context.Context, *pgx.Conn, *pgxpool.Pool) error
	switch pool.Config().ConnConfig.DefaultQueryExecMode {
	case pgx.QueryExecModeCacheStatement:
		prove = proveStatements
	case pgx.QueryExecModeDescribeExec:
		// It leaves an unnamed statement for the next round trip, of which no pooler
		// keeps account: what another client left might be executed in its place.
		prove = proveSession
	default:
		return nil
	}
	acquired, err := pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("acquiring a connection: %w", err)
	}
	conn := acquired.Hijack()
	defer closeConn(conn)
	err = prove(ctx, conn, pool)
	if errors.Is(err, ErrNoSession) {
		return fmt.Errorf("statements are described in one round trip and executed in the next: %w", ErrNoPreparedStatements)
	}
	return err
}

// undefinedStatement and duplicateStatement are what a backend answers that never
// heard of a prepared statement, or has one of another client.
const undefinedStatement, duplicateStatement = "26000", "42P05"

// proveStatements executes a prepared statement, twice, the second time while
// the backend that comes next is taken. Where there is no other one for long,
// nothing is proved, and no error returned.
func proveStatements(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	waiting, cancel := context.WithTimeout(ctx, sessionProof)
	defer cancel()
	name := "pupsourcing_proof_" + uuid.NewString()
	_, err := conn.Prepare(ctx, name, "SELECT 1")
	if err == nil {
		_, err = conn.Exec(ctx, name)
	}
	if err == nil {
		err = pgx.BeginTxFunc(ctx, pool, transaction, func(tx pgx.Tx) error {
			if _, err := backendOf(ctx, tx); err != nil {
				return err
			}
			_, err := conn.Exec(waiting, name)
			return err
		})
	}
	lost, answered := errors.AsType[*pgconn.PgError](err)
	switch {
	case answered && (lost.Code == undefinedStatement || lost.Code == duplicateStatement):
		return fmt.Errorf("executing a prepared statement: %w: the database says %q", ErrNoPreparedStatements, lost.Message)
	case err != nil && (answered || waiting.Err() == nil || ctx.Err() != nil):
		return fmt.Errorf("executing a prepared statement: %w", err)
	}
	return nil
}

// proveSession returns an error wrapping ErrNoSession unless the connection has a
// backend for itself, also at rest. That is disproved at once if another one's
// transaction has its backend, or if it has another one meanwhile. It is proved
// by a notification from somebody else that reaches it while it asks for nothing:
// a pooler that has given the backend away has nobody to pass it on to. A
// notification to itself proves nothing, since PgBouncer tends to give a client
// the backend that it had last.
func proveSession(ctx context.Context, conn *pgx.Conn, pool *pgxpool.Pool) error {
	own, err := backendOf(ctx, conn)
	if err != nil || own == conn.PgConn().PID() {
		return err
	}
	channel := "pupsourcing_proof_" + uuid.NewString()
	err = pgx.BeginTxFunc(ctx, pool, transaction, func(tx pgx.Tx) error {
		taken, err := backendOf(ctx, tx)
		if err != nil {
			return err
		}
		if taken == own {
			return fmt.Errorf("the connection's backend serves others between its transactions: %w", ErrNoSession)
		}
		again, err := backendOf(ctx, conn)
		if err != nil {
			return err
		}
		if again != own {
			return fmt.Errorf("the connection has another backend in each transaction: %w", ErrNoSession)
		}
		if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, sqlNotify, oneTrip, channel, "")
		return err
	})
	if err != nil {
		return fmt.Errorf("proving that a session lasts: %w", err)
	}
	return awaitProof(ctx, conn)
}

// sessionProof is how long a notification is waited for before the connection
// is asked: after that answer it cannot come any more.
const sessionProof = 2 * time.Second

// awaitProof waits for the notification that proves the session.
func awaitProof(ctx context.Context, conn *pgx.Conn) error {
	waiting, cancel := context.WithTimeout(ctx, sessionProof)
	defer cancel()
	if _, err := conn.WaitForNotification(waiting); err == nil {
		return nil
	}
	// A backend sends what it was notified of before the answer to what it reads
	// afterwards. So a slow database is not taken for a pooler.
	if _, err := backendOf(ctx, conn); err != nil {
		return fmt.Errorf("waiting for a notification: %w", err)
	}
	if _, err := conn.WaitForNotification(waiting); err != nil {
		return fmt.Errorf("a notification that was sent to the session did not arrive: %w", ErrNoSession)
	}
	return nil
}

// closeConn closes a connection without waiting long for a server that may be gone.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
