package pgcoord

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// watched is a session whose events a test receives.
type watched struct {
	*Session
	key       int64
	connected chan struct{}
	lost      chan error
	notified  chan string
	appended  chan struct{}
	declined  chan struct{}
	proved    chan bool
	announced chan heard
}

// heard is an announcement and the backend that has sent it.
type heard struct {
	session int
	announcement.Horizon
}

// wakeUpKey is the lock that makes appends be notified.
const wakeUpKey = 77

// watch opens a session that holds the key. It is closed when the test ends.
func watch(t testing.TB, config *pgx.ConnConfig, key int64) watched {
	t.Helper()
	const room = 1000 // events must not block
	w := watched{
		key: key, connected: make(chan struct{}, room), lost: make(chan error, room), notified: make(chan string, room),
		appended: make(chan struct{}, room), declined: make(chan struct{}, room), proved: make(chan bool, room), announced: make(chan heard, room),
	}
	w.Session = OpenSession(t.Context(), SessionConfig{
		Connect: func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, config.Copy()) },
		Channel: "the Channel", Appends: "appends", Key: key, WakeUpKey: wakeUpKey,
		Logger: slog.New(slog.DiscardHandler),
		Events: SessionEvents{
			Connected: func() { w.connected <- struct{}{} },
			Lost:      func(err error) { w.lost <- err },
			Notified:  func(kind, worker string) { w.notified <- kind + "/" + worker },
			Appended:  func() { w.appended <- struct{}{} },
			Declined:  func() { w.declined <- struct{}{} },
			Proved:    func(arrived bool) { w.proved <- arrived },
			Announced: func(session int, a announcement.Horizon) { w.announced <- heard{session, a} },
		},
	})
	t.Cleanup(w.Close)
	return w
}

// newSession creates a database with a session that is connected.
func newSession(t testing.TB) (watched, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.NewDatabase(t)
	w := watch(t, pool.Config().ConnConfig, -42)
	await(t, w.connected, "the connection")
	return w, pool
}

// pid is the backend of the session.
func (w watched) pid(t testing.TB) uint32 {
	t.Helper()
	var pid uint32
	require.NoError(t, w.Do(t.Context(), func(_ context.Context, conn *pgx.Conn) error {
		pid = conn.PgConn().PID()
		return nil
	}))
	return pid
}

// holder is the backend that holds the key's advisory lock, 0 if none does.
func holder(t testing.TB, db DB, key int64) uint32 {
	t.Helper()
	return uint32(value[int](t, db, `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND ((classid::bigint << 32) | objid::bigint) = $1`, key))
}

func TestSessionHoldsItsLockAndListens(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	assert.Equal(t, w.pid(t), holder(t, pool, w.key))
	assert.True(t, await(t, w.proved, "its own notification"))
	exec(t, pool, `SELECT pg_notify('the Channel', 'joined somebody else')`)
	assert.Equal(t, "joined/somebody else", await(t, w.notified, "the notification"))
	exec(t, pool, `SELECT pg_notify('the Channel', 'bare')`)
	assert.Equal(t, "bare/", await(t, w.notified, "the notification"))
	exec(t, pool, `SELECT pg_notify('the Channel', 'proof 7')`)
	exec(t, pool, `SELECT pg_notify('appends', 'joined x')`)
	await(t, w.appended, "the append")
	assert.Empty(t, w.proved, "another session's proof is not its own")
	assert.Empty(t, w.notified, "another session's proof and an append are not the replica set's")
	assert.Empty(t, w.lost)
}

// Each notification of the replica set's channel leads to a look at the tables. The application's own would keep a worker looking.
func TestSessionHearsNothingOfTheApplication(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	config := pool.Config().ConnConfig.Copy()
	config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, `LISTEN application`).Close()
	}
	w := watch(t, config, 42)
	await(t, w.connected, "the connection")
	exec(t, pool, `SELECT pg_notify('application', 'joined nobody')`)
	exec(t, pool, `SELECT pg_notify('the Channel', 'joined somebody')`)
	assert.Equal(t, "joined/somebody", await(t, w.notified, "the notification"))
}

