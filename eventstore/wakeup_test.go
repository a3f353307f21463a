package eventstore

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
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
	_, err = conn.Exec(t.Context(), "LISTEN "+wakeup.Channel(s.EventsTable()))
	require.NoError(t, err)
	return &listener{t, pool, conn, wakeup.Channel(s.EventsTable())}
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

// asks makes appends be notified, or says that it cannot.
func (l *listener) asks(s *Store) (got bool) {
	l.t.Helper()
	require.NoError(l.t, l.conn.QueryRow(l.t.Context(), "SELECT pg_try_advisory_lock($1)", wakeup.Key(s.EventsTable())).Scan(&got))
	return got
}

// declines ends that.
func (l *listener) declines(s *Store) {
	l.t.Helper()
	_, err := l.conn.Exec(l.t.Context(), "SELECT pg_advisory_unlock($1)", wakeup.Key(s.EventsTable()))
	require.NoError(l.t, err)
}

func TestWakeUpIsInstalledAndRemoved(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newResolved(t)
	has := func() bool {
		installed, err := s.HasWakeUp(t.Context(), pool)
		require.NoError(t, err)
		return installed
	}
	assert.False(t, has())
	l := listen(t, s, pool)
	require.True(t, l.asks(s))
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

// earlierTrigger is a form that this package once installed.
const earlierTrigger = `
CREATE FUNCTION pupsourcing_wake_up() RETURNS trigger LANGUAGE plpgsql AS
$function$ BEGIN PERFORM pg_notify(TG_ARGV[0], 'earlier'); RETURN NULL; END $function$;
CREATE TRIGGER pupsourcing_wake_up AFTER INSERT ON events FOR EACH STATEMENT
WHEN (pg_try_advisory_xact_lock(7)) EXECUTE FUNCTION pupsourcing_wake_up('%s')`

func TestWakeUpOfAnEarlierFormIsReplaced(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newResolved(t)
	_, err := pool.Exec(t.Context(), fmt.Sprintf(earlierTrigger, wakeup.Channel(s.EventsTable())))
	require.NoError(t, err)
	l := listen(t, s, pool)
	mustAppend(t, s, pool, es.Any(), event("a"))
	assert.Equal(t, "earlier", l.next(), "until then it notifies")
	has, err := s.HasWakeUp(t.Context(), pool)
	require.NoError(t, err)
	assert.False(t, has)

	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	has, err = s.HasWakeUp(t.Context(), pool)
	require.NoError(t, err)
	assert.True(t, has)
	mustAppend(t, s, pool, es.Any(), event("a"))
	require.True(t, l.asks(s))
	mustAppend(t, s, pool, es.Any(), event("a"))
	l.mark()
	assert.Equal(t, []string{"", "mark"}, []string{l.next(), l.next()}, "only what was asked for")
}

// Workers go on with the form before, whose function alone has to be replaced: that stalls nobody.
func TestWakeUpOfTheFormBeforeIsReliedOnAndReplaced(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newResolved(t)
	exec(t, pool, "CREATE FUNCTION pupsourcing_wake_up() RETURNS trigger LANGUAGE plpgsql AS $function$"+earlierTriggerBody+"$function$;"+s.triggerNames().Replace(triggerSQL))
	assert.True(t, hasWakeUp(t, s, pool))
	l := listen(t, s, pool)
	require.True(t, l.asks(s))
	open := appending(t, s, pool)
	require.NoError(t, await(t, background(func() error { return s.InstallWakeUp(t.Context(), pool) })), "it waits for the open append")
	require.NoError(t, open.Commit(t.Context()))
	assert.Empty(t, l.next())
	var body string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT prosrc FROM pg_proc WHERE proname = $1", triggerName).Scan(&body))
	assert.Equal(t, triggerBody, body)
	mustAppend(t, s, pool, es.Any(), event("a"))
	assert.Empty(t, l.next())
}

// NOTIFY makes commits wait for each other, so nobody sends it in vain.
func TestAppendsAreNotifiedWhileSomebodyAsks(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it listens")
	s, pool := newResolved(t)
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	l := listen(t, s, pool)
	before := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), before, es.Any(), eventsOf("a", 1))
	require.NoError(t, err)
	require.True(t, l.asks(s), "appends exclude nobody who asks")
	require.NoError(t, before.Commit(t.Context()))
	l.mark()
	assert.Equal(t, "mark", l.next(), "it was before anybody asked")

	after := begin(t, pool, pgx.TxOptions{})
	_, err = s.Append(t.Context(), after, es.Any(), eventsOf("b", 1))
	require.NoError(t, err)
	l.mark()
	assert.Equal(t, "mark", l.next(), "nothing is committed")
	mustAppend(t, s, pool, es.Any(), event("c"))
	assert.Empty(t, l.next(), "each notifies, whoever else is open")
	l.declines(s)
	require.NoError(t, after.Commit(t.Context()))
	assert.Empty(t, l.next(), "it had seen that somebody asked")

	looking := begin(t, pool, pgx.TxOptions{})
	_, err = looking.Exec(t.Context(), "SELECT pg_advisory_xact_lock_shared($1)", wakeup.Key(s.EventsTable()))
	require.NoError(t, err)
	mustAppend(t, s, pool, es.Any(), event("d"))
	l.mark()
	assert.Equal(t, "mark", l.next(), "another append that looks is nobody who asks")
	require.NoError(t, looking.Rollback(t.Context()))
}
