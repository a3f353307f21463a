package pgcoord

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// A worker runs its projections if its last heartbeat is not old. After an outage it must not have been old when that began.
func TestAnOutageExcusesOldHeartbeats(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 hour'`)
	for outage, runs := range map[time.Duration]bool{0: false, 59 * time.Minute: false, time.Hour - 20*time.Second: true, 2 * time.Hour: true} {
		answer, err := o.Standings(t.Context(), o.pool, 30*time.Second, waiting.Question{Projections: []string{"orders"}, Outage: outage})
		require.NoError(t, err)
		assert.Equal(t, runs, answer.Standings["orders"].Running, outage)
	}
}

// After a restart of the server, which the caller may not have seen, a worker has its time to send a heartbeat again.
func TestARestartExcusesOldHeartbeats(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	o := newOwner(t)
	exec(t, o.pool, `UPDATE orchestrator_workers SET stale_timeout = NULL`)
	exec(t, o.pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '200 years'`)
	runs := func(stale time.Duration, restarts bool) bool {
		answer, err := o.Standings(t.Context(), o.pool, stale, waiting.Question{Projections: []string{"orders"}, Restarts: restarts})
		require.NoError(t, err)
		return answer.Standings["orders"].Running
	}
	assert.True(t, runs(100*year, true), "the server has started since")
	assert.False(t, runs(100*year, false))
	assert.False(t, runs(time.Millisecond, true), "its time is over")
}

// A worker with a long heartbeat interval is judged by its own timeout.
func TestAWorkerIsJudgedByItsOwnTimeout(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '40 s'`)
	for timeout, runs := range map[string]bool{"5 minutes": true, "10 s": false} {
		exec(t, o.pool, `UPDATE orchestrator_workers SET stale_timeout = $1::text::interval`, timeout)
		answer, err := o.Standings(t.Context(), o.pool, 30*time.Second, waiting.Question{Projections: []string{"orders"}})
		require.NoError(t, err)
		assert.Equal(t, runs, answer.Standings["orders"].Running, timeout)
	}
}
