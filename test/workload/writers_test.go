package workload

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestATransactionTouchesEachAggregateOnceAndInOneOrder(t *testing.T) {
	t.Parallel()
	o := WriterOptions{MaxAppends: 6, Aggregates: 4, RollbackShare: 0.5}.withDefaults()
	rolledBack, several := 0, 0
	for range 1000 {
		tx := newTransaction(o)
		var ids []string
		var hold time.Duration
		for _, s := range tx.steps {
			ids = append(ids, s.aggregateID)
			hold += s.hold
			assert.LessOrEqual(t, s.events, o.MaxEvents)
			assert.Len(t, s.draw(), s.events)
		}
		require.True(t, slices.IsSorted(ids), ids)
		require.Len(t, slices.Compact(ids), len(tx.steps))
		require.LessOrEqual(t, hold, o.MaxHold)
		if tx.rollback {
			rolledBack++
		}
		if len(ids) > 1 {
			several++
		}
	}
	assert.InDelta(t, 500, rolledBack, 150)
	assert.Greater(t, several, 500)
}

func TestWritersCountWhatTheyCommit(t *testing.T) {
	t.Parallel()
	pool, _ := migrated(t, nil)
	w := StartWriters(t.Context(), pool, silentStore(), WriterOptions{
		Writers: 4, Aggregates: 5, MaxHold: 5 * time.Millisecond, MaxPause: time.Millisecond, RollbackShare: 0.3, Transactions: 25,
	})
	stats := w.Wait()
	assert.Equal(t, stats, w.Stop())
	require.NoError(t, stats.Err)
	assert.Equal(t, int64(100), stats.Committed+stats.RolledBack)
	assert.Positive(t, stats.RolledBack)
	var events, latest int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*), max(global_position) FROM events").Scan(&events, &latest))
	assert.Equal(t, events, stats.Events)
	assert.Greater(t, latest, events, "what was rolled back must leave holes")
}

func TestWritersStopWhenAsked(t *testing.T) {
	t.Parallel()
	pool, _ := migrated(t, nil)
	w := StartWriters(t.Context(), pool, silentStore(), WriterOptions{Writers: 3})
	require.Eventually(t, func() bool { return w.Stats().Committed > 5 }, patience, 5*time.Millisecond)
	stats := w.Stop()
	require.NoError(t, stats.Err)
	var events int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM events").Scan(&events))
	assert.Equal(t, stats.Events, events)
}

func TestWritersSurviveErrors(t *testing.T) {
	t.Parallel()
	pool, _ := migrated(t, nil)
	_, err := pool.Exec(t.Context(), "ALTER TABLE events RENAME TO elsewhere")
	require.NoError(t, err)
	w := StartWriters(t.Context(), pool, silentStore(), WriterOptions{Writers: 1})
	require.Eventually(t, func() bool { return w.Stats().Failed > 0 }, patience, 5*time.Millisecond)
	require.Error(t, w.Stats().Err)
	_, err = pool.Exec(t.Context(), "ALTER TABLE elsewhere RENAME TO events")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return w.Stats().Committed > 0 }, patience, 5*time.Millisecond)
	w.Stop()
}

func TestAConnectionThatPgBouncerEndsByMistakeIsNoError(t *testing.T) {
	w := &Writers{}
	w.count(transaction{}, fmt.Errorf("appending: %w", &pgconn.PgError{Code: "08P01", Message: "successfully sent cancel request"}))
	assert.EqualValues(t, 1, w.Stats().Failed)
	require.NoError(t, w.Stats().Err)
	w.count(transaction{}, &pgconn.PgError{Code: "08P01", Message: "no more connections allowed"})
	require.Error(t, w.Stats().Err)
}
