package pgcoord

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
)

// found is a horizon, and the run of the server that db leads to.
func found(t testing.TB, db DB, position int64) (announcement.Horizon, horizon.Run) {
	t.Helper()
	var run horizon.Run
	require.NoError(t, db.QueryRow(t.Context(), `SELECT pg_postmaster_start_time(), clock_timestamp(), pg_stat_get_bgwriter_stat_reset_time()`).
		Scan(&run.Started, &run.At, &run.Statistics))
	return announcement.Horizon{
		Started: run.Started.UnixMicro(), Term: 1, Table: math.MaxUint32, Sequence: 2, Filenode: 3, Position: position,
		News: announcement.News{Known: true, After: position - 2, Slots: []int32{0, 65535}},
	}, run
}

func TestSessionsAnnounceHorizons(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	other := watch(t, pool.Config().ConnConfig, -43)
	await(t, other.connected, "the connection")
	a, run := found(t, pool, 7)
	require.NoError(t, w.Announce(t.Context(), a, run))
	assert.Equal(t, heard{int(w.pid(t)), a}, await(t, other.announced, "the announcement"))

	a.News = announcement.News{}
	require.NoError(t, w.Announce(t.Context(), a, run))
	assert.Equal(t, heard{int(w.pid(t)), a}, await(t, other.announced, "the announcement without news"))
	for _, payload := range []string{"", "1 2 3 4 5", "1 2 3 4 5 x!", "1 2 -2 3 4 5", "1 2 3 4 5 6 7 zzzzz", "1 2 zzzzzzzzz 3 4 5"} {
		exec(t, pool, `SELECT pg_notify($1, $2)`, "the Channel", NotifyHorizon+" "+payload)
	}
	a.Position++
	require.NoError(t, w.Announce(t.Context(), a, run))
	assert.Equal(t, a, await(t, other.announced, "the announcement after what is none").Horizon)
	assert.Empty(t, w.announced, "nobody hears himself")
}

// A server that has crashed may give positions again.
func TestNothingIsAnnouncedAfterACrash(t *testing.T) {
	t.Parallel()
	w, pool := newSession(t)
	other := watch(t, pool.Config().ConnConfig, -43)
	await(t, other.connected, "the connection")
	a, run := found(t, pool, 7)
	crashed := run
	crashed.Started = crashed.Started.Add(-time.Hour)
	require.NoError(t, w.Announce(t.Context(), a, crashed))
	reset := crashed.Started
	crashed = horizon.Run{Started: run.Started, At: reset, Statistics: &reset}
	require.NoError(t, w.Announce(t.Context(), a, crashed))
	a.Position++
	run.Statistics = nil
	require.NoError(t, w.Announce(t.Context(), a, run), "the session was there before")
	assert.Equal(t, a, await(t, other.announced, "the announcement").Horizon)
}
