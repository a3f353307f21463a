package pgcoord

import (
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// asked is an owner whose projection has a parked aggregate with letters at 7, 8 and 9, and a request for it.
func asked(t *testing.T, kind string) (owner, replicaset.Request, Letter) {
	t.Helper()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	b := o.begin(t, whole(0), 7)
	b.Park(letter, 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	b = o.begin(t, whole(7), 9)
	b.PutAside(packedEvents(letter, 8, 9))
	require.NoError(t, b.Commit(t.Context(), 9))
	requested(t, o, letter, kind)
	requests, err := o.Requests(t.Context(), dbguard.New(o.pool).InTransactions(), "orders", slot.All(), 10)
	require.NoError(t, err)
	require.Len(t, requests, 1)
	want := replicaset.Request{Operation: 1, Projection: "orders", Slot: requests[0].Slot, Kind: kind, Aggregate: replicaset.Aggregate{
		BoundedContext: letter.Event.BoundedContext, Type: letter.Event.AggregateType, ID: letter.Event.AggregateID,
	}}
	require.Equal(t, want, requests[0])
	require.Equal(t, value[int](t, o.pool, `SELECT (hashtextextended($1, 0) & 65535)::int`, letter.Event.AggregateID), requests[0].Slot)
	for slots, n := range map[slot.Range]int{{From: want.Slot, To: want.Slot + 1}: 1, {From: 0, To: want.Slot}: 0, {From: want.Slot + 1, To: slot.Count}: 0} {
		some, err := o.Requests(t.Context(), dbguard.New(o.pool).InTransactions(), "orders", slots, 10)
		require.NoError(t, err)
		require.Len(t, some, n)
	}
	return o, requests[0], letter
}

// requested asks for something to be done with the aggregate of a letter.
func requested(t *testing.T, o owner, letter Letter, kind string) {
	t.Helper()
	exec(t, o.pool, `WITH operation AS (
			INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state, result) VALUES ('main', 'orders', $1, 'anna', '', 'waiting', '{"aggregates": 1}')
			RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) SELECT id, 'orders', $2, $3, $4, $1 FROM operation`,
		kind, letter.Event.BoundedContext, letter.Event.AggregateType, letter.Event.AggregateID)
}

// requestState is what the tables say of a request.
func (o owner) requestState(t *testing.T) string {
	t.Helper()
	return value[string](t, o.pool, `SELECT concat_ws(' ', o.state || ',', r.state, r.handled, r.failed_position, nullif(r.error, ''), o.result::text,
		(SELECT concat('parked ', p.global_position, ' ', p.letters) FROM orchestrator_parked_aggregates AS p))
		FROM orchestrator_operations AS o JOIN orchestrator_requests AS r ON r.operation = o.id`)
}

// Letters that were handled are so together with what the handlers did. The aggregate is parked until none is left.
func TestLettersAreRetriedInBatches(t *testing.T) {
	t.Parallel()
	o, r, _ := asked(t, replicaset.Retry)
	letters, err := o.Letters(t.Context(), o.pool, r, 2)
	require.NoError(t, err)
	require.Len(t, letters, 2)
	assert.Equal(t, []int64{7, 8}, []int64{letters[0].Position, letters[1].Position})

	b := o.begin(t, whole(9), 10)
	b.Retried(r, []int64{7, 8})
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, whole(9), o.pieces(t), "the checkpoint stays")
	assert.Equal(t, `waiting, waiting 2 {"aggregates": 1} parked 9 1`, o.requestState(t))
	assert.Equal(t, 2, deadLetters(t, o, `state = 'handled' AND handled_at IS NOT NULL AND global_position IN (7, 8)`))

	b = o.begin(t, whole(9), 10)
	b.Retried(r, []int64{9})
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, `done, succeeded 3 {"events": 3, "failed": 0, "succeeded": 1, "aggregates": 1}`, o.requestState(t))
	assert.Equal(t, 3, deadLetters(t, o, `state = 'handled'`))
	requests, err := o.Requests(t.Context(), dbguard.New(o.pool).InTransactions(), "orders", slot.All(), 10)
	require.NoError(t, err)
	assert.Empty(t, requests)
}

