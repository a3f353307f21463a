package pgcoord

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

// failed is a failure of the event at a position, of an aggregate in the range.
func failed(t testing.TB, o owner, r slot.Range, position int64, says string) Failure {
	t.Helper()
	return Failure{Attempts: 1, Error: says, Event: es.PersistedEvent{
		GlobalPosition: position, EventID: uuid.New(), EventType: "Placed", BoundedContext: "shop", AggregateType: "Order",
		AggregateID: aggregateIn(t, o.pool, r),
	}}
}

// deadLetters counts the rows of which a condition is true.
func deadLetters(t testing.TB, o owner, condition string) int {
	t.Helper()
	return value[int](t, o.pool, `SELECT count(*) FROM orchestrator_dead_letters WHERE `+condition)
}

func TestFailuresAreCountedUntilHandled(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	failure := failed(t, o, slot.All(), 7, "no stock")
	require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failure))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying' AND attempts = 1 AND last_error = 'no stock' AND replica_set = 'main'
		AND event_type = 'Placed' AND bounded_context = 'shop' AND aggregate_type = 'Order' AND generation = 1 AND handled_at IS NULL`))
	failure.Error, failure.Attempts = "still none", 2
	require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failure))
	assert.Equal(t, 1, deadLetters(t, o, `attempts = 2 AND last_error = 'still none' AND last_failed_at >= first_failed_at`))
	retrying, err := o.Retrying(t.Context(), o.pool)
	require.NoError(t, err)
	assert.Equal(t, map[string]int64{"orders": 7}, retrying)

	o.advance(t, whole(0), 6)
	require.NoError(t, o.RecordHandled(t.Context(), o.pool, "orders"))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`), "the checkpoint has not passed it")
	o.advance(t, whole(6), 7)
	require.NoError(t, o.RecordHandled(t.Context(), o.pool, "letters"))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`), "that was another projection")
	require.NoError(t, o.RecordHandled(t.Context(), o.pool, "orders"))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND handled_at IS NOT NULL AND attempts = 2`))
	retrying, err = o.Retrying(t.Context(), o.pool)
	require.NoError(t, err)
	assert.Empty(t, retrying)

	require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failure))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying' AND handled_at IS NULL AND attempts = 3`), "it fails in a replay")
}

// The checkpoint that counts is the one of the event's slot.
func TestHandledIsWhatTheSlotsCheckpointHasPassed(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 10, 20, 10)
	for i, p := range pieces {
		require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failed(t, o, p.Range, int64(15+i), "no")))
	}
	require.NoError(t, o.RecordHandled(t.Context(), o.pool, "orders"))
	assert.Equal(t, 2, deadLetters(t, o, `state = 'retrying' AND global_position IN (15, 17)`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled' AND global_position = 16`))
}

func TestFencedWorkerRecordsNoFailure(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	failure := failed(t, o, slot.All(), 7, "no stock")
	for name, change := range map[string]func(*Fence){
		"another worker":     func(f *Fence) { f.Worker = uuid.New() },
		"another generation": func(f *Fence) { f.Generation++ },
		"another projection": func(f *Fence) { f.Projection = "letters" },
	} {
		f := o.fence
		change(&f)
		require.NoError(t, o.RecordFailure(t.Context(), o.pool, f, failure))
		assert.Zero(t, deadLetters(t, o, `true`), name)
	}
}

func TestFailureMaySayAnything(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failed(t, o, slot.All(), 7, "zero \x00, half \xc3, whole ü")))
	assert.Equal(t, "zero \uFFFD, half \uFFFD, whole ü", value[string](t, o.pool, `SELECT last_error FROM orchestrator_dead_letters`))
}

func TestPruneKeepsWhatIsNeeded(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	left := join(t, o.Store, o.pool, "orders")
	require.NoError(t, o.Stop(t.Context(), o.pool, left, ""))
	buried, later := join(t, o.Store, o.pool, "orders"), join(t, o.Store, o.pool, "orders")
	stranger := open(t, o.pool, "stranger")
	foreign := join(t, stranger, o.pool, "letters")
	require.NoError(t, stranger.Stop(t.Context(), o.pool, foreign, ""))
	for range 3 {
		o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	}
	for position := range int64(3) {
		require.NoError(t, o.RecordFailure(t.Context(), o.pool, o.fence, failed(t, o, slot.All(), position+1, "no")))
	}
	o.advance(t, whole(0), 2)
	require.NoError(t, o.RecordHandled(t.Context(), o.pool, "orders"))
	living := join(t, o.Store, o.pool, "orders")
	bury(t, o.Store, o.pool, buried)
	bury(t, o.Store, o.pool, later)
	bury(t, o.Store, o.pool, o.worker) // it owns checkpoints, though it died
	exec(t, o.pool, `UPDATE orchestrator_workers SET state_changed_at = now() - interval '1 hour' WHERE worker_id = ANY($1::text[]::uuid[])`,
		texts([]uuid.UUID{left, buried, o.worker}))

	require.NoError(t, o.Prune(t.Context(), o.pool, 1))
	assert.Equal(t, "3,4", value[string](t, o.pool, `SELECT string_agg(number::text, ',' ORDER BY number) FROM orchestrator_generations`))
	assert.ElementsMatch(t, texts([]uuid.UUID{later, living, o.worker, foreign}), value[[]string](t, o.pool, `SELECT array_agg(worker_id::text) FROM orchestrator_workers`))
	assert.Equal(t, 4, value[int](t, o.pool, `SELECT count(*) FROM orchestrator_heartbeats`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'handled'`))
	assert.Equal(t, o.fence.Generation+1, prepare(t, o.Store, o.pool, o.fence.Generation), "the numbers go on")
}
