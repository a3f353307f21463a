package eventstore

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// listener is a connection that listens to the channel of wake-ups.
type listener struct {
	t    *testing.T
	pool *pgxpool.Pool
	conn *pgx.Conn
	name string
}

func listen(t *testing.T, s *Store, pool *pgxpool.Pool) *listener {
	t.Helper()
	conn, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	_, err = conn.Exec(t.Context(), "LISTEN "+s.WakeUpChannel())
	require.NoError(t, err)
	return &listener{t, pool, conn, s.WakeUpChannel()}
}

// next is the payload of the next notification.
func (l *listener) next() string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), deadline)
	defer cancel()
	n, err := l.conn.WaitForNotification(ctx)
	require.NoError(l.t, err)
	return n.Payload
}

// mark sends a notification that is not a wake-up: notifications arrive in the
// order of their commits, so what did not arrive before it was not sent before.
func (l *listener) mark() {
	l.t.Helper()
	_, err := l.pool.Exec(l.t.Context(), "SELECT pg_notify($1, 'mark')", l.name)
	require.NoError(l.t, err)
}

func TestWakeUpIsInstalledAndRemoved(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newStore(t)
	has := func() bool {
		installed, err := s.HasWakeUp(t.Context(), pool)
		require.NoError(t, err)
		return installed
	}
	assert.False(t, has())
	l := listen(t, s, pool)
	for range 2 {
		require.NoError(t, s.InstallWakeUp(t.Context(), pool))
		assert.True(t, has())
	}
	mustAppend(t, s, pool, es.Any(), eventsOf("a", 3)...)
	l.mark()
	assert.Equal(t, []string{"", "mark"}, []string{l.next(), l.next()}, "one for all events of a statement")

	for range 2 {
		require.NoError(t, s.RemoveWakeUp(t.Context(), pool))
		assert.False(t, has())
	}
	mustAppend(t, s, pool, es.Any(), event("a"))
	l.mark()
	assert.Equal(t, "mark", l.next())
}

// NOTIFY makes commits wait for each other, so of the transactions in flight one
// sends it.
func TestOneTransactionInFlightWakes(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newStore(t)
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	l := listen(t, s, pool)
	first := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), first, es.Any(), eventsOf("a", 1))
	require.NoError(t, err)
	mustAppend(t, s, pool, es.Any(), event("b"))
	l.mark()
	assert.Equal(t, "mark", l.next(), "the second one left it to the first")

	require.NoError(t, first.Commit(t.Context()))
	assert.Empty(t, l.next())
	mustAppend(t, s, pool, es.Any(), event("c"))
	assert.Empty(t, l.next(), "the first one has given the lock back")

	third := begin(t, pool, pgx.TxOptions{})
	_, err = s.Append(t.Context(), third, es.Any(), eventsOf("d", 1))
	require.NoError(t, err)
	require.NoError(t, third.Rollback(t.Context()))
	l.mark()
	assert.Equal(t, "mark", l.next(), "what is rolled back wakes nobody")
	mustAppend(t, s, pool, es.Any(), event("e"))
	assert.Empty(t, l.next())
}
