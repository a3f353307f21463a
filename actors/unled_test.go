package actors

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// role creates a role that may log in and use the tables.
func (f *fixture) role(suffix string) string {
	f.t.Helper()
	role := "r_" + suffix + "_" + f.pool.Config().ConnConfig.Database
	f.exec(`CREATE ROLE ` + role + ` LOGIN`)
	f.t.Cleanup(func() {
		_, err := f.pool.Exec(context.Background(), `DROP OWNED BY `+role+`; DROP ROLE `+role)
		assert.NoError(f.t, err)
	})
	f.exec(`GRANT ALL ON ALL TABLES IN SCHEMA public TO ` + role)
	f.exec(`GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ` + role)
	return role
}

// dial opens a connection of a role; "" is the fixture's.
func (f *fixture) dial(role string) *pgx.Conn {
	f.t.Helper()
	config := f.pool.Config().ConnConfig.Copy()
	if role != "" {
		config.User = role
	}
	conn, err := pgx.ConnectConfig(f.t.Context(), config)
	require.NoError(f.t, err)
	f.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// poolAs is a pool of a role.
func (f *fixture) poolAs(role string) *pgxpool.Pool {
	f.t.Helper()
	config := f.pool.Config()
	config.ConnConfig.User = role
	pool, err := pgxpool.NewWithConfig(f.t.Context(), config)
	require.NoError(f.t, err)
	f.t.Cleanup(pool.Close)
	return pool
}

// as makes a worker one of the role.
func (f *fixture) as(role string) func(*Config) {
	pool := f.poolAs(role)
	return func(c *Config) {
		c.Pool = pool
		c.Connect = func(ctx context.Context) (*pgx.Conn, error) {
			return pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
		}
	}
}

// leaderKey is the lock that a worker's session holds beside its own.
func (f *fixture) leaderKey(r *testWorker) int64 {
	f.t.Helper()
	const sql = `SELECT coalesce(max((classid::bigint << 32) | objid::bigint), 0) FROM pg_locks
		WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND mode = 'ExclusiveLock' AND pid IN (
			SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = $1)
		AND ((classid::bigint << 32) | objid::bigint) NOT IN ($1, $2)`
	eventually(f.t, func() bool {
		return query[int64](f, sql, f.store.SessionKey(r.id), wakeup.Key(f.events.EventsTable())) != 0
	}, "nobody leads")
	return query[int64](f, sql, f.store.SessionKey(r.id), wakeup.Key(f.events.EventsTable()))
}

// freeLock makes the leader leave, and returns the key of its lock.
func (f *fixture) freeLock() int64 {
	f.t.Helper()
	r := f.start(nil, &recorder{name: "p"})
	key := f.leaderKey(r)
	r.Leave()
	r.awaitDone()
	return key
}

// Any role that may log in can hold the lock. It holds up nobody.
func TestAStrangerHoldsTheLeadersLock(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "workers have no sessions there")
	for name, hold := range map[string]func(f *fixture, key int64) (gone func()){
		"a session": func(f *fixture, key int64) func() {
			stranger := f.dial(f.role("stranger"))
			_, err := stranger.Exec(f.t.Context(), `SELECT pg_advisory_lock($1)`, key)
			require.NoError(f.t, err)
			return func() { require.NoError(f.t, stranger.Close(f.t.Context())) }
		},
		"a prepared transaction": func(f *fixture, key int64) func() {
			f.exec(fmt.Sprintf(`BEGIN; CREATE TABLE prepared (); SELECT pg_advisory_xact_lock(%d); PREPARE TRANSACTION 'holds the lock'`, key), pgx.QueryExecModeSimpleProtocol)
			return func() { f.exec(`ROLLBACK PREPARED 'holds the lock'`) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			gone := hold(f, f.freeLock())
			first := f.start(nil, &recorder{name: "p"})
			want := f.append("Order", 20)
			eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "nobody handles anything")
			second := f.start(nil, &recorder{name: "p"})
			eventually(t, func() bool { return f.active(2) != 0 }, "they are never two")
			want = append(want, f.append("Order", 20)...)
			eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "events are not handled")
			assert.ElementsMatch(t, want, f.handled("p"))
			lines := append(first.log.Find("leads without the leader's lock"), second.log.Find("leads without the leader's lock")...)
			assert.LessOrEqual(t, len(lines), 2, "each of them says so once")
			require.NotEmpty(t, lines)
			assert.Equal(t, slog.LevelWarn, lines[0].Level)
			assert.NotEmpty(t, lines[0].Attrs["pid"]+lines[0].Attrs["prepared_gid"])
			unlocked := func() float64 { return first.count("leader_unlocked") + second.count("leader_unlocked") }
			eventually(t, func() bool { return unlocked() == 1 && first.count("leader")+second.count("leader") == 1 }, "the metrics do not say so")
			gone()
			eventually(t, func() bool { return unlocked() == 0 }, "nobody takes the lock that is free")
		})
	}
}

