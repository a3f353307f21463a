package pgcoord

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
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
	exec(t, o.pool, `UPDATE orchestrator_checkpoints SET stopped_at = 7, revision = 4 WHERE slot_from = 0`)
	other := join(t, o.Store, o.pool, "orders")
	for range 2 { // divided, and as it was divided
		o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker, other)
		assert.Equal(t, "0 1000 7 4, 1000 32768 0 0, 32768 65536 0 0", value[string](t, o.pool, `
			SELECT string_agg(concat_ws(' ', slot_from, slot_to, coalesce(stopped_at, 0), revision), ', ' ORDER BY slot_from) FROM orchestrator_checkpoints`))
	}
	require.NoError(t, o.Stop(t.Context(), o.pool, other, ""))
	o.fence.Generation = generation(t, o.Store, o.pool, o.fence.Generation, o.worker)
	pieces[0].Stopped, pieces[0].Revision = 7, 4
	assert.Equal(t, pieces, o.pieces(t))
	rows, err := o.Assignment(t.Context(), o.pool, o.worker, o.fence.Generation)
	require.NoError(t, err)
	require.Len(t, rows, 2)
	assert.Equal(t, pieces[0], rows[0].Piece)
	assert.Equal(t, pieces[1], rows[1].Piece)
}
