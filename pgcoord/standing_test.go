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
