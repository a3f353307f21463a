package pgcoord

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
)

// latestRegression is the latest regression, which both ways to read it must agree on.
func latestRegression(t *testing.T, r Regressions) horizon.Regression {
	t.Helper()
	latest, _, err := r.Latest(t.Context())
	require.NoError(t, err)
	known, err := r.Known(t.Context())
	require.NoError(t, err)
	require.Equal(t, latest, known.Regression)
	return latest
}

// checkRegressions takes one down and settles it; highest is the highest checkpoint.
func checkRegressions(t *testing.T, r Regressions, highest int64) {
	t.Helper()
	known, err := r.Known(t.Context())
	require.NoError(t, err)
	require.Equal(t, highest, known.Checkpoint)
	require.Zero(t, known.Regression)
	require.NoError(t, r.Regressed(t.Context(), 1, highest-1, 1))
	require.Equal(t, horizon.Regression{Number: 1, Low: highest - 1}, latestRegression(t, r))
	require.NoError(t, r.Settle(t.Context(), latestRegression(t, r)))
	require.Equal(t, horizon.Regression{Number: 1, Low: highest - 1, Settled: true}, latestRegression(t, r))
}

func TestRegressionsAreTakenDownOnce(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 3, 8)
	r := open(t, o.pool, "another").Regressions(o.pool)
	require.NoError(t, r.Regressed(t.Context(), 1, 8, 1))
	require.Zero(t, latestRegression(t, r), "no checkpoint is above")

	require.NoError(t, r.Regressed(t.Context(), 1, 6, 1))
	require.NoError(t, r.Regressed(t.Context(), 1, 5, 1), "another saw it lower")
	require.NoError(t, r.Regressed(t.Context(), 1, 7, 1))
	assert.Equal(t, horizon.Regression{Number: 1, Low: 5}, latestRegression(t, r))
	assert.Equal(t, int64(8), value[int64](t, o.pool, `SELECT checkpoint FROM orchestrator_sequence_regressions WHERE events_table = 'public.events'`))

	require.NoError(t, r.Settle(t.Context(), horizon.Regression{Number: 1, Low: 6}))
	assert.Equal(t, horizon.Regression{Number: 1, Low: 5}, latestRegression(t, r), "who settles it does not know how low the sequence stood")
	require.NoError(t, r.Settle(t.Context(), horizon.Regression{Number: 1, Low: 5}))
	settled := horizon.Regression{Number: 1, Low: 5, Settled: true}
	assert.Equal(t, settled, latestRegression(t, r))

	o.advance(t, pieces, 20)
	require.NoError(t, r.Regressed(t.Context(), 1, 4, 1))
	assert.Equal(t, settled, latestRegression(t, r), "it is late: the checkpoint is where it should be")
	require.NoError(t, r.Regressed(t.Context(), 2, 4, 1))
	assert.Equal(t, horizon.Regression{Number: 2, Low: 4}, latestRegression(t, r))
	assert.Zero(t, latestRegression(t, func() Regressions {
		exec(t, o.pool, `CREATE TABLE archive ()`)
		s, err := Open(t.Context(), o.pool, "", "main", []string{"archive"})
		require.NoError(t, err)
		return s.Regressions(o.pool)
	}()), "of another events table")
}

// storedHorizon is the stored horizon.
func storedHorizon(t *testing.T, r Regressions) horizon.Stored {
	t.Helper()
	_, stored, err := r.Latest(t.Context())
	require.NoError(t, err)
	return stored
}