func TestSessionNoticesADeadPeerSoon(t *testing.T) {
	t.Parallel()
	w, _ := newSession(t)
	var set []string
	require.NoError(t, w.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT array_agg(setting ORDER BY name) FROM pg_settings
			WHERE name IN ('client_connection_check_interval', 'tcp_keepalives_count', 'tcp_keepalives_idle', 'tcp_keepalives_interval', 'tcp_user_timeout')`).Scan(&set)
	}))
	assert.Equal(t, []string{"2000", "2", "2", "1", "4000"}, set)
}

// Requests and notifications use the one connection by turns; none is lost.
func TestSessionServesManyAtOnce(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	const callers, each = 16, 20
	var all sync.WaitGroup
	pids := make(chan uint32, callers*each)
	for range callers {
		all.Go(func() {
			for range each {
				assert.NoError(t, w.Do(context.Background(), func(ctx context.Context, conn *pgx.Conn) error {
					var pid uint32
					err := conn.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&pid)
					pids <- pid
					return err
				}))
			}
		})
	}
	const notifications = 60
	for i := range notifications {
		exec(t, pool, `SELECT pg_notify('the Channel', $1)`, fmt.Sprintf("n %d", i))
	}
	all.Wait()
	for i := range notifications {
		require.Equal(t, fmt.Sprintf("n/%d", i), await(t, w.notified, "a notification"))
	}
	close(pids)
	for pid := range pids {
		require.Equal(t, holder(t, pool, w.key), pid)
	}
	assert.Empty(t, w.lost)
}

func TestDoReturnsTheErrorAndKeepsTheSession(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	wanted := errors.New("wanted")
	require.ErrorIs(t, w.Do(t.Context(), func(context.Context, *pgx.Conn) error { return wanted }), wanted)
	ended, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	for range 20 { // whether the session or the context is chosen
		err := w.Do(ended, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT 1`)
			return err
		})
		require.Error(t, err)
		require.True(t, errors.Is(err, why) || errors.Is(err, context.Canceled), "%v", err)
	}
	assert.Equal(t, holder(t, pool, w.key), w.pid(t))
	assert.Empty(t, w.lost)
}

// A statement that is given up is answered all the same, and keeps the session.
func TestDoThatIsGivenUpKeepsTheSession(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	before := w.pid(t)
	blocker := dial(t, pool)
	exec(t, blocker, `SELECT pg_advisory_lock(5)`)
	ctx, cancel := context.WithCancel(t.Context())
	result := async(func() error {
		return w.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT pg_advisory_lock(5)`)
			return err
		})
	})
	awaitBlocked(t, pool, before)
	cancel()
	exec(t, blocker, `SELECT pg_advisory_unlock(5)`)
	require.NoError(t, await(t, result, "the statement"))
	require.ErrorIs(t, w.Do(ctx, func(context.Context, *pgx.Conn) error { return nil }), context.Canceled)
	assert.Equal(t, before, w.pid(t))
	assert.Empty(t, w.lost)
}

// A statement misses its deadline. Its answer may still arrive on the connection, so the connection is closed.
func TestDoThatIsLateCostsTheConnection(t *testing.T) {
	t.Parallel()
	w, _ := newSession(t)
	before := w.pid(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	result := async(func() error {
		return w.Do(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT pg_sleep(3600)`)
			return err
		})
	})
	require.ErrorIs(t, await(t, result, "the statement"), context.DeadlineExceeded)
	require.Error(t, await(t, w.lost, "the loss"))
	await(t, w.connected, "the next connection")
	assert.NotEqual(t, before, w.pid(t))
}

