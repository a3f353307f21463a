package pgcoord

import (
	"context"
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// newRole creates a role that may log in and use the tables, with a suffix to its name. It is dropped when the test ends.
func newRole(t testing.TB, pool *pgxpool.Pool, suffix string) string {
	t.Helper()
	role := "r_" + suffix + "_" + pool.Config().ConnConfig.Database
	exec(t, pool, `CREATE ROLE `+role+` LOGIN`)
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		assert.NoError(t, err)
	})
	exec(t, pool, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	return role
}

// dialAs opens a connection of the role.
func dialAs(t testing.TB, pool *pgxpool.Pool, role string) *pgx.Conn {
	t.Helper()
	config := pool.Config().ConnConfig.Copy()
	config.User = role
	return dialWith(t, config)
}

// Each worker has a role of its own. What it lacks to end another's sessions is named, and the grant helps.
func TestRightsOverOtherRoles(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	one, two := newRole(t, pool, "one"), newRole(t, pool, "two")
	w, other := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	session := dialAs(t, pool, two)
	holdSession(t, s, session, other)
	exec(t, session, `SELECT pg_advisory_lock($1)`, s.leaderKey())
	pid := int(session.PgConn().PID())
	own := dialAs(t, pool, one)

	missing, err := s.MissingRights(t.Context(), own, w)
	require.NoError(t, err)
	want := &RightError{Role: two, Remedy: "GRANT pg_signal_backend TO " + one}
	require.Equal(t, []*RightError{want}, missing)
	for _, err := range []error{s.EndLeader(t.Context(), own, pid, other), s.EndBackend(t.Context(), own, pid, other)} {
		require.ErrorIs(t, err, ErrMayNotEnd)
		right, ok := errors.AsType[*RightError](err)
		require.True(t, ok)
		assert.Equal(t, want, right)
	}
	missing, err = s.MissingRights(t.Context(), own, other)
	require.NoError(t, err)
	assert.Empty(t, missing, "its own session")

	exec(t, pool, `GRANT `+two+` TO `+one)
	missing, err = s.MissingRights(t.Context(), own, w)
	require.NoError(t, err)
	assert.Empty(t, missing)
	exec(t, pool, `REVOKE `+two+` FROM `+one)
	exec(t, pool, want.Remedy)
	require.NoError(t, s.EndLeader(t.Context(), own, pid, other))
	eventually(t, pool, "the session was not ended", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, pid)
}

// A superuser's sessions are for superusers to end.
func TestRightsOverASuperuser(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	one := newRole(t, pool, "one")
	exec(t, pool, `GRANT pg_signal_backend TO `+one)
	w, other := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	session := dial(t, pool)
	holdSession(t, s, session, other)
	own := dialAs(t, pool, one)
	missing, err := s.MissingRights(t.Context(), own, w)
	require.NoError(t, err)
	require.Len(t, missing, 1)
	assert.Contains(t, missing[0].Error(), "superuser")
	require.ErrorIs(t, s.EndBackend(t.Context(), own, int(session.PgConn().PID()), other), ErrMayNotEnd)
	assert.True(t, alive(t, pool, session))
}

// After SET ROLE a session may be of another role than the one that has logged in, which may end its own.
func TestWhoHasLoggedInMayEndItsOwn(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	login, owner := newRole(t, pool, "login"), newRole(t, pool, "owner")
	exec(t, pool, `GRANT `+owner+` TO `+login)
	exec(t, pool, `ALTER ROLE `+login+` SET role = `+owner)
	w := join(t, s, pool, "orders")
	session, own := dialAs(t, pool, login), dialAs(t, pool, login)
	holdSession(t, s, session, w)
	missing, err := s.MissingRights(t.Context(), own, uuid.New())
	require.NoError(t, err)
	assert.Empty(t, missing)
	require.NoError(t, s.EndBackend(t.Context(), own, int(session.PgConn().PID()), w))
	eventually(t, pool, "the session was not ended", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, session.PgConn().PID())
	assert.Equal(t, owner, value[string](t, own, `SELECT current_user::text`))

	// A session that takes the place of its predecessor does the same.
	predecessor := dialAs(t, pool, login)
	exec(t, predecessor, `SELECT pg_advisory_lock(7)`)
	config := pool.Config().ConnConfig.Copy()
	config.User = login
	next := watch(t, config, 7)
	require.ErrorContains(t, await(t, next.lost, "the first attempt"), "ended it")
	await(t, next.connected, "the connection")
}

// Only a session that is the worker's, and leads, is ended as a leader.
func TestEndLeaderEndsALeaderOnly(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w, other := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	session, stranger, batch := dial(t, pool), dial(t, pool), dial(t, pool)
	holdSession(t, s, session, w)
	exec(t, batch, `SELECT pg_advisory_lock_shared(hashtextextended($1, 0)), pg_advisory_lock_shared($2)`, ApplicationName(w), s.leaderKey())
	exec(t, stranger, `SELECT pg_advisory_lock_shared($1)`, s.leaderKey())
	end := func(conn *pgx.Conn, w uuid.UUID) {
		require.NoError(t, s.EndLeader(t.Context(), pool, int(conn.PgConn().PID()), w))
	}
	end(session, w) // it does not lead
	end(stranger, w)
	end(batch, w)
	exec(t, session, `SELECT pg_advisory_lock_shared($1)`, s.leaderKey())
	end(session, other)
	for name, conn := range map[string]*pgx.Conn{"session": session, "stranger": stranger, "batch": batch} {
		assert.True(t, alive(t, pool, conn), name)
	}
	end(session, w)
	eventually(t, pool, "the leader's session was not ended", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, session.PgConn().PID())
}

