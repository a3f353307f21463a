package pgcoord

import (
	"context"
	"math"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// A skip is the letter and the checkpoint, or neither.
func TestASkipCommitsWithItsCheckpoint(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no\x00 stock\xff")
	letter.Attempts = 3
	o.fails(t, letter)
	b := o.begin(t, whole(0), 7)
	b.Skip(letter)
	assert.Equal(t, 1, deadLetters(t, o, `state = 'retrying'`))
	require.NoError(t, b.Commit(t.Context(), 7))
	assert.Equal(t, whole(7), o.pieces(t))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'skipped' AND skipped_at IS NOT NULL AND attempts = 3 AND last_error = E'no\uFFFD stock\uFFFD' AND replica_set = 'main' AND generation = 1`))

	exec(t, o.pool, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`)
	exec(t, o.pool, `CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON orchestrator_dead_letters FOR EACH ROW EXECUTE FUNCTION refuse()`)
	for _, position := range []int64{8, 7} { // one that is new, and one that is there
		pieces := whole(position - 1)
		exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = $1`, position-1)
		b = o.begin(t, pieces, position)
		b.Skip(failed(t, o, slot.All(), position, "again"))
		require.ErrorIs(t, b.Commit(t.Context(), position), batchtx.ErrRows)
		assert.Equal(t, pieces, o.pieces(t), "no letter, no checkpoint")
	}
}

// Positions may be given again. What is recorded of the later event names it, and counts its own attempts, also where its failure could not be recorded before.
func TestALetterReplacesThatOfAnEarlierEvent(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	earlier := failed(t, o, slot.All(), 7, "no stock")
	earlier.Attempts = 5
	b := o.begin(t, whole(0), 7)
	b.Skip(earlier)
	require.NoError(t, b.Commit(t.Context(), 7))
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET position = 0`)

	later := failed(t, o, slot.All(), 7, "no price")
	later.Attempts, later.Event.EventID, later.Event.AggregateID = 2, uuid.New(), "later"
	b = o.begin(t, whole(0), 7)
	b.Park(later, 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'parked' AND aggregate_id = 'later' AND attempts = 2 AND event_id = '`+later.Event.EventID.String()+`'`))
}

// A stop is a row for each range of the partition, also for those that are further. Whoever does not know it commits nothing.
func TestAStopIsKnownToWhoeverCommits(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 3, 9)
	b := o.begin(t, pieces, math.MaxInt64)
	b.Stop(failed(t, o, pieces[0].Range, 7, "no stock"))
	require.NoError(t, b.Commit(t.Context(), 6))
	stopped := piecesAt(pieces, 6, 9)
	for i, at := range []int64{7, 10} {
		stopped[i].Stopped, stopped[i].Revision = at, 1
	}
	assert.Equal(t, stopped, o.pieces(t))
	assert.Equal(t, 1, deadLetters(t, o, `state = 'stopped' AND global_position = 7`))

	o.refused(t, o.fence, piecesAt(pieces, 6, 9), 20)
	resumed := piecesAt(pieces, 6, 9)
	for i := range resumed {
		resumed[i].Revision = 2
	}
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1`)
	assert.Equal(t, resumed, o.pieces(t))
	b = o.begin(t, resumed, 20)
	exec(t, b.Tx(), `UPDATE orchestrator_checkpoints SET revision = revision + 1`) // as if somebody had, after a handler gave up the lock
	require.ErrorIs(t, b.Commit(t.Context(), 20), batchtx.ErrRows)
	o.refused(t, o.fence, piecesAt(pieces, 6, 9), 20)
	o.advance(t, resumed, 20)
}

