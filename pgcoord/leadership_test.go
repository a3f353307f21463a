package pgcoord

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A leader whose handlers do not return when it is to leave must not keep the
// others from being led.
func TestStoppingGivesUpLeadership(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	one, other := join(t, s, pool, "orders"), join(t, s, pool, "orders")
	leading, following := dial(t, pool), dial(t, pool)
	require.True(t, observe(t, s, leading, one, true).Leading)
	for _, state := range []replicaset.WorkerState{replicaset.Ready, replicaset.Running} {
		changed, err := s.SetState(t.Context(), leading, one, state, 1)
		require.NoError(t, err)
		require.True(t, changed)
		require.False(t, observe(t, s, following, other, true).Leading, "%s is no reason to give up", state)
	}
	for range 2 { // the second time there is nothing to give up
		changed, err := s.SetState(t.Context(), leading, one, replicaset.Stopping, 1)
		require.NoError(t, err)
		require.True(t, changed)
	}
	assert.True(t, observe(t, s, following, other, true).Leading)
	changed, err := s.SetState(t.Context(), leading, one, replicaset.Stopping, 1)
	require.NoError(t, err)
	require.True(t, changed)
	assert.True(t, observe(t, s, following, other, true).Leading, "somebody else's leadership is not given up")
}
