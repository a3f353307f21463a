package horizon

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// role makes a role that may read the events and returns a pool of it. Roles belong to the server, so it must be the test's own.
func role(t *testing.T, owner *pgxpool.Pool, name, options string) *pgxpool.Pool {
	t.Helper()
	exec(t, owner, `CREATE ROLE `+name+` LOGIN `+options)
	exec(t, owner, `GRANT SELECT ON events, events_global_position_seq TO `+name)
	config := owner.Config()
	config.ConnConfig.User = name
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Some of the pool's connections lead to a standby that has not replayed what the primary has done.
func TestALaggingStandbyInThePool(t *testing.T) {
	primary, owner := ownServer(t)
	for range 5 {
		insert(t, owner)
	}
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Close()) })
	replica, err := pgxpool.New(t.Context(), standby.DSN("horizon"))
	require.NoError(t, err)
	t.Cleanup(replica.Close)
	exec(t, replica, `SELECT pg_wal_replay_pause()`)

	config := owner.Config()
	var dialled, toStandby atomic.Int64
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if dialled.Add(1)%2 == 0 {
			toStandby.Add(1)
			to := replica.Config().ConnConfig
			c.Host, c.Port = to.Host, to.Port
		}
		return nil
	}
	config.MaxConns = 2
	config.MaxConnLifetime = 300 * time.Millisecond
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	floor := newCheckpoint(0)
	p := NewProber(dbguard.New(pool), events, floor, Options{RegressionsEvery: time.Nanosecond})
	deadline := time.Now().Add(60 * time.Second)
	for reached := int64(0); toStandby.Load() < 5 || reached < 20; {
		require.True(t, time.Now().Before(deadline), "%d connections to the standby", toStandby.Load())
		drawn := insert(t, owner)
		if err := Check(t.Context(), dbguard.New(pool), events); err != nil {
			require.True(t, dbguard.IsStandby(err), "%v", err)
		}
		r, err := p.Probe(t.Context())
		if err != nil {
			require.True(t, dbguard.IsStandby(err), "%v", err)
			continue
		}
		assert.Equal(t, drawn, r.Position, "the standby stands at 5")
		reached = r.Position
		floor.at.Store(reached)
	}
	regression, _, err := floor.Latest(t.Context())
	require.NoError(t, err)
	assert.Zero(t, regression, "no regression was seen")
}

func TestWhatAHandlerLeavesBehindMisleadsNobody(t *testing.T) {
	pool := newEvents(t)
	insert(t, pool)
	conn := dial(t, pool)
	p := NewProber(conn, events, newCheckpoint(0), Options{RegressionsEvery: time.Nanosecond})
	probe(t, p)
	exec(t, pool, `CREATE SCHEMA other`)
	exec(t, pool, `CREATE TABLE other.events (global_position bigserial PRIMARY KEY, body text)`)
	exec(t, pool, `CREATE FUNCTION other.pg_sequence_last_value(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'`)
	exec(t, pool, `CREATE VIEW other.pg_locks AS SELECT * FROM pg_catalog.pg_locks WHERE false`)
	exec(t, conn, `CREATE TEMPORARY TABLE events (global_position bigserial PRIMARY KEY, body text)`)
	exec(t, conn, `SET search_path = other, pg_catalog`)
	tx := begin(t, dial(t, pool))
	position := insert(t, tx)
	insert(t, pool)
	for range 2 {
		r := probe(t, p)
		assert.Equal(t, position-1, r.Position)
		assert.Equal(t, position+1, r.LastValue)
		p.tracker = nil // a start looks for the table again
	}
	exec(t, conn, `SET search_path = public`)
	require.NoError(t, Check(t.Context(), conn, events), "the temporary table is not meant")
}

