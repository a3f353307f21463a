package horizon

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// prepareInsert leaves one event in a prepared transaction, calling seen while
// the transaction is still open.
func prepareInsert(t *testing.T, pool *pgxpool.Pool, gid string, seen func()) (position int64) {
	t.Helper()
	conn := dial(t, pool)
	exec(t, conn, `BEGIN`)
	position = insert(t, conn)
	seen()
	exec(t, conn, `PREPARE TRANSACTION '`+gid+`'`)
	t.Cleanup(func() { _, _ = pool.Exec(context.Background(), `ROLLBACK PREPARED '`+gid+`'`) })
	return position
}

func TestPreparedTransactionHoldsTheHorizonBack(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	insert(t, pool)
	probe(t, p)
	tests := map[string]func(){
		"seen before it was prepared": func() { assert.Equal(t, 1, probe(t, p).Holders) },
		"seen only when prepared":     func() {},
	}
	for name, whileOpen := range tests {
		t.Run(name, func(t *testing.T) {
			before := probe(t, p).LastValue
			position := prepareInsert(t, pool, t.Name(), whileOpen)
			insert(t, pool)
			var r Reading
			for range 3 {
				r = probe(t, p)
				assert.Equal(t, before, r.Position)
				assert.Less(t, r.Position, position)
			}
			require.NotNil(t, r.Blocker)
			assert.Equal(t, t.Name(), r.Blocker.PreparedGID)
			assert.Zero(t, r.Blocker.PID)
			assert.Positive(t, r.Blocker.Age)

			exec(t, pool, `COMMIT PREPARED '`+t.Name()+`'`)
			r = probe(t, p)
			assert.Equal(t, r.LastValue, r.Position)
			assert.Nil(t, r.Blocker)
		})
	}
}

// ownServer starts a server of the test's own with an events table.
func ownServer(t *testing.T) (*pgtest.Cluster, *pgxpool.Pool) {
	t.Helper()
	cluster := pgtest.Own(t, pgtest.Options{})
	return cluster, eventsOf(t, cluster)
}

// eventsOf creates a database with an events table on a server.
func eventsOf(t *testing.T, cluster *pgtest.Cluster) *pgxpool.Pool {
	t.Helper()
	dsn, err := cluster.CreateDatabase(t.Context(), "horizon")
	require.NoError(t, err)
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	exec(t, pool, `CREATE TABLE events (global_position bigserial PRIMARY KEY, body text)`)
	return pool
}

func TestPreparedTransactionSurvivesARestart(t *testing.T) {
	for name, mode := range map[string]pgtest.StopMode{"fast": pgtest.Fast, "immediate": pgtest.Immediate} {
		t.Run(name, func(t *testing.T) {
			cluster, pool := ownServer(t)
			floor := newCheckpoint(0)
			p := NewProber(pool, events, floor, Options{BlockerAfter: time.Nanosecond})
			insert(t, pool)
			floor.at.Store(probe(t, p).Position)
			position := prepareInsert(t, pool, "outstanding", func() { probe(t, p) })
			insert(t, pool)
			assert.Less(t, probe(t, p).Position, position)

			require.NoError(t, cluster.Restart(mode))
			r := probeUntilItWorks(t, p)
			assert.Less(t, r.Position, position, "the prepared transaction holds its locks again")
			assert.Equal(t, uint64(2), r.Epoch)
			r = probe(t, p)
			require.NotNil(t, r.Blocker)
			assert.Equal(t, "outstanding", r.Blocker.PreparedGID)

			exec(t, pool, `COMMIT PREPARED 'outstanding'`)
			r = probe(t, p)
			assert.Equal(t, r.LastValue, r.Position)
		})
	}
}

// After a crash the sequence may give numbers again that it gave before, and
// transactions may have old names. The prober must not compare with what it saw.
func TestACrashEndsTheEpoch(t *testing.T) {
	for name, crash := range map[string]func(*testing.T, *pgtest.Cluster, *pgxpool.Pool){
		"of the server": func(t *testing.T, cluster *pgtest.Cluster, _ *pgxpool.Pool) {
			require.NoError(t, cluster.Restart(pgtest.Immediate))
		},
		"of one session": func(t *testing.T, _ *pgtest.Cluster, pool *pgxpool.Pool) {
			// The server ends all processes but the first, and starts others.
			victim := dial(t, pool)
			var before time.Time
			require.NoError(t, victim.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&before))
			require.NoError(t, syscall.Kill(int(victim.PgConn().PID()), syscall.SIGKILL))
			require.Eventually(t, func() bool {
				var again bool
				err := pool.QueryRow(t.Context(), `SELECT min(backend_start) > $1 FROM pg_stat_activity`, before).Scan(&again)
				return err == nil && again
			}, 30*time.Second, time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) { testCrash(t, crash) })
	}
}

func testCrash(t *testing.T, crash func(*testing.T, *pgtest.Cluster, *pgxpool.Pool)) {
	cluster, pool := ownServer(t)
	floor := newCheckpoint(0)
	p := NewProber(pool, events, floor, Options{HoleAfter: time.Nanosecond})
	insert(t, pool)
	floor.at.Store(probe(t, p).Position)
	ahead := begin(t, pool)
	for range 40 { // beyond what one record of the log covers, and never flushed
		insert(t, ahead)
	}
	require.NoError(t, ahead.Rollback(t.Context()))
	probe(t, p)
	before := probe(t, p) // which looks at the locks, since the events are still missing
	assert.Equal(t, int64(41), before.Position)

	crash(t, cluster, pool)
	writer := begin(t, dial(t, pool))
	position := insert(t, writer)
	if position > before.LastValue {
		t.Skipf("the log was not cut short: position %d follows %d", position, before.LastValue)
	}
	other := dial(t, pool)
	for insert(t, other) <= before.LastValue {
	}

	pool.Reset() // as a pool's health check does, so that no error tells of the crash
	after := probe(t, p)
	assert.Less(t, after.Position, position, "it is in flight")
	assert.Greater(t, after.LastValue, before.LastValue, "the sequence is past where it was, so it shows nothing")
	assert.Greater(t, after.Epoch, before.Epoch)
}

// probeUntilItWorks probes until the pool has replaced its dead connections.
func probeUntilItWorks(t *testing.T, p *Prober) (r Reading) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		r, err = p.Probe(t.Context())
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)
	return r
}