func TestTheHorizonIsStoredByWhoeverKnowsIt(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	r := open(t, pool, "main").Regressions(pool)
	require.Equal(t, horizon.Stored{Term: 1}, storedHorizon(t, r))
	run := horizon.Run{
		Started: value[time.Time](t, pool, `SELECT pg_postmaster_start_time()`),
		At:      value[time.Time](t, pool, `SELECT clock_timestamp()`),
	}
	store := func(s horizon.Stored, run horizon.Run) bool {
		done, err := r.Store(t.Context(), s, run)
		require.NoError(t, err)
		return done
	}
	before := value[time.Time](t, pool, `SELECT backend_start - interval '1 second' FROM pg_stat_activity WHERE pid = pg_backend_pid()`)
	last := horizon.Event{Position: 9, ID: "0198a1b2-0000-7000-8000-000000000001"}
	first := horizon.Stored{Term: 1, Position: 10, Sequence: 7, Filenode: 8, Table: 3, Event: last}
	assert.False(t, store(first, horizon.Run{Started: run.Started.Add(-time.Hour), At: run.At}), "another server")
	assert.False(t, store(first, horizon.Run{Started: run.Started, At: before}), "the server may have crashed since")
	stale := first
	stale.Term = 2
	assert.False(t, store(stale, run), "nothing is stored in that term")
	require.True(t, store(first, run))
	first.Fresh = true
	require.Equal(t, first, storedHorizon(t, r))
	next := first
	next.Position = 20
	assert.False(t, store(next, run), "it was stored just now")
	age := func() {
		exec(t, pool, `UPDATE orchestrator_horizons SET updated_at = updated_at - interval '2 seconds'`)
	}
	age()
	lower := first
	lower.Position = 9
	assert.False(t, store(lower, run))
	assert.False(t, store(stale, run), "of another term")
	other := next
	other.Filenode = 9
	assert.False(t, store(other, run), "of another sequence")
	other = next
	other.Table = 4
	assert.False(t, store(other, run), "of another table")
	assert.False(t, store(next, horizon.Run{Started: run.Started, At: before}))
	reset := value[time.Time](t, pool, `SELECT pg_stat_get_bgwriter_stat_reset_time()`)
	wrong := reset.Add(-time.Second)
	assert.False(t, store(next, horizon.Run{Started: run.Started, At: before, Statistics: &wrong}), "it has recovered since")
	assert.True(t, store(next, horizon.Run{Started: run.Started, At: before, Statistics: &reset}), "it has not")

	require.NoError(t, r.Regressed(t.Context(), 1, 20, 1))
	assert.Equal(t, int64(20), storedHorizon(t, r).Position, "the sequence is not below")
	require.NoError(t, r.Regressed(t.Context(), 1, 5, 2))
	assert.Equal(t, int64(20), storedHorizon(t, r).Position, "of another term")
	require.NoError(t, r.Regressed(t.Context(), 1, 5, 1))
	assert.Equal(t, int64(2), storedHorizon(t, r).Term)
	assert.Zero(t, storedHorizon(t, r).Position)
	assert.Zero(t, storedHorizon(t, r).Event, "its position may be given again")
	age()
	next.Position = 30
	assert.False(t, store(next, run), "what was found before it went back")
	next.Term = 2
	next.Filenode = 10
	assert.True(t, store(next, run), "nothing is stored of another sequence")
	require.NoError(t, r.Void(t.Context(), horizon.Stored{Term: 2, Sequence: 7, Filenode: 11, Table: 5}))
	require.NoError(t, r.Void(t.Context(), horizon.Stored{Term: 2, Sequence: 7, Filenode: 12}))
	void := storedHorizon(t, r)
	void.Fresh = false
	assert.Equal(t, horizon.Stored{Term: 3, Sequence: 7, Filenode: 11, Table: 5, Event: last}, void)
}

// Somebody has locked the row by hand. That must not keep a probe waiting.
func TestStoringTheHorizonWaitsForNobody(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	r := open(t, pool, "main").Regressions(pool)
	exec(t, pool, `INSERT INTO orchestrator_horizons (events_table, term, position, sequence, filenode, updated_at) VALUES ('public.events', 1, 5, 7, 8, now() - interval '1 hour')`)
	run := horizon.Run{Started: value[time.Time](t, pool, `SELECT pg_postmaster_start_time()`), At: time.Now().Add(time.Hour)}
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `SELECT FROM orchestrator_horizons FOR UPDATE`)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done, err := r.Store(ctx, horizon.Stored{Term: 1, Position: 6, Sequence: 7, Filenode: 8}, run)
	require.NoError(t, err)
	assert.False(t, done)
	require.NoError(t, tx.Rollback(t.Context()))
}
