package pgcoord

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// A worker that was killed cannot delete what it has abandoned. Those of a worker that is there stay.
func TestAbandonedHandlersGoWithTheirWorker(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	handlers := []replicaset.AbandonedHandler{{Projection: "orders", Partition: slot.Partition{Total: 1}, Generation: 1, Position: 7, EventID: uuid.New()}}
	here, dead, left := o.worker, join(t, o.Store, o.pool, "orders"), join(t, o.Store, o.pool, "orders")
	for _, w := range []uuid.UUID{here, dead, left} {
		require.NoError(t, o.SetAbandoned(t.Context(), o.pool, w, handlers))
	}
	exec(t, o.pool, `UPDATE orchestrator_workers SET state = 'dead' WHERE worker_id = $1`, dead)
	require.NoError(t, o.Stop(t.Context(), o.pool, left, "left"))
	require.NoError(t, o.PruneAbandoned(t.Context(), o.pool))
	require.NoError(t, o.Prune(t.Context(), o.pool, 100))
	assert.Equal(t, []string{here.String()}, value[[]string](t, o.pool, `SELECT array_agg(worker_id::text) FROM orchestrator_abandoned_handlers`))
	assert.Equal(t, 3, value[int](t, o.pool, `SELECT count(*) FROM orchestrator_workers`), "their rows are kept for longer")
}