// Stops and revisions follow their slots to another generation.
func TestAStopFollowsItsSlots(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 6, 6)
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET stopped_at = 7, revision = 4 WHERE slot_from = 1000`)
	other := join(t, o.Store, o.pool, "orders")
	for range 2 { // divided, and as it was divided
		o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker, other)
		assert.Equal(t, "0 1000 0 0, 1000 32768 7 4, 32768 65536 7 4", value[string](t, o.pool, `
			SELECT string_agg(concat_ws(' ', slot_from, slot_to, coalesce(stopped_at, 0), revision), ', ' ORDER BY slot_from) FROM orchestrator_checkpoints`))
	}
	require.NoError(t, o.Stop(t.Context(), o.pool, other, ""))
	o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	pieces[1].Stopped, pieces[1].Revision = 7, 4
	assert.Equal(t, pieces, o.pieces(t))
	rows, err := o.Assignment(t.Context(), o.pool, o.worker, o.fence.Generation)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, pieces[0], rows[0].Piece)
	assert.Equal(t, pieces[1], rows[1].Piece)
}

// packedEvents is events of an aggregate at positions.
func packedEvents(letter Letter, positions ...int64) packed.Events {
	var events []es.PersistedEvent
	for _, position := range positions {
		e := letter.Event
		e.GlobalPosition, e.EventID = position, uuid.New()
		events = append(events, e)
	}
	return packed.Pack(events)
}

// Parking is the aggregate's row, the letter and the checkpoint, or none of them. Later letters are counted with the batch that passes them.
func TestParkingCommitsWithItsCheckpoint(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	letter.Event.AggregateType = `O'rd\er, "NULL" {}`
	letter.Attempts = 3
	b := o.begin(t, whole(0), 7)
	b.Park(letter, 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	assert.Equal(t, whole(7), o.pieces(t), "the owner knows it, so the revision stays")
	assert.Equal(t, 1, deadLetters(t, o, `state = 'parked' AND attempts = 3 AND last_error = 'no stock'`))

	b = o.begin(t, whole(7), 10)
	b.PutAside(packedEvents(letter, 8, 10))
	require.NoError(t, b.Commit(t.Context(), 10))
	parked, err := o.Parked(t.Context(), o.pool, "orders", "letters")
	require.NoError(t, err)
	require.Len(t, parked, 1)
	want := replicaset.Parked{Projection: "orders", Slot: parked[0].Slot, Letters: 3, Aggregate: replicaset.Aggregate{
		BoundedContext: "shop", Type: letter.Event.AggregateType, ID: letter.Event.AggregateID,
	}}
	assert.Equal(t, want, parked[0])
	assert.Equal(t, value[int](t, o.pool, `SELECT (hashtextextended($1, 0) & 65535)::int`, letter.Event.AggregateID), parked[0].Slot)
	assert.Equal(t, 2, deadLetters(t, o, `state = 'parked' AND attempts = 0 AND last_error = '' AND generation = 1`))

	other := failed(t, o, slot.All(), 11, "no stock")
	other.Event.AggregateID += "x"
	b = o.begin(t, whole(10), 11)
	b.Park(other, 1)
	require.ErrorIs(t, b.Commit(t.Context(), 11), ErrTooManyParked)
	assert.True(t, b.Alive())
	b = o.begin(t, whole(10), 12)
	b.PutAside(packedEvents(other, 12))
	require.ErrorIs(t, b.Commit(t.Context(), 12), ErrMoved, "it is not parked")
	assert.Equal(t, whole(10), o.pieces(t))
	assert.Equal(t, 3, deadLetters(t, o, `true`))
}

// Events that are on record already, as handled before a reset, become letters in their rows, and no other row does: neither those between them nor another projection's.
func TestEventsOnRecordArePutAside(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	b := o.begin(t, whole(0), 7)
	b.Park(letter, 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	const record = `INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation, handled_at)
		SELECT $1::text, unnest($2::bigint[]), replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, 'handled', 4, 'once', event_id, 1, now() FROM orchestrator_dead_letters WHERE global_position = 7`
	exec(t, o.pool, record, "orders", []int64{8, 9, 10, 11, 13})
	exec(t, o.pool, record, "letters", []int64{8})
	events := packedEvents(letter, 8, 10, 12)
	for i := range events.Len() {
		e := events.At(i)
		exec(t, o.pool, `UPDATE orchestrator_dead_letters SET event_id = $1 WHERE global_position = $2`, e.EventID, e.GlobalPosition)
	}
	b = o.begin(t, whole(7), 12)
	b.PutAside(events)
	require.NoError(t, b.Commit(t.Context(), 12))
	assert.Equal(t, "letters 8 handled 4, orders 7 parked 1, orders 8 parked 4, orders 9 handled 4, orders 10 parked 4, orders 11 handled 4, orders 12 parked 0, orders 13 handled 4",
		value[string](t, o.pool, `SELECT string_agg(concat_ws(' ', projection, global_position, state, attempts), ', ' ORDER BY projection, global_position) FROM orchestrator_dead_letters`))
	assert.Equal(t, 4, value[int](t, o.pool, `SELECT letters::int FROM orchestrator_parked_aggregates`))
}

// An aggregate that was given free commits nothing for an owner that does not know it yet.
func TestAStaleParkedSetCommitsNothing(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	letter := failed(t, o, slot.All(), 7, "no stock")
	b := o.begin(t, whole(0), 7)
	b.Park(letter, 1)
	require.NoError(t, b.Commit(t.Context(), 7))
	exec(t, o.pool, `WITH raised AS (UPDATE orchestrator_checkpoints SET revision = revision + 1) DELETE FROM orchestrator_parked_aggregates`)
	o.refused(t, o.fence, whole(7), 8)
}

// Parks of a projection are counted one after the other, so that those of two partitions at the same time are not too many.
func TestParksAreCountedOneAfterTheOther(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 0, 0)
	first, err := o.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = first.Rollback(context.Background()) }()
	exec(t, first, `SELECT pg_advisory_xact_lock($1)`, lockKey("park", o.schema, "orders"))
	b := o.begin(t, pieces[1:], 2)
	b.Park(failed(t, o, pieces[1].Range, 2, "no"), 1)
	second := make(chan error, 1)
	go func() { second <- b.Commit(context.WithoutCancel(t.Context()), 2) }()
	awaitBlockedBy(t, o.pool, first.Conn().PgConn().PID())
	exec(t, first, `INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters)
		VALUES ('orders', 'shop', 'Order', 'other', 'main', 1, 1)`)
	require.NoError(t, first.Commit(t.Context()))
	require.ErrorIs(t, await(t, second, "the commit"), ErrTooManyParked)
}
