package pgcoord

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A projection comes from a replica set whose generations have higher numbers, between the preparation and the activation of one here.
// Its fencing tokens do not go back.
func TestActivationTakesANumberAboveThoseOfItsRows(t *testing.T) {
	t.Parallel()
	for name, had := range map[string]int64{"higher": 7, "the same": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			activationTakesANumberAbove(t, had)
		})
	}
}

func activationTakesANumberAbove(t *testing.T, had int64) {
	t.Helper()
	s, pool := newStore(t)
	w := join(t, s, pool, "orders", "letters")
	number := prepare(t, s, pool, 0)
	setState(t, s, pool, w, replicaset.Ready, number)
	exec(t, pool, `UPDATE orchestrator_checkpoints SET generation = $1 WHERE projection = 'orders'`, had)
	activated, err := isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: number, By: uuid.New()}, nil))
	require.NoError(t, err)
	assert.False(t, activated)
	v, err := s.Observe(t.Context(), pool, w, false)
	require.NoError(t, err)
	assert.Equal(t, had+1, v.Generation.Number)
	assert.Equal(t, replicaset.Preparing, v.Generation.State)
	assert.Equal(t, "a test", v.Generation.Reason)

	activated, err = isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: had + 1, By: uuid.New()}, nil))
	require.NoError(t, err)
	assert.False(t, activated, "nobody is ready for it")
	setState(t, s, pool, w, replicaset.Ready, had+1)
	activated, err = isActive(s.Activate(t.Context(), pool, replicaset.Activation{Number: had + 1, By: uuid.New()}, nil))
	require.NoError(t, err)
	assert.True(t, activated)
	assert.Equal(t, 2, value[int](t, pool, `SELECT count(*) FROM orchestrator_checkpoints WHERE generation = $1 AND worker_id IS NOT NULL`, had+1))
	assert.Equal(t, fmt.Sprintf("1,%d", had+1), value[string](t, pool, `SELECT string_agg(number::text, ',' ORDER BY number) FROM orchestrator_generations`))
}
