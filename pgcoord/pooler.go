package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNoSession says that connections are not sessions: a pooler hands each
// transaction to another backend, so locks and LISTEN do not last.
var ErrNoSession = errors.New("the database is reached through a pooler that keeps no sessions (PgBouncer in transaction mode?): use WithPollOnly, or connect without it")

// sessionProof is how long a session has to prove itself.
const sessionProof = 2 * time.Second

// CheckSession returns an error wrapping ErrNoSession if the connections that
// connect opens are not sessions. It costs a round trip where there is no
// pooler: its client sees another process id than the backend has. Where there
// is one, it depends on its mode: a connection is opened that must receive its
// own notification.
func CheckSession(ctx context.Context, pool *pgxpool.Pool, connect func(context.Context) (*pgx.Conn, error)) error {
	pooled := false
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		var pid uint32
		if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
			return fmt.Errorf("asking for the backend's process id: %w", err)
		}
		pooled = pid != conn.Conn().PgConn().PID()
		return nil
	})
	if err != nil || !pooled {
		return err
	}
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("opening a session: %w", err)
	}
	defer closeConn(conn)
	return proveSession(ctx, conn)
}

// proveSession waits for a notification that the connection sends to itself.
func proveSession(ctx context.Context, conn *pgx.Conn) error {
	channel := "pupsourcing_proof_" + uuid.NewString()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{channel}.Sanitize()); err != nil {
		return fmt.Errorf("proving that a session lasts: %w", err)
	}
	if _, err := conn.Exec(ctx, sqlNotify, channel, ""); err != nil {
		return fmt.Errorf("proving that a session lasts: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, sessionProof)
	defer cancel()
	if _, err := conn.WaitForNotification(waiting); err != nil {
		return fmt.Errorf("a notification that the session sent to itself did not arrive: %w", ErrNoSession)
	}
	return nil
}