// Whoever has the leader's lock is named, a prepared transaction too.
func TestWhoHoldsTheLeadersLock(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders")
	_, held, err := s.LeaderLockHolder(t.Context(), pool)
	require.NoError(t, err)
	assert.False(t, held)
	session := named(t, pool, "a stranger")
	exec(t, session, `SELECT pg_advisory_lock($1)`, s.leaderKey())
	holder, held, err := s.LeaderLockHolder(t.Context(), pool)
	require.NoError(t, err)
	assert.True(t, held)
	assert.Equal(t, Holder{PID: int(session.PgConn().PID()), Role: value[string](t, session, `SELECT session_user::text`), Application: "a stranger"}, holder)
	assert.True(t, observe(t, s, pool, w, false).LeaderLocked)
	require.NoError(t, session.Close(t.Context()))

	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, `SELECT pg_advisory_xact_lock($1)`, s.leaderKey())
	exec(t, tx, `CREATE TABLE prepared ()`)
	if _, err := tx.Exec(t.Context(), `PREPARE TRANSACTION 'holds the lock'`); sqlState(err) == "55000" {
		t.Skip("the server prepares no transactions")
	} else {
		require.NoError(t, err)
	}
	_ = tx.Rollback(t.Context())
	holder, held, err = s.LeaderLockHolder(t.Context(), pool)
	require.NoError(t, err)
	assert.True(t, held)
	assert.Equal(t, Holder{PreparedGID: "holds the lock"}, holder)
	v := observe(t, s, dial(t, pool), w, true)
	assert.True(t, v.LeaderLocked)
	assert.Zero(t, v.LeaderPID)
	assert.False(t, v.Leading)
	exec(t, pool, `ROLLBACK PREPARED 'holds the lock'`)
	assert.False(t, observe(t, s, pool, w, false).LeaderLocked)
}

// People and restores write what they like.
func TestObserveReadsWhateverStandsThere(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	lost := join(t, o.Store, o.pool, "orders")
	for _, when := range []string{"infinity", "-infinity", "294276-12-31", "4713-01-01 BC", "2000-01-01"} {
		exec(t, o.pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = $1::text::timestamptz`, when)
		exec(t, o.pool, `UPDATE orchestrator_generations SET created_at = $1::text::timestamptz, activated_at = $1::text::timestamptz`, when)
		exec(t, o.pool, `UPDATE orchestrator_workers SET state_changed_at = $1::text::timestamptz, projections = ARRAY[NULL, 'orders'], unpartitioned = ARRAY[NULL]::text[],
			left_out = ARRAY[NULL]::text[]`, when)
		exec(t, o.pool, `UPDATE orchestrator_generations SET members = ARRAY[NULL, $1::uuid]`, o.worker)
		whole := observe(t, o.Store, o.pool, o.worker, false)
		glance, err := o.Glance(t.Context(), o.pool, o.worker)
		require.NoError(t, err)
		for _, v := range []replicaset.View{whole, glance} {
			assert.Equal(t, []uuid.UUID{o.worker}, v.Generation.Members)
			if require.Len(t, v.Workers, map[bool]int{false: 2, true: 1}[v.Glance]); v.Glance {
				assert.Equal(t, o.worker, v.Workers[0].ID)
			}
			for _, w := range v.Workers {
				assert.Equal(t, []string{"orders"}, w.Projections)
				assert.Empty(t, w.Unpartitioned)
				assert.GreaterOrEqual(t, w.HeartbeatAge, 0*w.HeartbeatAge)
				assert.Equal(t, when == "infinity" || when == "-infinity" || when == "4713-01-01 BC", w.HeartbeatAge == replicaset.NoHeartbeat, when)
			}
		}
		w, _ := whole.Worker(lost)
		markDead(t, o.Store, o.pool, []replicaset.Loss{{Worker: lost, Heartbeat: w.Heartbeat}})
		require.Equal(t, replicaset.Dead, stateOf(t, o.pool, lost), when)
		exec(t, o.pool, `UPDATE orchestrator_workers SET state = 'pending' WHERE worker_id = $1`, lost)
	}
	exec(t, o.pool, `DELETE FROM orchestrator_heartbeats WHERE worker_id = $1`, lost)
	w, _ := observe(t, o.Store, o.pool, o.worker, false).Worker(lost)
	assert.Equal(t, replicaset.NoHeartbeat, w.HeartbeatAge, "missing means old")
	markDead(t, o.Store, o.pool, []replicaset.Loss{{Worker: lost, Heartbeat: w.Heartbeat}})
	assert.Equal(t, replicaset.Dead, stateOf(t, o.pool, lost))
}
