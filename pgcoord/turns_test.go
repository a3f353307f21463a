package pgcoord

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// While the batches of a projection are in conflict one waits for the other, before it locks any row.
func TestABatchTakesItsTurnBeforeItsRows(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	pieces := o.cut(t, 0, 0)
	settings := BatchSettings{Turn: true}
	first, err := o.BeginBatch(t.Context(), o.pool, o.fence, pieces[:1], 10, settings)
	require.NoError(t, err)
	assert.False(t, first.InTurn(), "there is no conflict")
	other, err := o.BeginBatch(t.Context(), o.pool, o.fence, pieces[1:], 10, settings)
	require.NoError(t, err, "nobody takes turns without a conflict")
	other.Rollback(t.Context())
	first.Rollback(t.Context())

	took, err := o.NoteConflicts(t.Context(), o.pool, o.fence.Projection, 1)
	require.NoError(t, err)
	assert.Equal(t, turnsFirst, took)
	first, err = o.BeginBatch(t.Context(), o.pool, o.fence, pieces[:1], 10, settings)
	require.NoError(t, err)
	assert.True(t, first.InTurn())
	second := async(func() *Batch {
		for {
			b, err := o.BeginBatch(context.Background(), o.pool, o.fence, pieces[1:], 10, settings)
			if !errors.Is(err, ErrTurn) { // a busy machine may take longer than a turn is waited for
				assert.NoError(t, err)
				return b
			}
		}
	})
	awaitBlockedBy(t, o.pool, first.conn.Conn().PgConn().PID())
	exec(t, o.pool, `SELECT FROM orchestrator_checkpoints WHERE slot_from = $1 FOR UPDATE NOWAIT`, pieces[1].From)
	require.NoError(t, first.Commit(t.Context(), 10))
	b := await(t, second, "the second batch")
	assert.True(t, b.InTurn())

	_, err = o.BeginBatch(t.Context(), o.pool, o.fence, pieces[:1], 10, settings)
	require.ErrorIs(t, err, ErrTurn, "the turn does not come back")
	without, err := o.BeginBatch(t.Context(), o.pool, o.fence, o.pieces(t)[:1], 20, BatchSettings{})
	require.NoError(t, err)
	without.Rollback(t.Context())
	require.NoError(t, b.Commit(t.Context(), 10))
	assert.Zero(t, o.pool.Stat().AcquiredConns())
	exec(t, o.pool, `UPDATE orchestrator_turns SET until = now() - interval '1s'`)
	first, err = o.BeginBatch(t.Context(), o.pool, o.fence, o.pieces(t), 20, settings)
	require.NoError(t, err)
	assert.False(t, first.InTurn(), "the conflicts are over")
	first.Rollback(t.Context())
}

// The time for which a batch waits for its turn does not bound its wait for its rows, which an activation may have locked.
func TestABatchInTurnWaitsForItsRows(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	_, err := o.NoteConflicts(t.Context(), o.pool, o.fence.Projection, 1)
	require.NoError(t, err)
	first := o.begin(t, whole(0), 10)
	defer first.Rollback(context.Background())
	second := async(func() error {
		b, err := o.BeginBatch(context.Background(), o.pool, o.fence, whole(0), 10, BatchSettings{Turn: true})
		if err != nil {
			return err
		}
		return b.Commit(context.Background(), 10)
	})
	awaitBlockedBy(t, o.pool, first.conn.Conn().PgConn().PID())
	eventually(t, o.pool, "it does not wait longer than for its turn", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock' AND clock_timestamp() - query_start > '1.3s')`)
	first.Rollback(t.Context())
	require.NoError(t, await(t, second, "the second batch"))
}

// Only a batch of the same projection that shows itself is found, and only by whoever waits for it.
func TestWhoWaitsForAShownBatchIsFound(t *testing.T) {
	t.Parallel()
	o := newOwner(t)
	exec(t, o.pool, `CREATE TABLE counters (n int)`)
	exec(t, o.pool, `INSERT INTO counters VALUES (0)`)
	pieces := o.cut(t, 0, 0)
	const change = `UPDATE counters SET n = n + 1`
	for _, c := range []struct {
		name  string
		shown bool
		other string
		found bool
	}{{"shown", true, "", true}, {"not shown", false, "", false}, {"of another projection", true, "another", false}} {
		first, err := o.BeginBatch(t.Context(), o.pool, o.fence, pieces[:1], 10, BatchSettings{Turn: true, Shown: c.shown})
		require.NoError(t, err)
		_, err = first.Tx().Exec(t.Context(), change)
		require.NoError(t, err)
		second, err := o.BeginBatch(t.Context(), o.pool, o.fence, pieces[1:], 10, BatchSettings{Turn: true, Shown: true})
		require.NoError(t, err)
		looks := func(b *Batch) bool {
			waits, err := o.WaitsForShown(t.Context(), o.pool, o.fence.Projection+c.other, b.Backend())
			require.NoError(t, err)
			return waits
		}
		assert.False(t, looks(second), "it does not wait yet")
		changed := async(func() error {
			_, err := second.Tx().Exec(context.Background(), change)
			return err
		})
		awaitBlockedBy(t, o.pool, uint32(first.Backend()))
		assert.Equal(t, c.found, looks(second), c.name)
		assert.False(t, looks(first), "it waits for nobody")
		first.Rollback(t.Context())
		require.NoError(t, await(t, changed, "the second batch"))
		second.Rollback(t.Context())
	}
}
