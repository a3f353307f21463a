package pgcoord

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The generation gives a drained worker nothing, by its name or its id, and its row says so. That contradicts nothing, though nobody handles its projections.
func TestADrainedMemberGetsNothing(t *testing.T) {
	s, pool := newStore(t)
	first := join(t, s, pool, "orders")
	owners := func() (drained, without bool, contradicting []string) {
		v, err := s.Observe(t.Context(), pool, first, false)
		require.NoError(t, err)
		w, ok := v.Worker(first)
		require.True(t, ok)
		return w.Drained, w.WithoutPartitions, v.Contradicting
	}
	assertSeen := func(drained, without bool) {
		t.Helper()
		d, n, contradicting := owners()
		assert.Equal(t, []bool{drained, without}, []bool{d, n})
		assert.Empty(t, contradicting)
	}
	owner := func() string {
		return value[string](t, pool, `SELECT coalesce(worker_id::text, 'nobody') FROM orchestrator_checkpoints`)
	}
	number := generation(t, s, pool, 0, first)
	assert.Equal(t, first.String(), owner())
	assertSeen(false, false)
	for _, called := range []string{first.String(), "a worker"} {
		exec(t, pool, `INSERT INTO orchestrator_drains (replica_set, worker, actor, reason) VALUES ('other', $1, '', ''), ('main', $2, '', '')`, uuid.NewString(), called)
		assertSeen(true, false)
		number = generation(t, s, pool, number, first)
		assert.Equal(t, "nobody", owner())
		assertSeen(true, true)
		assert.Contains(t, value[string](t, pool, `SELECT reason FROM orchestrator_generations WHERE state = 'active'`), `no worker handles "orders"`)
		exec(t, pool, `DELETE FROM orchestrator_drains WHERE replica_set = 'main'`)
		assertSeen(false, true)
		number = generation(t, s, pool, number, first)
		assert.Equal(t, first.String(), owner())
		assertSeen(false, false)
	}
}
