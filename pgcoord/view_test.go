package pgcoord

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// observe is the view of a worker.
func observe(t testing.TB, s *Store, db DB, w uuid.UUID, lead bool) replicaset.View {
	t.Helper()
	v, err := s.Observe(t.Context(), db, w, lead)
	require.NoError(t, err)
	return v
}

// ids is the workers that a view shows.
func ids(v replicaset.View) []uuid.UUID {
	var all []uuid.UUID
	for _, w := range v.Workers {
		all = append(all, w.ID)
	}
	return all
}

// holdSession opens a connection that holds the worker's session lock.
func holdSession(t testing.TB, s *Store, conn *pgx.Conn, w uuid.UUID) {
	t.Helper()
	require.True(t, value[bool](t, conn, `SELECT pg_try_advisory_lock($1)`, s.SessionKey(w)))
}

func TestObserveAnEmptyReplicaSet(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	v := observe(t, s, pool, uuid.New(), false)
	assert.Positive(t, v.SessionAge)
	assert.InDelta(t, float64(time.Now().UnixNano()), float64(v.Clock), float64(time.Minute))
	v.SessionAge, v.ServerAge, v.Clock = 0, 0, 0
	v.Session, v.Server = "", ""
	assert.Equal(t, replicaset.View{Generation: replicaset.Generation{Members: []uuid.UUID{}}}, v)
	_, ok := v.Worker(uuid.New())
	assert.False(t, ok)
}

// A session that took the lock twice would have to release it twice.
func TestObserveTakesTheLeadersLockOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	one, two := dial(t, pool), dial(t, pool)
	pid := func(conn *pgx.Conn) int { return int(conn.PgConn().PID()) }
	assert.Zero(t, observe(t, s, one, w, false).LeaderPID, "who does not want to lead takes nothing")
	for range 3 {
		v := observe(t, s, one, w, true)
		assert.True(t, v.Leading)
		assert.Equal(t, pid(one), v.LeaderPID)
	}
	v := observe(t, s, two, w, true)
	assert.False(t, v.Leading)
	assert.Equal(t, pid(one), v.LeaderPID)
	assert.True(t, observe(t, s, one, w, false).Leading, "it leads, whether it wants to or not")

	require.True(t, value[bool](t, one, `SELECT pg_advisory_unlock($1)`, s.leaderKey()))
	assert.Zero(t, observe(t, s, two, w, false).LeaderPID)
	assert.True(t, observe(t, s, two, w, true).Leading)
	require.NoError(t, two.Close(t.Context()))
	require.Eventually(t, func() bool { return observe(t, s, one, w, true).Leading }, patience, 5*time.Millisecond,
		"the lock ends with its session")
}

func TestObserveShowsWhoHoldsASession(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	polls := membership("orders")
	polls.HasSession = false
	require.NoError(t, s.Join(t.Context(), pool, polls))
	session := dial(t, pool)
	holdSession(t, s, session, w)
	// Another waits for the lock, another has the same key in the other key space,
	// and one has it in another database.
	waiter := dial(t, pool)
	waiting, cancel := context.WithCancel(t.Context())
	waits := async(func() error {
		_, err := waiter.Exec(waiting, `SELECT pg_advisory_lock($1)`, s.SessionKey(w))
		return err
	})
	awaitBlocked(t, pool, waiter.PgConn().PID())
	lonely := join(t, s, pool, "orders")
	exec(t, dial(t, pool), `SELECT pg_advisory_lock(($1::bigint >> 32)::int, (($1::bigint << 32) >> 32)::int)`, s.SessionKey(lonely))
	elsewhere := dial(t, pgtest.NewDatabase(t))
	for _, key := range []int64{s.SessionKey(w), s.SessionKey(lonely), s.leaderKey()} {
		exec(t, elsewhere, `SELECT pg_advisory_lock($1)`, key)
	}
	v := observe(t, s, pool, w, false)
	with, ok := v.Worker(w)
	require.True(t, ok)
	assert.True(t, with.HasSession)
	assert.Equal(t, int(session.PgConn().PID()), with.SessionPID)
	without, ok := v.Worker(polls.ID)
	require.True(t, ok)
	assert.False(t, without.HasSession)
	assert.Zero(t, without.SessionPID)
	other, ok := v.Worker(lonely)
	require.True(t, ok)
	assert.True(t, other.HasSession)
	assert.Zero(t, other.SessionPID)
	assert.Zero(t, v.LeaderPID)
	cancel()
	require.Error(t, await(t, waits, "the one that waited"))
}

