package pgcoord

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// fullQueue is a database whose server's queue of notifications is full, since a session that listens rests in a transaction.
func fullQueue(t *testing.T) *pgxpool.Pool {
	t.Helper()
	server := pgtest.OwnVersion(t, 17, pgtest.Options{Settings: map[string]string{"max_notify_queue_pages": "64"}})
	pool, err := pgxpool.New(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	createTables(t, pool)
	holder := dial(t, pool)
	exec(t, holder, `LISTEN something`)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `SELECT 1`)
	for range 1000 {
		_, err = pool.Exec(t.Context(), `SELECT pg_notify('something', n || $1) FROM generate_series(1, 20) AS n`, strings.Repeat("x", 7000))
		if err != nil {
			break
		}
	}
	require.Equal(t, "54000", sqlState(err), "the queue does not fill up: %v", err)
	return pool
}

// Whoever fills the queue of notifications must not keep workers from joining, leaving and being replaced.
func TestAFullQueueOfNotificationsChangesNothingElse(t *testing.T) {
	t.Parallel()
	pool := fullQueue(t)
	var untold atomic.Int32
	s := open(t, pool, "main").Notifying(true, func(context.Context, error) { untold.Add(1) })
	failed := func(n int) {
		t.Helper()
		assert.EqualValues(t, n, untold.Swap(0))
	}
	for name, db := range map[string]Conn{"pool": pool, "session": dial(t, pool)} {
		t.Run(name, func(t *testing.T) {
			from := value[int64](t, pool, `SELECT coalesce(max(number), 0) FROM orchestrator_generations`)
			w := join(t, s, db, "orders")
			failed(1)
			number := generation(t, s, db, from, w)
			// A worker that is ready late tells the leader, and on a busy machine it may be.
			assert.Contains(t, []int32{2, 3}, untold.Swap(0))
			require.NoError(t, s.RequestGeneration(t.Context(), db, w))
			assert.Equal(t, replicaset.Pending, stateOf(t, pool, w))
			bury(t, s, pool, w)
			untold.Store(0)
			require.NoError(t, s.Rejoin(t.Context(), db, w))
			assert.Equal(t, replicaset.Pending, stateOf(t, pool, w))
			exec(t, pool, `UPDATE orchestrator_generations SET created_at = now() - interval '1 hour' WHERE number = $1`, number)
			setState(t, s, db, w, replicaset.Ready, number)
			s.AnnounceAppends(t.Context(), db, w)
			require.NoError(t, s.Stop(t.Context(), db, w, ""))
			assert.Equal(t, replicaset.Stopped, stateOf(t, pool, w))
			failed(4)
			w = join(t, s.Notifying(false, func(context.Context, error) { untold.Add(1) }), db, "orders")
			failed(0)
			require.NoError(t, s.Stop(t.Context(), db, w, ""))
			untold.Store(0)
			if conn, ok := db.(*pgx.Conn); ok {
				assert.False(t, conn.IsClosed())
			}
		})
	}
}

// keep sends unless there is something that nobody has received.
func keep[T any](to chan<- T, value T) {
	select {
	case to <- value:
	default:
	}
}

// A session that cannot notify itself keeps its connection, and with it its lock.
func TestAFullQueueOfNotificationsCostsNoSession(t *testing.T) {
	t.Parallel()
	pool := fullQueue(t)
	s := open(t, pool, "main")
	proved, lost := make(chan bool, 1), make(chan error, 1)
	id := uuid.New()
	session := OpenSession(t.Context(), SessionConfig{
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
		},
		Channel: s.Channel(), Appends: "appends", Key: s.SessionKey(id), WakeUpKey: 7, Logger: slog.New(slog.DiscardHandler),
		Events: SessionEvents{
			Connected: func() {}, Lost: func(err error) { keep(lost, err) }, Notified: func(string, string) {}, Appended: func() {}, Declined: func() {},
			Proved: func(arrived bool) { keep(proved, arrived) },
		},
	})
	defer session.Close()
	select {
	case arrived := <-proved:
		assert.False(t, arrived)
	case err := <-lost:
		require.NoError(t, err, "the session was lost")
	case <-time.After(patience):
		require.Fail(t, "the session proves nothing")
	}
	who, err := session.AskForWakeUps(t.Context())
	require.NoError(t, err)
	assert.Equal(t, WakeUpsOwn, who)
	require.NoError(t, session.DeclineWakeUps(t.Context()))
	who, err = session.AskForWakeUps(t.Context())
	require.NoError(t, err)
	assert.Equal(t, WakeUpsOwn, who, "it was given back")
	assert.Empty(t, lost)
}
