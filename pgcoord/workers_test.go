package pgcoord

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// stale is a loss with the evidence that the heartbeat is what it is now.
func stale(t testing.TB, db DB, w uuid.UUID) replicaset.Loss {
	t.Helper()
	return replicaset.Loss{Worker: w, Detail: "stale", Heartbeat: value[string](t, db, `SELECT coalesce((
		SELECT extract(epoch FROM last_heartbeat)::text FROM orchestrator_heartbeats WHERE worker_id = $1), '')`, w)}
}

// bury declares a worker dead, whatever the evidence.
func bury(t testing.TB, s *Store, db DB, w uuid.UUID) {
	t.Helper()
	markDead(t, s, db, []replicaset.Loss{stale(t, db, w)})
	require.Equal(t, replicaset.Dead, stateOf(t, db, w))
}

func TestTenWorkersJoinAtOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	var mu sync.Mutex
	var all []uuid.UUID
	race(10, func() {
		m := membership("b", "a")
		assert.NoError(t, s.Join(context.Background(), pool, m))
		mu.Lock()
		defer mu.Unlock()
		all = append(all, m.ID)
	})
	v, err := s.Observe(t.Context(), pool, all[0], false)
	require.NoError(t, err)
	require.Len(t, v.Workers, 10)
	for _, w := range v.Workers {
		assert.Equal(t, replicaset.Pending, w.State)
		assert.Less(t, w.HeartbeatAge, time.Minute, "it has a heartbeat")
	}
	assert.Equal(t, 2, value[int](t, pool, `SELECT count(*) FROM orchestrator_checkpoints`))
	generation(t, s, pool, 0, all...)
	assert.Equal(t, 10, value[int](t, pool, `SELECT count(DISTINCT worker_id) FROM orchestrator_checkpoints`))
}

func TestJoinEntersWhatTheWorkerSays(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	m := membership("a", "b")
	m.Unpartitioned, m.Partitions, m.HasSession, m.StaleTimeout = []string{"b"}, 3, false, 90*time.Second
	require.NoError(t, s.Join(t.Context(), pool, m))
	assert.Equal(t, []string{"main", "a worker", "host", "test"}, value[[]string](t, pool,
		`SELECT ARRAY[replica_set, name, hostname, library_version] FROM orchestrator_workers WHERE process_id = 7`))
	v, err := s.Observe(t.Context(), pool, m.ID, false)
	require.NoError(t, err)
	require.Len(t, v.Workers, 1)
	w := v.Workers[0]
	assert.Positive(t, w.HeartbeatAge)
	assert.Positive(t, w.StateAge)
	assert.NotEmpty(t, w.Heartbeat)
	w.HeartbeatAge, w.StateAge, w.Heartbeat = 0, 0, ""
	assert.Equal(t, replicaset.Worker{
		ID: m.ID, Name: "a worker", State: replicaset.Pending, Projections: []string{"a", "b"}, Unpartitioned: []string{"b"}, Partitions: 3,
		StaleTimeout: 90 * time.Second, Abandoned: []string{}, LeftOut: []string{},
	}, w)
	require.Error(t, s.Join(t.Context(), pool, m), "an id is used once")
}

// joinAs has a worker with a name join.
func joinAs(t testing.TB, s *Store, db Conn, name string) uuid.UUID {
	t.Helper()
	m := membership("orders")
	m.Name = name
	require.NoError(t, s.Join(t.Context(), db, m))
	return m.ID
}

// A worker that comes back under its name gets the partition that it had.
func TestPartitionsAreInheritedByName(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	named := func(name string) uuid.UUID { return joinAs(t, s, pool, name) }
	keys := func(number int64, workers ...uuid.UUID) []int {
		var got []int
		for _, w := range workers {
			rows, err := s.Assignment(t.Context(), pool, w, number)
			require.NoError(t, err)
			require.Len(t, rows, 1)
			got = append(got, rows[0].Partition.Key)
		}
		return got
	}
	workers := []uuid.UUID{named("one"), named("two"), named("three")}
	number := generation(t, s, pool, 0, workers...)
	before := keys(number, workers...)
	for _, w := range workers {
		require.NoError(t, s.Stop(t.Context(), pool, w, "restarts"))
	}
	back := []uuid.UUID{named("one"), named("two"), named("three")}
	number = generation(t, s, pool, number, back...)
	assert.Equal(t, before, keys(number, back...))
}

func TestSetStateOfWhoHasLeftChangesNothing(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	listener := listen(t, s, pool)
	for _, gone := range []replicaset.WorkerState{replicaset.Stopped, replicaset.Dead} {
		w := join(t, s, pool, "orders")
		exec(t, pool, `UPDATE orchestrator_workers SET state = $1, generation = 5, detail = 'why' WHERE worker_id = $2`, string(gone), w)
		changed, err := s.SetState(t.Context(), pool, w, replicaset.Ready, 7)
		require.NoError(t, err)
		assert.False(t, changed)
		assert.Equal(t, gone, stateOf(t, pool, w))
		assert.Equal(t, "why", detailOf(t, pool, w))

		alive, err := s.Heartbeat(t.Context(), pool, w)
		require.NoError(t, err)
		assert.False(t, alive, "its lease cannot be renewed")
		assert.Equal(t, "joined "+w.String(), hears(t, listener))
	}
	w := join(t, s, pool, "orders")
	setState(t, s, pool, w, replicaset.Running, 7)
	assert.Equal(t, "joined "+w.String(), hears(t, listener), "nobody was told of a readiness that is none")
	changed, err := s.SetState(t.Context(), pool, uuid.New(), replicaset.Running, 7)
	require.NoError(t, err)
	assert.False(t, changed)
}