func TestPreconditionsThatChange(t *testing.T) {
	_, owner := ownServer(t)
	pool := role(t, owner, "app", "")
	p := NewProber(pool, events, newCheckpoint(0), Options{RegressionsEvery: time.Nanosecond})
	sequence := `ALTER SEQUENCE events_global_position_seq `
	tests := []struct {
		reason       Reason
		break_, mend string
	}{
		{ReasonSequence, sequence + "CACHE 20", sequence + "CACHE 1"},
		{ReasonSequence, sequence + "CYCLE", sequence + "NO CYCLE"},
		{ReasonSequence, sequence + "INCREMENT -1 MAXVALUE 9000", sequence + "INCREMENT 1"},
		{ReasonSequence, sequence + "MINVALUE 0", sequence + "MINVALUE 1"},
		{ReasonSequence, `ALTER TABLE events ALTER global_position DROP DEFAULT`, `ALTER TABLE events ALTER global_position SET DEFAULT nextval('events_global_position_seq')`},
		{ReasonPrivilege, `REVOKE SELECT ON events_global_position_seq FROM app`, `GRANT SELECT ON events_global_position_seq TO app`},
		{ReasonPrivilege, `REVOKE SELECT ON events FROM app`, `GRANT SELECT ON events TO app`},
		{ReasonRLS, `ALTER TABLE events ENABLE ROW LEVEL SECURITY`, `ALTER TABLE events DISABLE ROW LEVEL SECURITY`},
		{ReasonRLS, `ALTER TABLE events ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON events USING (false)`, `ALTER TABLE events DISABLE ROW LEVEL SECURITY; DROP POLICY own ON events`},
		{ReasonTable, `ALTER TABLE events RENAME TO moved`, `ALTER TABLE moved RENAME TO events`},
		{ReasonTable, `ALTER TABLE events DROP CONSTRAINT events_pkey`, `ALTER TABLE events ADD PRIMARY KEY (global_position)`},
		{ReasonTable, `ALTER TABLE events ADD aggregate_id text`, `ALTER TABLE events DROP aggregate_id`},
		{ReasonPosition, `INSERT INTO events VALUES (0, 'x')`, `DELETE FROM events WHERE global_position = 0`},
	}
	run := func(sql string) {
		_, err := owner.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	for _, quiet := range []bool{true, false} {
		for _, tt := range tests {
			insert(t, owner)
			before := probe(t, p)
			run(tt.break_)
			if !quiet && tt.mend != sequence+"INCREMENT 1" { // which would go back
				run(`SELECT nextval('events_global_position_seq')`)
			}
			if tt.reason == ReasonPosition || tt.reason == ReasonTable {
				p.extent.read = time.Time{}
			}
			for range 2 {
				_, err := p.Probe(t.Context())
				assert.Equal(t, []Reason{tt.reason}, ReasonsOf(err), "%s: %v", tt.break_, err)
			}
			assert.Equal(t, []Reason{tt.reason}, ReasonsOf(Check(t.Context(), pool, events)), tt.break_)
			run(tt.mend)
			after := probe(t, p)
			assert.Greater(t, after.Epoch, before.Epoch, tt.mend)
			assert.Equal(t, after.LastValue, after.Position, tt.mend)
		}
	}
}

// A subscription writes events at positions that the sequence does not give. That the sequence was advanced in time does not help.
func TestASubscriptionWritesTheEvents(t *testing.T) {
	pgtest.SkipBehindPooler(t, "it has servers of its own")
	for _, table := range []string{
		`CREATE TABLE events (global_position bigserial PRIMARY KEY, name text)`,
		`CREATE TABLE events (global_position bigserial PRIMARY KEY, name text) PARTITION BY RANGE (global_position);
			CREATE TABLE low PARTITION OF events FOR VALUES FROM (1) TO (1000)`,
	} {
		var pools []*pgxpool.Pool
		var dsn string
		for range 2 {
			server := pgtest.Own(t, pgtest.Options{Settings: map[string]string{"wal_level": "logical"}})
			var err error
			dsn, err = server.CreateDatabase(t.Context(), "app")
			require.NoError(t, err)
			pool, err := pgxpool.New(t.Context(), dsn)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			_, err = pool.Exec(t.Context(), table, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			pools = append(pools, pool)
		}
		subscriber, publisher := pools[0], pools[1]
		exec(t, publisher, `CREATE PUBLICATION events FOR TABLE events`)
		exec(t, subscriber, `SELECT setval('events_global_position_seq', 500)`)
		require.NoError(t, Check(t.Context(), subscriber, events))
		exec(t, subscriber, `CREATE SUBSCRIPTION orders CONNECTION '`+dsn+`' PUBLICATION events`)
		err := Check(t.Context(), subscriber, events)
		require.Equal(t, []Reason{ReasonTable}, ReasonsOf(err), "%v", err)
		require.ErrorContains(t, err, `ALTER SUBSCRIPTION "orders" DISABLE`)
		exec(t, subscriber, `ALTER SUBSCRIPTION orders DISABLE`)
		require.NoError(t, Check(t.Context(), subscriber, events))
		exec(t, subscriber, `DROP SUBSCRIPTION orders`)
		require.NoError(t, Check(t.Context(), publisher, events))
	}
}

// CACHE 20 and back to 1 between two probes: nothing is held any more, but what was known is read again.
func TestACacheThatCameAndWent(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	insert(t, pool)
	epoch := probe(t, p).Epoch
	exec(t, pool, `ALTER SEQUENCE events_global_position_seq CACHE 20`)
	session := dial(t, pool)
	insert(t, session)
	exec(t, pool, `ALTER SEQUENCE events_global_position_seq CACHE 1`)
	tx := begin(t, session)
	position := insert(t, tx)
	insert(t, pool)
	r := probe(t, p)
	assert.Greater(t, r.Epoch, epoch)
	assert.Less(t, r.Position, position)
}

// On the server from 18 on the last value is null without the right to read it.
func TestALostPrivilegeIsNotAZero(t *testing.T) {
	for _, major := range []int{14, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			owner := eventsOf(t, pgtest.OwnVersion(t, major, pgtest.Options{}))
			pool := role(t, owner, "app", "")
			for range 3 {
				insert(t, owner)
			}
			shared := newCheckpoint(0)
			p := NewProber(pool, events, shared, Options{RegressionsEvery: time.Nanosecond})
			shared.at.Store(probe(t, p).Position)
			for _, draw := range []bool{true, false} {
				exec(t, owner, `REVOKE SELECT ON events_global_position_seq FROM app`)
				if draw {
					insert(t, owner)
				}
				for range 2 {
					_, err := p.Probe(t.Context())
					assert.Equal(t, []Reason{ReasonPrivilege}, ReasonsOf(err), "%v", err)
				}
				exec(t, owner, `GRANT SELECT ON events_global_position_seq TO app`)
				r := probe(t, p)
				assert.Equal(t, int64(4), r.Position)
			}
			latest, _, err := shared.Latest(t.Context())
			require.NoError(t, err)
			assert.Zero(t, latest)
		})
	}
}

