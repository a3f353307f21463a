package eventstore

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// deadline bounds every wait for something that happens in another goroutine.
const deadline = 20 * time.Second

// newStore is a store with its tables in a database of its own.
func newStore(t testing.TB, opts ...Option) (*Store, *pgxpool.Pool) {
	t.Helper()
	if len(opts) == 0 {
		return New(WithLogger(nil)), pgtest.NewDatabaseFrom(t, "events", func(pool *pgxpool.Pool) error { return RunMigrations(pool, WithLogger(nil)) })
	}
	opts = append([]Option{WithLogger(nil)}, opts...)
	pool := pgtest.NewDatabase(t)
	require.NoError(t, RunMigrations(pool, opts...))
	return New(opts...), pool
}

// resolved is the store with the schemas of its tables.
func resolved(t testing.TB, s *Store, db DB) *Store {
	t.Helper()
	s, err := s.Resolve(t.Context(), db)
	require.NoError(t, err)
	return s
}

// newResolved is newStore with a resolved store.
func newResolved(t testing.TB, opts ...Option) (*Store, *pgxpool.Pool) {
	t.Helper()
	s, pool := newStore(t, opts...)
	return resolved(t, s, pool), pool
}

// event is an event of aggregate id that is valid and has nothing optional.
func event(id string) es.Event { return eventtest.Event(id) }

// eventsOf are n events of aggregate id, numbered by their payloads.
func eventsOf(id string, n int) []es.Event { return eventtest.Numbered(id, n) }

// tryAppend appends in a transaction of its own.
func tryAppend(ctx context.Context, s *Store, pool *pgxpool.Pool, expected es.ExpectedVersion, events ...es.Event) (result es.AppendResult, err error) {
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		result, err = s.Append(ctx, tx, expected, events)
		return err
	})
	return result, err
}

// mustAppend is tryAppend of what has to succeed.
func mustAppend(t testing.TB, s *Store, pool *pgxpool.Pool, expected es.ExpectedVersion, events ...es.Event) es.AppendResult {
	t.Helper()
	result, err := tryAppend(t.Context(), s, pool, expected, events...)
	require.NoError(t, err)
	return result
}

// begin starts a transaction that is rolled back when the test ends.
func begin(t testing.TB, pool *pgxpool.Pool, opts pgx.TxOptions) pgx.Tx {
	t.Helper()
	tx, err := pool.BeginTx(t.Context(), opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), deadline)
		defer cancel()
		_ = tx.Rollback(ctx)
	})
	return tx
}

// waitUntilBlocked returns once the transaction's session waits for a lock.
func waitUntilBlocked(t *testing.T, pool *pgxpool.Pool, pid int32) {
	t.Helper()
	require.Eventually(t, func() bool {
		var blocked bool
		err := pool.QueryRow(t.Context(), `SELECT cardinality(pg_blocking_pids($1)) > 0`, pid).Scan(&blocked)
		return err == nil && blocked
	}, deadline, 5*time.Millisecond, "session %d never waited for a lock", pid)
}

// backendOf is the process id of the transaction's backend, of which a
// connection through a pooler does not know.
func backendOf(t *testing.T, tx pgx.Tx) (pid int32) {
	t.Helper()
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
	return pid
}

// outcome is what an append in another goroutine came to.
type outcome struct {
	result es.AppendResult
	err    error
}

// appendBehind appends in tx in another goroutine and returns when it waits for
// a lock.
func appendBehind(t *testing.T, s *Store, pool *pgxpool.Pool, tx pgx.Tx, expected es.ExpectedVersion, events ...es.Event) <-chan outcome {
	t.Helper()
	done := make(chan outcome, 1)
	pid := backendOf(t, tx)
	go func() {
		result, err := s.Append(t.Context(), tx, expected, events)
		done <- outcome{result, err}
	}()
	waitUntilBlocked(t, pool, pid)
	return done
}

// receive waits for the outcome.
func receive(t *testing.T, done <-chan outcome) outcome {
	t.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(deadline):
		t.Fatal("the append never returned")
		return outcome{}
	}
}

// appending is a transaction that has appended an event, and is open.
func appending(t *testing.T, s *Store, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	open := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), open, es.Any(), eventsOf("open", 1))
	require.NoError(t, err)
	return open
}