func TestObserveMeasuresAges(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	prepare(t, s, pool, 0)
	g := observe(t, s, pool, w, false).Generation
	assert.Zero(t, g.ActiveFor, "it is not active")
	setState(t, s, pool, w, replicaset.Ready, 1)
	_, err := s.Activate(t.Context(), pool, replicaset.Activation{Number: 1}, nil)
	require.NoError(t, err)
	exec(t, pool, `UPDATE orchestrator_generations SET created_at = now() - interval '3 minutes', activated_at = now() - interval '2 minutes'`)
	exec(t, pool, `UPDATE orchestrator_workers SET state_changed_at = now() - interval '4 minutes'`)
	exec(t, pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '90.5 seconds'`)
	v := observe(t, s, pool, w, false)
	within := float64(time.Minute / 2)
	assert.InDelta(t, 3*time.Minute, v.Generation.Age, within)
	assert.InDelta(t, 2*time.Minute, v.Generation.ActiveFor, within)
	assert.InDelta(t, 4*time.Minute, v.Workers[0].StateAge, within)
	assert.InDelta(t, 90500*time.Millisecond, v.Workers[0].HeartbeatAge, within)

	conn := dial(t, pool)
	first := observe(t, s, conn, w, false).SessionAge
	assert.Greater(t, observe(t, s, conn, w, false).SessionAge, first)
}

func TestObserveShowsTheLivingMembersLeaderAndOneself(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	member, alive, own, leader, gone := join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a")
	foreign := join(t, open(t, pool, "stranger"), pool, "b")
	generation(t, s, pool, 0, member)
	for _, w := range []uuid.UUID{member, own, leader} {
		bury(t, s, pool, w)
	}
	require.NoError(t, s.Stop(t.Context(), pool, gone, ""))
	session := dial(t, pool)
	holdSession(t, s, session, leader)
	require.True(t, observe(t, s, session, leader, true).Leading)

	v := observe(t, s, pool, own, false)
	assert.ElementsMatch(t, []uuid.UUID{member, alive, own, leader}, ids(v))
	assert.IsIncreasing(t, texts(ids(v)))
	w, ok := v.Worker(own)
	assert.True(t, ok)
	assert.Equal(t, replicaset.Dead, w.State)
	assert.ElementsMatch(t, []uuid.UUID{member, alive, leader}, ids(observe(t, s, pool, alive, false)))
	assert.NotContains(t, ids(observe(t, s, pool, foreign, false)), foreign, "it is another replica set's")
}

// Sums are those of the worker's own rows, the dead those of the replica set.
func TestObserveSumsCheckpointsAndCountsTheDead(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.cut(t, 10, 20, 9)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET revision = 1`)
	other := join(t, o.Store, o.pool, "orders")
	for name, look := range map[string]func(worker uuid.UUID) (replicaset.View, error){
		"look":   func(worker uuid.UUID) (replicaset.View, error) { return o.Observe(t.Context(), o.pool, worker, false) },
		"glance": func(worker uuid.UUID) (replicaset.View, error) { return o.Glance(t.Context(), o.pool, worker) },
	} {
		v, err := look(o.worker)
		require.NoError(t, err)
		assert.Equal(t, map[string]replicaset.CheckpointSums{"orders": {Positions: 39, Revisions: 3}}, v.Checkpoints, name)
		assert.Zero(t, v.Dead, name)
		v, err = look(other)
		require.NoError(t, err)
		assert.Empty(t, v.Checkpoints, name)
	}
	bury(t, o.Store, o.pool, other)
	v, err := o.Observe(t.Context(), o.pool, o.worker, false)
	require.NoError(t, err)
	assert.Equal(t, 1, v.Dead)
}