// After SET ROLE a session cannot see when it began. The statistics show that the server has not crashed, until it has.
func TestARoleThatCannotSeeItsSession(t *testing.T) {
	test := func(t *testing.T, owner *pgxpool.Pool) {
		exec(t, owner, `CREATE ROLE app_owner`)
		app := role(t, owner, "app", "NOINHERIT")
		exec(t, owner, `GRANT app_owner TO app`)
		exec(t, owner, `ALTER ROLE app SET role = app_owner`)
		exec(t, owner, `GRANT SELECT ON events, events_global_position_seq TO app_owner`)
		p := NewProber(app, events, newCheckpoint(0), Options{RegressionsEvery: time.Nanosecond})
		insert(t, owner)
		epoch := probe(t, p).Epoch
		for range 3 {
			probe(t, p)
			insert(t, owner)
			app.Reset()
			assert.Equal(t, epoch, probe(t, p).Epoch)
		}
		victim := dial(t, owner)
		require.NoError(t, syscall.Kill(int(victim.PgConn().PID()), syscall.SIGKILL))
		require.Eventually(t, func() bool { return victim.Ping(t.Context()) != nil }, 30*time.Second, time.Millisecond)
		app.Reset()
		owner.Reset()
		r := probeUntilItWorks(t, p)
		assert.Greater(t, r.Epoch, epoch)
	}
	t.Run("default", func(t *testing.T) { _, owner := ownServer(t); test(t, owner) })
	for _, major := range []int{14, 17, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) { test(t, eventsOf(t, pgtest.OwnVersion(t, major, pgtest.Options{}))) })
	}
}

// A person enters a checkpoint. It must not be taken for a position at which nothing can appear any more.
func TestACheckpointByHandIsNoFloor(t *testing.T) {
	pool := newEvents(t)
	for range 100 {
		insert(t, pool)
	}
	tx := begin(t, pool)
	position := insert(t, tx)
	insert(t, pool)
	shared := newCheckpoint(102)
	shared.stored.Store(0)
	p := NewProber(dial(t, pool), events, shared, Options{RegressionsEvery: time.Nanosecond})
	for range 3 {
		assert.Less(t, probe(t, p).Position, position)
	}
	require.NoError(t, tx.Commit(t.Context()))
	assert.Equal(t, int64(102), probe(t, p).Position)
}

