package horizon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProbeOfAnEmptyTable(t *testing.T) {
	p, _ := newProber(t, newEvents(t), 0)
	assert.Equal(t, Reading{Epoch: 1}, probe(t, p), "a sequence that was never called stands at 0")
}

func TestProbeFollowsTheWriters(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	insert(t, pool)
	assert.Equal(t, Reading{Position: 1, LastValue: 1, Epoch: 1}, probe(t, p))

	tx := begin(t, pool)
	insert(t, tx)
	insert(t, pool)
	r := probe(t, p)
	assert.Equal(t, int64(1), r.Position, "position 2 is in flight")
	assert.Equal(t, int64(3), r.LastValue)
	assert.Equal(t, 1, r.Holders)

	require.NoError(t, tx.Rollback(t.Context()))
	r = probe(t, p)
	assert.Equal(t, int64(3), r.Position, "position 2 is dead")
	assert.Zero(t, r.Holders)
}

// The writers' locks are fast-path locks, which live outside the lock table.
func TestProbeSeesFastPathLocks(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	probe(t, p)
	tx := begin(t, pool)
	insert(t, tx)
	var fast bool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT fastpath FROM pg_locks
		WHERE relation = 'events'::regclass AND mode = 'RowExclusiveLock'`).Scan(&fast))
	require.True(t, fast, "the test needs a fast-path lock")
	assert.Equal(t, 1, probe(t, p).Holders)
}

func TestProbeSeesWritersWithStrongerLocks(t *testing.T) {
	for _, mode := range []string{"SHARE ROW EXCLUSIVE", "ACCESS EXCLUSIVE"} {
		t.Run(mode, func(t *testing.T) {
			pool := newEvents(t)
			p, _ := newProber(t, pool, 0)
			probe(t, p)
			probe(t, p) // which prepares the statement of a glance: that waits for the lock too
			tx := begin(t, pool)
			exec(t, tx, `LOCK TABLE events IN `+mode+` MODE`)
			assert.Zero(t, probe(t, p).Holders, "it has not inserted")
			insert(t, tx)
			r := probe(t, p)
			assert.Equal(t, 1, r.Holders)
			assert.Zero(t, r.Position)
		})
	}
}

func TestProbeNamesTheBlocker(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	insert(t, pool)
	probe(t, p)

	conn := dial(t, pool)
	exec(t, conn, `SET application_name = 'slow-import'`)
	slow := begin(t, conn)
	insert(t, slow)
	probe(t, p)
	insert(t, begin(t, pool))

	r := probe(t, p)
	require.NotNil(t, r.Blocker)
	assert.Equal(t, int32(conn.PgConn().PID()), r.Blocker.PID)
	assert.Equal(t, "slow-import", r.Blocker.Application)
	assert.Positive(t, r.Blocker.Age)
	assert.Less(t, r.Blocker.Age, time.Minute)
	assert.Empty(t, r.Blocker.PreparedGID)
	assert.Equal(t, 2, r.Holders)
}

func TestProbeNamesNoBlockerBeforeItsTime(t *testing.T) {
	pool := newEvents(t)
	p := NewProber(dial(t, pool), events, newCheckpoint(0), Options{BlockerAfter: time.Hour})
	probe(t, p)
	insert(t, begin(t, pool))
	for range 3 {
		r := probe(t, p)
		assert.Less(t, r.Position, r.LastValue)
		assert.Nil(t, r.Blocker)
	}
}

func TestProbeSparesTheLocksWhileNothingIsDrawn(t *testing.T) {
	pool := newEvents(t)
	p := NewProber(dial(t, pool), events, newCheckpoint(0), Options{BlockerAfter: time.Hour})
	insert(t, pool)
	probe(t, p)
	late := begin(t, pool)
	exec(t, late, `UPDATE events SET body = 'y'`)
	for range 2 {
		assert.Equal(t, Reading{Position: 1, LastValue: 1, Epoch: 1}, probe(t, p), "it holds the lock but has drawn nothing")
	}
	insert(t, late)
	for range 2 {
		assert.Equal(t, Reading{Position: 1, LastValue: 2, Holders: 1, Epoch: 1}, probe(t, p))
	}
	require.NoError(t, late.Commit(t.Context()))
	assert.Equal(t, Reading{Position: 2, LastValue: 2, Epoch: 1}, probe(t, p))
}

func TestProbeDoesNotCountItsOwnSession(t *testing.T) {
	pool := newEvents(t)
	tx := begin(t, pool)
	insert(t, tx)
	own := NewProber(tx, events, newCheckpoint(0), Options{})
	assert.Equal(t, Reading{Position: 1, LastValue: 1, Epoch: 1}, probe(t, own))

	other, _ := newProber(t, pool, 0)
	assert.Zero(t, probe(t, other).Position, "for others the event is in flight")
}

func TestProbeIgnoresOtherDatabases(t *testing.T) {
	here, there := newEvents(t), newEvents(t)
	var a, b uint32
	require.NoError(t, here.QueryRow(t.Context(), `SELECT 'events'::regclass::oid`).Scan(&a))
	require.NoError(t, there.QueryRow(t.Context(), `SELECT 'events'::regclass::oid`).Scan(&b))
	if a != b {
		t.Skip("the two tables have different oids")
	}
	insert(t, begin(t, there))
	p, _ := newProber(t, here, 0)
	assert.Zero(t, probe(t, p).Holders)
}

func TestFirstProbeAmongOpenTransactions(t *testing.T) {
	t.Run("a hole: up to there", func(t *testing.T) {
		pool := newEvents(t)
		for range 3 {
			insert(t, pool)
		}
		tx := begin(t, pool)
		insert(t, tx)
		insert(t, pool)
		p, _ := newProber(t, pool, 2)
		for range 2 {
			assert.Equal(t, int64(3), probe(t, p).Position)
		}
		require.NoError(t, tx.Commit(t.Context()))
		assert.Equal(t, int64(5), probe(t, p).Position)
	})
	t.Run("no hole: the last value", func(t *testing.T) {
		pool := newEvents(t)
		for range 3 {
			insert(t, pool)
		}
		tx := begin(t, pool)
		exec(t, tx, `UPDATE events SET body = 'y'`)
		p, _ := newProber(t, pool, 0)
		r := probe(t, p)
		assert.Equal(t, int64(3), r.Position)
		assert.Equal(t, 1, r.Holders)

		assert.Equal(t, int64(4), insert(t, tx))
		assert.Equal(t, int64(3), probe(t, p).Position, "what it draws from now on is above")
	})
}

func TestProbePartitionedEvents(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, `DROP TABLE events`)
	exec(t, pool, `CREATE TABLE events (global_position bigserial PRIMARY KEY, body text) PARTITION BY RANGE (global_position)`)
	exec(t, pool, `CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (global_position)`)
	exec(t, pool, `CREATE TABLE events_1_1 PARTITION OF events_1 FOR VALUES FROM (0) TO (1000)`)
	require.NoError(t, Check(t.Context(), pool, events))

	p, _ := newProber(t, pool, 0)
	probe(t, p)
	t.Run("insert into the parent", func(t *testing.T) {
		tx := begin(t, pool)
		insert(t, tx)
		r := probe(t, p)
		assert.Equal(t, 1, r.Holders, "locks on two tables, one holder")
		assert.Less(t, r.Position, r.LastValue)
		require.NoError(t, tx.Rollback(t.Context()))
	})
	t.Run("insert into a partition below a partition", func(t *testing.T) {
		tx := begin(t, pool)
		exec(t, tx, `INSERT INTO events_1_1 (body) VALUES ('x')`)
		r := probe(t, p)
		assert.Equal(t, 1, r.Holders)
		assert.Less(t, r.Position, r.LastValue)
		require.NoError(t, tx.Rollback(t.Context()))
	})
	t.Run("insert into a partition that came later", func(t *testing.T) {
		exec(t, pool, `CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (1000) TO (2000)`)
		tx := begin(t, pool)
		exec(t, tx, `INSERT INTO events_2 (global_position, body) VALUES (nextval('events_global_position_seq') + 1000, 'x')`)
		assert.Equal(t, 1, probe(t, p).Holders)
		require.NoError(t, tx.Rollback(t.Context()))
	})
}

// Nobody sees that a table is a child of the events table before the transaction that made it one commits.
func TestAChildIsWrittenToByWhoMakesIt(t *testing.T) {
	for how, test := range map[string]struct{ before, making string }{
		"created with INHERITS": {making: `CREATE TABLE child () INHERITS (events)`},
		"ALTER TABLE INHERIT":   {`CREATE TABLE child (LIKE events INCLUDING ALL)`, `ALTER TABLE child INHERIT events`},
		"attached": {
			`DROP TABLE events; CREATE TABLE events (global_position bigserial PRIMARY KEY, body text) PARTITION BY RANGE (global_position);
			CREATE TABLE first PARTITION OF events FOR VALUES FROM (0) TO (2); CREATE TABLE third PARTITION OF events FOR VALUES FROM (3) TO (9);
			CREATE TABLE child (LIKE events INCLUDING ALL)`,
			`ALTER TABLE events ATTACH PARTITION child FOR VALUES FROM (2) TO (3)`,
		},
		"attached below": {
			`DROP TABLE events; CREATE TABLE events (global_position bigserial PRIMARY KEY, body text) PARTITION BY RANGE (global_position);
			CREATE TABLE below PARTITION OF events FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (global_position);
			CREATE TABLE first PARTITION OF below FOR VALUES FROM (0) TO (2); CREATE TABLE third PARTITION OF below FOR VALUES FROM (3) TO (9);
			CREATE TABLE child (LIKE events INCLUDING ALL)`,
			`ALTER TABLE below ATTACH PARTITION child FOR VALUES FROM (2) TO (3)`,
		},
	} {
		t.Run(how, func(t *testing.T) {
			pool := newEvents(t)
			_, err := pool.Exec(t.Context(), test.before, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			p, _ := newProber(t, pool, 0)
			insert(t, pool)
			require.EqualValues(t, 1, probe(t, p).Position)
			tx := begin(t, pool)
			exec(t, tx, test.making)
			exec(t, tx, `INSERT INTO child (global_position, body) VALUES (nextval(pg_get_serial_sequence('events', 'global_position')), 'x')`)
			insert(t, pool)
			for range 3 {
				r := probe(t, p)
				assert.EqualValues(t, 1, r.Position, "position 2 is in flight")
				assert.Equal(t, 1, r.Holders)
			}
			require.NoError(t, tx.Commit(t.Context()))
			assert.EqualValues(t, 3, probe(t, p).Position)
		})
	}
}

// A VACUUM, and whoever else locks the table without a transaction ID, has made no child.
func TestALockWithoutATransactionIDHoldsNothingBack(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	probe(t, p)
	dead := begin(t, pool)
	insert(t, dead)
	require.NoError(t, dead.Rollback(t.Context()))
	tx := begin(t, pool)
	exec(t, tx, `LOCK TABLE events IN SHARE UPDATE EXCLUSIVE MODE`)
	insert(t, pool)
	probe(t, p) // which glances
	r := probe(t, p)
	assert.Zero(t, r.Holders)
	assert.EqualValues(t, 2, r.Position)
	exec(t, tx, `SELECT pg_current_xact_id()`)
	exec(t, tx, `SELECT nextval('events_global_position_seq')`)
	insert(t, pool)
	for range 3 {
		r = probe(t, p)
		assert.Equal(t, 1, r.Holders, "it may have made a child")
		assert.EqualValues(t, 2, r.Position, "and have written to it")
	}
}

func TestProbeWithSchemaAndOddNames(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, `CREATE SCHEMA "My ""Schema"`)
	exec(t, pool, `CREATE TABLE "My ""Schema"."Odd.Events" (global_position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`)
	table := pgx.Identifier{`My "Schema`, "Odd.Events"}
	require.NoError(t, Check(t.Context(), pool, table))
	tx := begin(t, pool)
	exec(t, tx, `INSERT INTO `+table.Sanitize()+` DEFAULT VALUES`)
	p := NewProber(dial(t, pool), table, newCheckpoint(0), Options{})
	r := probe(t, p)
	assert.Equal(t, int64(1), r.LastValue)
	assert.Equal(t, 1, r.Holders)
}

func TestProbeRegressed(t *testing.T) {
	pool := newEvents(t)
	p, floor := newProber(t, pool, 0)
	for range 5 {
		insert(t, pool)
	}
	probe(t, p)
	exec(t, pool, `DELETE FROM events WHERE global_position > 3`)
	exec(t, pool, `SELECT setval('events_global_position_seq', 3)`)

	_, err := p.Probe(t.Context())
	var regressed *RegressionError
	require.ErrorAs(t, err, &regressed)
	assert.Equal(t, RegressionError{Reached: 5, LastValue: 3}, *regressed)

	floor.at.Store(4)
	for range 2 {
		_, err = p.Probe(t.Context())
		require.ErrorAs(t, err, &regressed, "a checkpoint is ahead: this needs a person")
		assert.Equal(t, RegressionError{Reached: 4, LastValue: 3, Floor: true}, *regressed)
	}

	floor.at.Store(3)
	r := probe(t, p)
	assert.Equal(t, int64(3), r.Position)
	assert.Greater(t, r.Epoch, uint64(1))
}

func TestProbeStartsAfreshAfterAnError(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	probe(t, p)
	exec(t, pool, `ALTER TABLE events RENAME TO events_old`)
	exec(t, pool, `CREATE TABLE events (global_position bigint PRIMARY KEY DEFAULT nextval('events_global_position_seq'))`)
	tx := begin(t, pool)
	exec(t, tx, `INSERT INTO events DEFAULT VALUES`)
	r := probe(t, p)
	assert.Equal(t, 1, r.Holders, "the lock on the new table is found")
	assert.Equal(t, uint64(2), r.Epoch)
}

func TestProbeReportsTheFloorsError(t *testing.T) {
	broken := errors.New("no checkpoints")
	p := NewProber(newEvents(t), events, InMemory(func(context.Context) (int64, error) { return 0, broken }), Options{})
	_, err := p.Probe(t.Context())
	require.ErrorIs(t, err, broken)
	assert.ErrorContains(t, err, "highest checkpoint")
}

func TestProbeOverAPool(t *testing.T) {
	pool := newEvents(t)
	p := NewProber(pool, events, newCheckpoint(0), Options{})
	assert.Equal(t, uint64(1), probe(t, p).Epoch)
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	looks(p)
	p.server.statistics = nil // which prove the same
	r := probe(t, p)
	assert.Equal(t, uint64(1), r.Epoch, "the session that is held has been there since before the first probe")
	held.Release()
	assert.Equal(t, uint64(1), probe(t, p).Epoch)
}

// A role that sees its own sessions only can't tell a server on which all of them are new from one that has crashed.
func TestProbeOverNewSessions(t *testing.T) {
	_, owner := ownServer(t)
	exec(t, owner, `CREATE ROLE projector LOGIN`)
	exec(t, owner, `GRANT SELECT ON events, events_global_position_seq TO projector`)
	config := owner.Config()
	config.ConnConfig.User = "projector"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	p := NewProber(pool, events, newCheckpoint(0), Options{})
	assert.Equal(t, uint64(1), probe(t, p).Epoch)

	reset := func(left int64) {
		pool.Reset()
		require.Eventually(t, func() bool {
			var sessions int64
			err := owner.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE usename = 'projector'`).Scan(&sessions)
			return err == nil && sessions == left
		}, 10*time.Second, time.Millisecond)
	}
	if !asksForSessions(t, pool) {
		reset(0)
		assert.Equal(t, uint64(1), probe(t, p).Epoch, "the statistics prove it")
	}
	p.server.statistics = nil
	reset(0)
	assert.Equal(t, uint64(2), probe(t, p).Epoch, "the new session proves nothing, and there is no other")
	dial(t, pool)
	probe(t, p)
	p.server.statistics = nil
	reset(1)
	assert.Equal(t, uint64(2), probe(t, p).Epoch, "the one outside the pool does")
}

// asksForSessions says whether probes ask when their sessions began, as on version 14.
func asksForSessions(t *testing.T, pool *pgxpool.Pool) (asks bool) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT current_setting('server_version_num')::int < 150000`).Scan(&asks))
	return asks
}

// Where connections go to more than one server, one that is gone for the others may still say how old its sessions are.
func TestASessionElsewhereProvesNothing(t *testing.T) {
	p, _ := newProber(t, newEvents(t), 0)
	probe(t, p)
	later := p.server.now.Add(time.Hour)
	replaced := server{started: later, now: later, session: &later}
	same, err := p.sameRun(t.Context(), replaced)
	require.NoError(t, err)
	assert.False(t, same, "the look was at another server than the sessions")
	replaced.started = p.server.started
	same, err = p.sameRun(t.Context(), replaced)
	require.NoError(t, err)
	assert.True(t, same)
}

func TestServerFollows(t *testing.T) {
	at := func(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }
	session := func(second int) *time.Time { s := at(second); return &s }
	earlier := server{started: at(0), now: at(30), session: session(10)}
	tests := map[string]struct {
		now  server
		want bool
	}{
		"the same session":                  {server{at(0), at(31), session(10), nil}, true},
		"another old session":               {server{at(0), at(31), session(30), nil}, true},
		"a session from after":              {server{at(0), at(32), session(31), nil}, false},
		"a session that may not be seen":    {server{at(0), at(31), nil, nil}, false},
		"another server with an old clock":  {server{at(1), at(31), session(10), nil}, false},
		"the postmaster started afresh too": {server{at(31), at(33), session(32), nil}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tt.want, tt.now.follows(earlier)) })
	}
}

// What one prober does for all, a prober that hears it does less often.
func TestWhoFollowsAnotherProberDoesLess(t *testing.T) {
	pool := newEvents(t)
	p, known := newProber(t, pool, 0)
	first := insert(t, pool)
	probe(t, p)
	require.Equal(t, first, known.stored.Load())

	some := time.Now().Add(-2 * defaultExtentEvery)
	p.store.last, p.extent.read = some, some
	p.opts.RegressionsEvery = defaultExtentEvery
	p.Follow(true)
	last := insert(t, pool)
	require.Equal(t, last, probe(t, p).Position)
	assert.Equal(t, first, known.stored.Load(), "the other stores the horizon")
	assert.Equal(t, some, p.extent.read)

	p.Follow(false)
	last = insert(t, pool)
	require.Equal(t, last, probe(t, p).Position)
	assert.Equal(t, last, known.stored.Load())
	assert.True(t, p.extent.read.After(some))
}