// Each worker has a role of its own, and the one that leads is frozen: its session and its locks stay. Nobody may end them.
func TestAFrozenLeaderOfAnotherRoleIsReplaced(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "workers have no sessions there")
	f := newFixture(t)
	key := f.freeLock()
	frozen := pgcoord.Membership{ID: uuid.UUID{1}, Name: "frozen", Projections: []string{"p"}, Partitions: 1, HasSession: true}
	require.NoError(t, f.store.Join(t.Context(), f.pool, frozen))
	f.exec(`UPDATE orchestrator_workers SET state = 'running', generation = 1 WHERE worker_id = $1`, frozen.ID)
	f.exec(`UPDATE orchestrator_generations SET members = ARRAY[$1::uuid], state = 'superseded', superseded_at = now() WHERE state <> 'superseded'`, frozen.ID)
	session := f.dial(f.role("frozen"))
	for _, k := range []int64{f.store.SessionKey(frozen.ID), key} {
		_, err := session.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, k)
		require.NoError(t, err)
	}
	want := f.append("Order", 300)
	stale := func(c *Config) { c.Timing.Stale = 900 * time.Millisecond }
	one, two := f.as(f.role("one")), f.as(f.role("two"))
	workers := []*testWorker{
		f.start(func(c *Config) { one(c); stale(c) }, &recorder{name: "p"}),
		f.start(func(c *Config) { two(c); stale(c) }, &recorder{name: "p"}),
	}
	eventually(t, func() bool { return f.active(2) != 0 }, "they never get a generation")
	eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "events are not handled")
	assert.ElementsMatch(t, want, f.handled("p"))
	require.NoError(t, session.Ping(t.Context()), "its session was ended")
	lines := append(workers[0].log.Find("may not end the sessions"), workers[1].log.Find("may not end the sessions")...)
	require.NotEmpty(t, lines)
	for _, line := range lines {
		assert.Equal(t, slog.LevelWarn, line.Level)
		assert.Contains(t, line.Attrs["remedy"], "GRANT pg_signal_backend TO r_")
	}
	assert.LessOrEqual(t, len(lines), 4, "each names each role once")
}

// Behind a pooler sessions have other names than those that the library gave them.
func TestAFrozenLeaderBehindAPoolerIsEnded(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it has a pooler of its own")
	pgtest.RequireBouncer(t)
	f := newFixture(t)
	key := f.freeLock()
	database := f.pool.Config().ConnConfig.Database
	bouncer := pgtest.OwnBouncer(t, f.pool.Config().ConnString(), pgtest.PoolMode("session"), map[string]string{"application_name_add_host": "1"})
	connect := func(ctx context.Context) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(bouncer.DSN(database) + "&application_name=worker")
		if err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, config)
	}
	frozen := pgcoord.Membership{ID: uuid.UUID{1}, Name: "frozen", Projections: []string{"p"}, Partitions: 1, HasSession: true}
	require.NoError(t, f.store.Join(t.Context(), f.pool, frozen))
	session, err := connect(t.Context())
	require.NoError(t, err)
	defer func() { _ = session.Close(context.Background()) }()
	for _, k := range []int64{f.store.SessionKey(frozen.ID), key} {
		_, err := session.Exec(t.Context(), `SELECT pg_advisory_lock($1)`, k)
		require.NoError(t, err)
	}
	r := f.start(func(c *Config) {
		c.Connect, c.Timing.Stale, c.Timing.SessionGrace = connect, 900*time.Millisecond, time.Second
	}, &recorder{name: "p"})
	r.log.Await(t, "ended the session of a frozen leader")
	want := f.append("Order", 20)
	f.awaitHandled("p", want)
	eventually(t, func() bool { return r.count("leader") == 1 }, "it does not lead")
	assert.Zero(t, r.count("leader_unlocked"))
}

// A worker that cannot look at the replica set leads nobody, and its metric says so: otherwise nobody is told where no worker reaches the database.
func TestAWorkerThatSeesNothingDoesNotLead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	eventually(t, func() bool { return r.count("leader") == 1 }, "it does not lead")
	f.exec(`ALTER TABLE orchestrator_generations RENAME TO generations`)
	eventually(t, func() bool { return r.count("leader") == 0 }, "it seems to lead")
	f.exec(`ALTER TABLE generations RENAME TO orchestrator_generations`)
	eventually(t, func() bool { return r.count("leader") == 1 }, "it does not lead again")
}