// What a prober has found holds for its next start, but not after a crash, and not for another sequence.
func TestAProberRemembersItsHorizon(t *testing.T) {
	pool := newEvents(t)
	insert(t, pool)
	rolledBack := begin(t, pool)
	insert(t, rolledBack)
	require.NoError(t, rolledBack.Rollback(t.Context()))
	conn := dial(t, pool)
	p := NewProber(conn, events, InMemory(func(context.Context) (int64, error) { return 0, nil }), Options{RegressionsEvery: time.Nanosecond})
	tx := begin(t, pool)
	assert.Equal(t, int64(3), insert(t, pool))
	assert.Equal(t, int64(3), probe(t, p).Position)
	insert(t, tx)
	p.tracker = nil
	assert.Equal(t, int64(3), probe(t, p).Position, "it was found before")
	p.tracker = nil
	exec(t, pool, `SELECT 1`)
	p.mine.stored.Filenode++
	assert.Equal(t, int64(1), probe(t, p).Position, "up to the hole")
}

func TestTheSequenceIsBehindTheRows(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, `INSERT INTO events SELECT generate_series(1, 100)`)
	p, _ := newProber(t, pool, 0)
	for range 2 {
		_, err := p.Probe(t.Context())
		var behind *BehindError
		require.ErrorAs(t, err, &behind)
		assert.Equal(t, int64(0), behind.LastValue)
		assert.Equal(t, int64(100), behind.Highest)
		assert.Equal(t, []Reason{ReasonBehind}, ReasonsOf(err))
		require.ErrorContains(t, err, `SELECT setval('"public"."events_global_position_seq"', 100)`)
	}
	exec(t, pool, `SELECT setval('"public"."events_global_position_seq"', 100)`)
	assert.Equal(t, int64(100), probe(t, p).Position)

	exec(t, pool, `INSERT INTO events VALUES (200)`)
	probe(t, p)
	p.extent.read = time.Now().Add(-defaultExtentEvery)
	_, err := p.Probe(t.Context())
	assert.Equal(t, []Reason{ReasonBehind}, ReasonsOf(err), "it is compared now and then: %v", err)
}

// Counting reads a bounded number of rows at a time, and less where the server cuts it short.
func TestCountingInSteps(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, fmt.Sprintf(`INSERT INTO events (body) SELECT 'x' FROM generate_series(1, %d)`, countSpan+10))
	tx := begin(t, pool)
	exec(t, tx, `UPDATE events SET body = 'y' WHERE global_position = 1`)
	p, _ := newProber(t, pool, 0)
	assert.Equal(t, int64(countSpan), probe(t, p).Position)
	assert.Equal(t, int64(countSpan+10), probe(t, p).Position)
	insert(t, pool)
	assert.Equal(t, int64(countSpan+11), probe(t, p).Position, "it goes on while the transaction is open")

	q, _ := newProber(t, pool, 0)
	q.db = impatient{q.db}
	reached := int64(0)
	for range 100 {
		reached = max(reached, probe(t, q).Position)
		q.count.next = time.Time{}
	}
	assert.Positive(t, reached)
	assert.LessOrEqual(t, q.count.span, int64(1000))
}

// impatient cuts statements short that count more than 1000 rows.
type impatient struct{ Querier }

func (i impatient) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if strings.Contains(sql, "dense_rank") && args[1].(int64) > 1000 {
		return cut{}
	}
	return i.Querier.QueryRow(ctx, sql, args...)
}

type cut struct{}

func (cut) Scan(...any) error { return &pgconn.PgError{Code: "57014"} }

// hiding hides the sequence's last value from the statement that reads it before the locks.
type hiding struct {
	Querier
	hidden bool
}

func (h *hiding) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	for _, q := range b.QueuedQueries {
		if q.SQL == sqlLastValue {
			q.SQL = `SELECT false, NULL::bigint WHERE $1::oid IS NOT NULL`
			h.hidden = true
		}
	}
	return h.Querier.SendBatch(ctx, b)
}

// The right was taken away and given back, and one statement came in between.
func TestASequenceThatWasHiddenForAMomentIsNoZero(t *testing.T) {
	pool := newEvents(t)
	p, shared := newProber(t, pool, 0)
	insert(t, pool)
	shared.at.Store(probe(t, p).Position)
	last := insert(t, pool)
	looks(p)
	h := &hiding{Querier: p.db}
	db := p.db
	p.db = h
	_, steady, err := p.look(t.Context())
	require.NoError(t, err)
	require.True(t, h.hidden)
	assert.False(t, steady)
	p.db = db
	assert.Equal(t, last, probe(t, p).Position)
}
