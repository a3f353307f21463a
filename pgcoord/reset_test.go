package pgcoord

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// resetting is an owner of checkpoints, and the request for a reset to position 3.
func resetting(t *testing.T, positions ...int64) (owner, replicaset.Request) {
	t.Helper()
	o := newOwner(t)
	o.cut(t, positions...)
	exec(t, o.pool, `WITH operation AS (
			INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('main', 'orders', 'reset', 'anna', '', 'waiting') RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind, target) SELECT id, 'orders', '', '', '', 'reset', 3 FROM operation`)
	requests, err := o.Requests(t.Context(), dbguard.New(o.pool).InTransactions(), "orders", slot.All(), 10)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	require.EqualValues(t, 3, requests[0].Target)
	return o, requests[0]
}

const positionsNow = `SELECT string_agg(concat_ws(' ', position, revision), ', ' ORDER BY slot_from) FROM orchestrator_checkpoints`

// A reset holds every checkpoint of the projection, and advances none. It answers its request once.
func TestAResetHoldsEverythingAndAnswersOnce(t *testing.T) {
	o, r := resetting(t, 9, 2, 5)
	b, err := o.BeginReset(t.Context(), o.pool, o.fence, r, BatchSettings{})
	require.NoError(t, err)
	t.Cleanup(func() { b.Rollback(context.Background()) })
	assert.Equal(t, 0, value[int](t, o.pool, `SELECT count(*)::int FROM (SELECT FROM orchestrator_checkpoints FOR NO KEY UPDATE SKIP LOCKED) AS unlocked`))
	b.SetBack(r)
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, "3 1, 2 1, 3 1", value[string](t, o.pool, positionsNow))
	assert.Equal(t, "done succeeded 3 9", value[string](t, o.pool, `SELECT concat_ws(' ', o.state, r.state, o.result ->> 'position', o.result ->> 'until')
		FROM orchestrator_operations AS o JOIN orchestrator_requests AS r ON r.operation = o.id`))

	b, err = o.BeginReset(t.Context(), o.pool, o.fence, r, BatchSettings{}) // the answer to its commit was lost
	require.NoError(t, err)
	b.SetBack(r)
	require.ErrorIs(t, b.Commit(t.Context(), 0), ErrMoved)
	assert.Equal(t, "3 1, 2 1, 3 1", value[string](t, o.pool, positionsNow))
}

// Who does not own the request's slot in the generation of all checkpoints begins no reset.
func TestAResetIsFenced(t *testing.T) {
	o, r := resetting(t, 9, 2, 5)
	begins := func(f Fence) error {
		b, err := o.BeginReset(t.Context(), o.pool, f, r, BatchSettings{})
		if err == nil {
			b.Rollback(t.Context())
		}
		return err
	}
	require.NoError(t, begins(o.fence))
	f := o.fence
	f.Worker = uuid.New()
	require.ErrorIs(t, begins(f), ErrMoved)
	f = o.fence
	f.Generation++
	require.ErrorIs(t, begins(f), ErrMoved)
	for what, change := range map[string]string{
		"another generation": `UPDATE orchestrator_checkpoints SET generation = generation + 1 WHERE slot_from = 1000`,
		"another owner":      `UPDATE orchestrator_checkpoints SET worker_id = gen_random_uuid() WHERE slot_from <= $1 AND $1 < slot_to`,
		"a gap":              `DELETE FROM orchestrator_checkpoints WHERE slot_from = 1000`,
	} {
		o.cut(t, 9, 2, 5)
		require.NoError(t, begins(o.fence))
		args := []any{}
		if what == "another owner" {
			args = append(args, r.Slot)
		}
		exec(t, o.pool, change, args...)
		require.ErrorIs(t, begins(o.fence), ErrMoved, what)
	}
}

// A read model that could not be emptied is an answer.
func TestAResetThatFailedIsAnAnswer(t *testing.T) {
	o, r := resetting(t, 9)
	b := o.begin(t, o.pieces(t), 10)
	b.ResetFailed(r, "no")
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, "done failed 3 no", value[string](t, o.pool, `SELECT concat_ws(' ', o.state, r.state, r.failed_position, r.error)
		FROM orchestrator_operations AS o JOIN orchestrator_requests AS r ON r.operation = o.id`))
	assert.Equal(t, "9 0", value[string](t, o.pool, positionsNow))
}