func TestCloseEndsTheSession(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	running := async(func() error {
		return w.Do(context.Background(), func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT pg_sleep(3600)`)
			return err
		})
	})
	eventually(t, pool, "the statement did not begin", `SELECT EXISTS (SELECT 1 FROM pg_stat_activity
		WHERE pid = $1 AND wait_event = 'PgSleep')`, holder(t, pool, w.key))
	waiting := async(func() error {
		return w.Do(context.Background(), func(context.Context, *pgx.Conn) error { return nil })
	})
	closed := async(func() struct{} { w.Close(); return struct{}{} })
	await(t, closed, "the end")
	require.Error(t, await(t, running, "the statement that ran"))
	require.ErrorIs(t, await(t, waiting, "the statement that waited"), ErrSessionClosed)
	require.ErrorIs(t, w.Do(t.Context(), func(context.Context, *pgx.Conn) error { return nil }), ErrSessionClosed)
	eventually(t, pool, "the lock was not released", `SELECT NOT EXISTS (SELECT 1 FROM pg_locks
		WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	assert.Empty(t, w.lost, "an end is no loss")
	w.Close()
}

func TestCloseBeforeTheFirstConnection(t *testing.T) {
	t.Parallel()
	config, err := pgx.ParseConfig("postgres://nobody@127.0.0.1:1/none?sslmode=disable")
	require.NoError(t, err)
	w := watch(t, config, 1)
	require.ErrorContains(t, await(t, w.lost, "the failure"), "connecting the coordination session")
	ctx, cancel := context.WithCancel(t.Context())
	waiting := async(func() error {
		return w.Do(ctx, func(context.Context, *pgx.Conn) error { return nil })
	})
	cancel()
	require.ErrorIs(t, await(t, waiting, "the statement"), context.Canceled)
	w.Close()
	assert.Empty(t, w.connected)
}

func TestSessionComesBackWhenItsBackendIsEnded(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	for range 2 {
		before := w.pid(t)
		exec(t, pool, `SELECT pg_terminate_backend($1)`, before)
		require.Error(t, await(t, w.lost, "the loss"))
		await(t, w.connected, "the next connection")
		after := w.pid(t)
		assert.NotEqual(t, before, after)
		assert.Equal(t, after, holder(t, pool, w.key))
		exec(t, pool, `SELECT pg_notify('the Channel', 'still here')`)
		assert.Equal(t, "still/here", await(t, w.notified, "the notification"))
	}
}

func TestSessionEndsItsPredecessor(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	predecessor, bystander := dial(t, pool), dial(t, pool)
	exec(t, predecessor, `SELECT pg_advisory_lock(7)`)
	exec(t, bystander, `SELECT pg_advisory_lock(8)`)
	w := watch(t, pool.Config().ConnConfig, 7)
	require.ErrorContains(t, await(t, w.lost, "the first attempt"), "previous session")
	await(t, w.connected, "the connection")
	assert.False(t, alive(t, pool, predecessor))
	assert.True(t, alive(t, pool, bystander))
	assert.Equal(t, w.pid(t), holder(t, pool, 7))
}

// The same key in another database is another lock.
func TestSessionLeavesOtherDatabasesAlone(t *testing.T) {
	t.Parallel()
	elsewhere := pgtest.NewDatabase(t)
	stranger := dial(t, elsewhere)
	exec(t, stranger, `SELECT pg_advisory_lock(-42)`)
	pool := pgtest.NewDatabase(t)
	predecessor := dial(t, pool)
	exec(t, predecessor, `SELECT pg_advisory_lock(-42)`)
	w := watch(t, pool.Config().ConnConfig, -42)
	await(t, w.connected, "the connection")
	assert.True(t, alive(t, elsewhere, stranger))
	assert.False(t, alive(t, pool, predecessor))
}

func TestSessionComesBackAfterTheServerRestarted(t *testing.T) {
	t.Parallel()
	server := pgtest.Own(t, pgtest.Options{})
	config, err := pgx.ParseConfig(server.DSN("postgres"))
	require.NoError(t, err)
	w := watch(t, config, 42)
	await(t, w.connected, "the connection")
	require.NoError(t, server.Stop(pgtest.Fast))
	require.Error(t, await(t, w.lost, "the loss"))
	waiting := async(func() error {
		return w.Do(context.Background(), func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, `SELECT 1`)
			return err
		})
	})
	require.NoError(t, server.Start())
	await(t, w.connected, "the next connection")
	require.NoError(t, await(t, waiting, "the statement that waited for the server"))
	conn := dialWith(t, config)
	assert.Equal(t, w.pid(t), holder(t, conn, 42))
}

func TestSessionWorksInEveryMode(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config := pool.Config().ConnConfig.Copy()
		config.DefaultQueryExecMode = mode
		id := uuid.New()
		w := watch(t, config, s.SessionKey(id))
		await(t, w.connected, "the connection")
		assert.True(t, await(t, w.proved, "its own notification"))
		assert.Equal(t, w.pid(t), holder(t, pool, w.key))
		require.NoError(t, w.Do(t.Context(), func(ctx context.Context, conn *pgx.Conn) error {
			v, err := s.Observe(ctx, conn, id, true)
			assert.True(t, v.Leading)
			return err
		}))
		w.Close()
		eventually(t, pool, "the session's locks are not released", `SELECT NOT EXISTS (SELECT FROM pg_locks
			WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	}
}