// A batch that relies on a letter or a request that is gone commits nothing.
func TestARetryOfWhatIsGoneCommitsNothing(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]string{
		"letter":    `DELETE FROM orchestrator_dead_letters WHERE global_position = 8`,
		"handled":   `UPDATE orchestrator_dead_letters SET state = 'handled' WHERE global_position = 8`,
		"aggregate": `DELETE FROM orchestrator_parked_aggregates`,
		"request":   `UPDATE orchestrator_requests SET state = 'cancelled', finished_at = now()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, r, letter := asked(t, replicaset.Retry)
			exec(t, o.pool, gone)
			b := o.begin(t, whole(9), 10)
			exec(t, b.Tx(), `CREATE TABLE of_the_handler ()`)
			b.Retried(r, []int64{7, 8})
			require.ErrorIs(t, b.Commit(t.Context(), 0), ErrMoved)
			assert.False(t, value[bool](t, o.pool, `SELECT to_regclass('of_the_handler') IS NOT NULL`))
			assert.Equal(t, 1, deadLetters(t, o, `state = 'parked' AND global_position = 7`))
			if name == "request" {
				b = o.begin(t, whole(9), 10)
				b.RetryFailed(r, letter)
				require.ErrorIs(t, b.Commit(t.Context(), 0), ErrMoved)
			}
		})
	}
}

// A retry that fails leaves the letters, with one attempt more, and is over.
func TestARetryThatFailsIsOver(t *testing.T) {
	t.Parallel()
	o, r, letter := asked(t, replicaset.Retry)
	letter.Error, letter.Kind, letter.Frame = "no\x00 space", "full", "shop.Handle"
	b := o.begin(t, whole(9), 10)
	b.RetryFailed(r, letter)
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, "done, failed 0 7 no\uFFFD space {\"events\": 0, \"failed\": 1, \"succeeded\": 0, \"aggregates\": 1} parked 7 3", o.requestState(t))
	assert.Equal(t, 1, deadLetters(t, o, `attempts = 2 AND last_error LIKE 'no%space' AND error_kind = 'full' AND error_frame = 'shop.Handle'`))
	assert.Equal(t, 3, deadLetters(t, o, `state = 'parked'`))
}

// A trial leaves the letters as they are.
func TestATrialIsAnswered(t *testing.T) {
	t.Parallel()
	o, r, _ := asked(t, replicaset.Try)
	b := o.begin(t, whole(9), 10)
	b.Tried(r, 2, 9, "no stock")
	require.NoError(t, b.Commit(t.Context(), 0))
	assert.Equal(t, `done, failed 2 9 no stock {"events": 2, "failed": 1, "succeeded": 0, "aggregates": 1} parked 7 3`, o.requestState(t))
	assert.Equal(t, 1, deadLetters(t, o, `attempts = 1`))
}

// Two owners that answer the last two requests of an operation at the same time do so in turn, so that the second ends the operation.
func TestTheLastAnswerEndsTheOperation(t *testing.T) {
	t.Parallel()
	o, r, _ := asked(t, replicaset.Try)
	exec(t, o.pool, `INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) VALUES (1, 'orders', 'shop', 'Order', 'another', 'try')`)
	first, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = first.Rollback(context.Background()) }()
	exec(t, first, `UPDATE orchestrator_requests SET state = 'succeeded', finished_at = now() WHERE aggregate_id = 'another'`)
	exec(t, first, o.q(sqlEndInTurn), 1)
	b := o.begin(t, whole(9), 10)
	b.Tried(r, 3, 0, "")
	second := make(chan error, 1)
	go func() { second <- b.Commit(context.WithoutCancel(t.Context()), 0) }()
	awaitBlockedBy(t, o.pool, first.Conn().PgConn().PID())
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, await(t, second, "the commit"))
	assert.Equal(t, "done", value[string](t, o.pool, `SELECT state FROM orchestrator_operations`))
}

// Two transactions that end the last requests of an operation, each one of them: the second waits for the first, and ends the operation.
func TestTheLastOfWhatIsDiscardedEndsTheOperation(t *testing.T) {
	t.Parallel()
	o, _, _ := asked(t, replicaset.Retry)
	exec(t, o.pool, `INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) VALUES (1, 'orders', 'shop', 'Order', 'another', 'retry')`)
	first, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = first.Rollback(context.WithoutCancel(t.Context())) }()
	exec(t, first, `UPDATE orchestrator_requests SET state = 'cancelled', finished_at = now() WHERE aggregate_id = 'another'`)
	require.NoError(t, o.EndOperations(t.Context(), first))
	second := make(chan error, 1)
	go func() {
		second <- pgx.BeginFunc(t.Context(), o.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(t.Context(), `UPDATE orchestrator_requests SET state = 'cancelled', finished_at = now() WHERE aggregate_id <> 'another'`); err != nil {
				return err
			}
			return o.EndOperations(t.Context(), tx)
		})
	}()
	awaitBlockedBy(t, o.pool, first.Conn().PgConn().PID())
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, await(t, second, "the second to end"))
	assert.Equal(t, "done", value[string](t, o.pool, `SELECT state FROM orchestrator_operations`))
}

// Requests whose slots are paused come after those that can be served, however old they are.
func TestRequestsOfPausedSlotsComeLast(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	o.cut(t, 5, 5)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET slot_from = 32768 WHERE slot_from > 0`)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET slot_to = 32768 WHERE slot_from = 0`)
	exec(t, o.pool, `WITH operation AS (
			INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('main', 'orders', 'retry', 'anna', '', 'waiting') RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind)
		SELECT id, 'orders', 'shop', 'Order', i, 'retry' FROM operation, generate_series(1, 40) AS i`)
	slots := func() (order []bool) {
		requests, err := o.Requests(t.Context(), dbguard.New(o.pool).InTransactions(), "orders", slot.All(), 40)
		require.NoError(t, err)
		for _, r := range requests {
			order = append(order, r.Slot >= slot.Count/2)
		}
		return slices.Compact(order)
	}
	require.Greater(t, len(slots()), 2, "in order of their operations")
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET hold_at = 5 WHERE slot_from = 0`)
	assert.Equal(t, []bool{true, false}, slots())
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET hold_until = now() - interval '1 second' WHERE slot_from = 0`)
	assert.Greater(t, len(slots()), 2, "a pause that has ended")
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET hold_at = 6, hold_until = NULL WHERE slot_from = 0`)
	assert.Greater(t, len(slots()), 2, "a pause that begins later")
}