func TestHeartbeatRenewsTheLease(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	exec(t, pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 hour'`)
	age := func() time.Duration {
		v, err := s.Observe(t.Context(), pool, w, false)
		require.NoError(t, err)
		return v.Workers[0].HeartbeatAge
	}
	assert.InDelta(t, time.Hour, age(), float64(time.Minute))
	alive, err := s.Heartbeat(t.Context(), pool, w)
	require.NoError(t, err)
	assert.True(t, alive)
	assert.Less(t, age(), time.Minute)

	exec(t, pool, `DELETE FROM orchestrator_heartbeats`)
	alive, err = s.Heartbeat(t.Context(), pool, w)
	require.NoError(t, err)
	assert.True(t, alive, "a row that was deleted by hand is made again")
	assert.Equal(t, 1, value[int](t, pool, `SELECT count(*) FROM orchestrator_heartbeats`))

	bury(t, s, pool, w)
	exec(t, pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 hour'`)
	alive, err = s.Heartbeat(t.Context(), pool, w)
	require.NoError(t, err)
	assert.False(t, alive)
	assert.Greater(t, age(), time.Minute, "the dead renew nothing")
}

func TestRejoinIsForWhoIsGone(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	setState(t, s, pool, w, replicaset.Running, 3)
	require.NoError(t, s.Rejoin(t.Context(), pool, w))
	assert.Equal(t, replicaset.Running, stateOf(t, pool, w), "it lives")

	bury(t, s, pool, w)
	exec(t, pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 hour'`)
	require.NoError(t, s.Rejoin(t.Context(), pool, w))
	v, err := s.Observe(t.Context(), pool, w, false)
	require.NoError(t, err)
	assert.Equal(t, replicaset.Pending, v.Workers[0].State)
	assert.Zero(t, v.Workers[0].Generation)
	assert.Less(t, v.Workers[0].HeartbeatAge, time.Minute)
	assert.Equal(t, "rejoined after: stale", detailOf(t, pool, w))
	alive, err := s.Heartbeat(t.Context(), pool, w)
	require.NoError(t, err)
	assert.True(t, alive)

	require.NoError(t, s.Stop(t.Context(), pool, w, "left"))
	require.NoError(t, s.Rejoin(t.Context(), pool, w))
	assert.Equal(t, replicaset.Pending, stateOf(t, pool, w))
	assert.Equal(t, "rejoined after: left", detailOf(t, pool, w))
}

// Whoever hears of the departure can lead at once.
func TestStopGivesUpLeadershipBeforeItTells(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	session, listener := dial(t, pool), listen(t, s, pool)
	for range 5 {
		v, err := s.Observe(t.Context(), session, w, true)
		require.NoError(t, err)
		require.True(t, v.Leading)
	}
	require.NoError(t, s.Stop(t.Context(), session, w, "left gracefully"))
	assert.Equal(t, "left "+w.String(), hears(t, listener))
	v, err := s.Observe(t.Context(), listener, w, true)
	require.NoError(t, err)
	assert.True(t, v.Leading)
	assert.Equal(t, replicaset.Stopped, stateOf(t, pool, w))
	assert.Equal(t, "left gracefully", detailOf(t, pool, w))

	require.NoError(t, s.Stop(t.Context(), session, w, "again"))
	assert.Equal(t, "left gracefully", detailOf(t, pool, w))
	exec(t, pool, `SELECT pg_notify($1, 'marker')`, s.Channel())
	assert.Equal(t, "marker", hears(t, listener), "a departure is told once")
}

func TestStopOfAFollowerLeavesTheLeaderAlone(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	leads, follows := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	leader := dial(t, pool)
	_, err := s.Observe(t.Context(), leader, leads, true)
	require.NoError(t, err)
	config := pool.Config().ConnConfig.Copy()
	var notices []string
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	follower := dialWith(t, config)
	setState(t, s, follower, follows, replicaset.Stopping, 0)
	require.NoError(t, s.Stop(t.Context(), follower, follows, ""))
	assert.Empty(t, notices, "it released a lock that it did not hold")
	v, err := s.Observe(t.Context(), leader, leads, false)
	require.NoError(t, err)
	assert.True(t, v.Leading)
}

func TestStopOfTheDeadIsRecorded(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	bury(t, s, pool, w)
	require.NoError(t, s.Stop(t.Context(), pool, w, "left"))
	assert.Equal(t, replicaset.Stopped, stateOf(t, pool, w))
}

// A worker whose checkpoints were changed by hand asks for a new generation.
func TestRequestGenerationAsksForAnother(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	listener := listen(t, o.Store, o.pool)
	require.NoError(t, o.RequestGeneration(t.Context(), o.pool, o.worker))
	assert.Equal(t, "joined "+o.worker.String(), hears(t, listener))
	assert.Equal(t, replicaset.Pending, stateOf(t, o.pool, o.worker))

	for _, gone := range []replicaset.WorkerState{replicaset.Dead, replicaset.Stopped} {
		exec(t, o.pool, `UPDATE orchestrator_workers SET state = $1`, string(gone))
		require.NoError(t, o.RequestGeneration(t.Context(), o.pool, o.worker))
		assert.Equal(t, gone, stateOf(t, o.pool, o.worker))
	}
}