func TestMarkDeadLooksAtItsEvidenceAgain(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	back, lost, fresh, late, gone := join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a"), join(t, s, pool, "a")
	polls := membership("a")
	polls.HasSession = false
	require.NoError(t, s.Join(t.Context(), pool, polls))
	holdSession(t, s, dial(t, pool), back)
	holdSession(t, s, dial(t, pgtest.NewDatabase(t)), lost) // which is another lock
	evidence := []replicaset.Loss{stale(t, pool, fresh), stale(t, pool, late), stale(t, pool, gone)}
	exec(t, pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = last_heartbeat + interval '1 microsecond' WHERE worker_id = $1`, fresh)
	require.NoError(t, s.Stop(t.Context(), pool, gone, "left"))
	assert.Equal(t, 2, markDead(t, s, pool, append(evidence, []replicaset.Loss{
		{Worker: back, SessionGone: true},
		{Worker: lost, SessionGone: true, Detail: "no session"},
		{Worker: polls.ID, SessionGone: true},
	}...)))
	for w, want := range map[uuid.UUID]replicaset.WorkerState{back: replicaset.Pending, lost: replicaset.Dead, polls.ID: replicaset.Pending, fresh: replicaset.Pending, late: replicaset.Dead, gone: replicaset.Stopped} {
		assert.Equal(t, want, stateOf(t, pool, w))
	}
	assert.Equal(t, "no session", detailOf(t, pool, lost))
	assert.Zero(t, markDead(t, s, pool, []replicaset.Loss{{Worker: lost, SessionGone: true, Detail: "again"}}))
	assert.Equal(t, "no session", detailOf(t, pool, lost), "one dies once")
}

func TestPrepareDeclaresTheLostDead(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	lost, alive := join(t, s, pool, "a"), join(t, s, pool, "a")
	holdSession(t, s, dial(t, pool), alive)
	c := change(0, replicaset.Loss{Worker: lost, SessionGone: true}, replicaset.Loss{Worker: alive, SessionGone: true})
	prepared, err := s.Prepare(t.Context(), pool, c)
	require.NoError(t, err)
	assert.Equal(t, Prepared{Number: 1, Died: 1}, prepared)
	assert.Equal(t, replicaset.Dead, stateOf(t, pool, lost))
	assert.Equal(t, replicaset.Pending, stateOf(t, pool, alive))
	prepared, err = s.Prepare(t.Context(), pool, c) // somebody was faster
	require.NoError(t, err)
	assert.Zero(t, prepared)
}

// A sequence that was given its next number has no last value.
func TestLastAllocatedIsTheOneBeforeTheNext(t *testing.T) {
	t.Parallel()
	_, pool := newStore(t)
	exec(t, pool, `ALTER TABLE events ADD COLUMN global_position bigserial PRIMARY KEY`)
	s := open(t, pool, "main")
	for _, given := range []struct {
		sql  string
		want int64
	}{
		{`SELECT 1`, 0},
		{`SELECT setval('events_global_position_seq', 8, false)`, 7},
		{`SELECT nextval('events_global_position_seq')`, 8},
		{`ALTER SEQUENCE events_global_position_seq RESTART`, 0},
	} {
		exec(t, pool, given.sql)
		last, known, err := s.LastAllocated(t.Context(), pool)
		require.NoError(t, err)
		assert.True(t, known)
		assert.Equal(t, given.want, last, given.sql)
	}
}

// A column may own a sequence that feeds nothing: one that became an identity column keeps the sequence of the bigserial that it was. And what feeds
// it may be another's.
func TestLastAllocatedIsOfTheSequenceThatFeedsThePositions(t *testing.T) {
	t.Parallel()
	_, pool := newStore(t)
	exec(t, pool, `ALTER TABLE events ADD COLUMN global_position bigserial PRIMARY KEY`)
	exec(t, pool, `SELECT nextval('events_global_position_seq')`)
	exec(t, pool, `ALTER TABLE events ALTER global_position DROP DEFAULT, ALTER global_position ADD GENERATED BY DEFAULT AS IDENTITY (START 5)`)
	last := func() int64 {
		s := open(t, pool, "main")
		require.True(t, s.SeesAppends())
		exec(t, pool, `INSERT INTO events VALUES (DEFAULT), (DEFAULT), (DEFAULT)`)
		last, known, err := s.LastAllocated(t.Context(), pool)
		require.NoError(t, err)
		require.True(t, known)
		assert.Equal(t, last, observe(t, s, pool, uuid.New(), false).LastAllocated)
		return last
	}
	assert.EqualValues(t, 7, last())
	exec(t, pool, `ALTER TABLE events ALTER global_position DROP IDENTITY; CREATE SEQUENCE "of ""Mine" START 20; ALTER TABLE events ALTER global_position SET DEFAULT nextval('"of ""Mine"')`)
	assert.EqualValues(t, 22, last())
	exec(t, pool, `ALTER TABLE events ALTER global_position SET DEFAULT 100`)
	assert.False(t, open(t, pool, "main").SeesAppends(), "nothing feeds it")
}

// LastAllocated changes with the first number, before anything is visible.
func TestObserveShowsTheLastAllocatedPosition(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	assert.False(t, s.SeesAppends(), "the events table has no positions")
	exec(t, pool, `ALTER TABLE events ADD COLUMN global_position bigserial PRIMARY KEY`)
	s = open(t, pool, "main")
	require.True(t, s.SeesAppends())
	assert.Zero(t, observe(t, s, pool, uuid.New(), false).LastAllocated)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, `INSERT INTO events VALUES (DEFAULT), (DEFAULT), (DEFAULT)`)
	assert.EqualValues(t, 3, observe(t, s, pool, uuid.New(), false).LastAllocated)
	require.NoError(t, tx.Rollback(t.Context()))
	exec(t, pool, `DROP TABLE events`)
	assert.Zero(t, observe(t, s, pool, uuid.New(), false).LastAllocated, "looking at the replica set goes on")
}

func TestAnnounceAppends(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	conn := dial(t, pool)
	exec(t, conn, "LISTEN "+s.Channel())
	w := uuid.New()
	s.AnnounceAppends(t.Context(), pool, w)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	n, err := conn.WaitForNotification(ctx)
	require.NoError(t, err)
	assert.Equal(t, NotifyAppended+" "+w.String(), n.Payload)
}

// A glance shows of the worker itself and the generation what a whole look shows, but for what is in the locks.
func TestGlance(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	other := join(t, o.Store, o.pool, "orders")
	setState(t, o.Store, o.pool, o.worker, replicaset.Running, 1)
	holdSession(t, o.Store, dial(t, o.pool), o.worker)
	gone := join(t, o.Store, o.pool, "orders")
	require.NoError(t, o.Stop(t.Context(), o.pool, gone, "a test"))
	seen, err := o.Glance(t.Context(), o.pool, other)
	require.NoError(t, err)
	whole := observe(t, o.Store, o.pool, other, false)
	assert.True(t, seen.Glance)
	assert.Equal(t, []uuid.UUID{other}, ids(seen))
	assert.Equal(t, whole.Generation.Members, seen.Generation.Members)
	assert.Equal(t, whole.Generation.State, seen.Generation.State)
	assert.InDelta(t, whole.Generation.ActiveFor.Seconds(), seen.Generation.ActiveFor.Seconds(), 30)
	assert.Positive(t, seen.Generation.ActiveFor)
	w, _ := whole.Worker(other)
	g := seen.Workers[0]
	w.HeartbeatAge, w.StateAge, w.SessionPID, g.HeartbeatAge, g.StateAge = 0, 0, 0, 0, 0
	assert.Equal(t, w, g)
	empty, err := open(t, o.pool, "another").Glance(t.Context(), o.pool, other)
	require.NoError(t, err)
	assert.Empty(t, empty.Workers)
	assert.Zero(t, empty.Generation.Number)
}
