package eventstore

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestEveryQueryExecModeStoresAndReadsTheSame(t *testing.T) {
	t.Parallel()
	for _, mode := range pgtest.ExecModes() {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			pool := pgtest.PoolInMode(t, pgtest.NewDatabase(t).Config(), mode)
			require.NoError(t, RunMigrations(pool, WithLogger(nil)))
			checkMode(t, New(WithLogger(nil)), pool)
		})
	}
}

// A role's array_nulls=off turns NULL, in an array that is sent as text, into the word.
func TestWhatAnEventLacksIsNullWhateverArraysMean(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	var all []es.PersistedEvent
	for _, mode := range pgtest.ExecModes() {
		cfg := pool.Config()
		cfg.ConnConfig.DefaultQueryExecMode = mode
		other, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(other.Close)
		tx := begin(t, other, pgx.TxOptions{})
		_, err = tx.Exec(t.Context(), "SET LOCAL array_nulls = off")
		require.NoError(t, err)
		given := eventsOf(mode.String(), 2)
		given[0].TraceID, given[0].CausationID, given[0].Metadata = es.NullString{}, es.NullString{}, nil
		given[0].CreatedAt, given[1].CorrelationID = time.Time{}, es.String("")
		result, err := s.Append(t.Context(), tx, es.NoStream(), given)
		require.NoError(t, err, mode)
		require.NoError(t, tx.Commit(t.Context()))
		all = append(all, result.Events...)
	}
	stored, err := s.ReadEvents(t.Context(), pool, 0, 100)
	require.NoError(t, err)
	assert.Equal(t, all, stored)
	for i, e := range stored {
		if i%2 == 0 {
			assert.Equal(t, []es.NullString{{}, {}}, []es.NullString{e.TraceID, e.CausationID})
			assert.Empty(t, e.Metadata)
			assert.WithinDuration(t, time.Now(), e.CreatedAt, time.Minute)
		} else {
			assert.Equal(t, es.String(""), e.CorrelationID)
		}
	}
}

func checkMode(t *testing.T, s *Store, pool *pgxpool.Pool) {
	given := eventtest.Awkward()
	result := mustAppend(t, s, pool, es.NoStream(), given...)
	for i, e := range result.Events {
		assert.Equal(t, given[i].AggregateID, e.AggregateID)
		assert.Equal(t, given[i].EventType, e.EventType)
		assert.Equal(t, string(given[i].Payload), string(e.Payload))
		assert.Equal(t, given[i].CausationID, e.CausationID)
		assert.Equal(t, given[i].TraceID, e.TraceID)
	}
	assert.Equal(t, given[0].CreatedAt, result.Events[0].CreatedAt)
	assert.Equal(t, given[2].CreatedAt, result.Events[2].CreatedAt)
	assert.Equal(t, "null", string(result.Events[2].Metadata), "the JSON null is not NULL")

	first := given[0]
	stream, err := s.ReadAggregateStream(t.Context(), pool, first.BoundedContext, first.AggregateType, first.AggregateID, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, result.Events, stream.Events)
	all, err := s.ReadEvents(t.Context(), pool, 0, 10)
	require.NoError(t, err)
	assert.Equal(t, result.Events, all)
	_, err = tryAppend(t.Context(), s, pool, es.NoStream(), first)
	require.ErrorIs(t, err, ErrOptimisticConcurrency)
	require.ErrorContains(t, err, "it is at version 3")
}

// In a database with another encoding than UTF-8, that is what connections have by themselves. The server would take each byte for a character.
func TestConnectionsThatWouldChangeTextsAreRefused(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), event("Zoë"))
	for _, mode := range pgtest.ExecModes() {
		cfg := pool.Config()
		cfg.ConnConfig.DefaultQueryExecMode = mode
		cfg.MaxConns = 1
		other, err := pgxpool.NewWithConfig(t.Context(), cfg)
		require.NoError(t, err)
		t.Cleanup(other.Close)
		tx := begin(t, other, pgx.TxOptions{})
		_, err = tx.Exec(t.Context(), "SET LOCAL client_encoding = 'LATIN1'")
		require.NoError(t, err)
		refused := func(err error) {
			t.Helper()
			require.ErrorContains(t, err, "client_encoding", mode) // pgx refuses it itself in the simple protocol
		}
		_, err = s.Append(t.Context(), tx, es.Any(), eventsOf("Zoë", 1))
		refused(err)
		_, err = s.ReadEvents(t.Context(), tx, 0, 10)
		refused(err)
		_, err = s.ReadAggregateStream(t.Context(), tx, "sales", "Order", "Zoë", nil, nil)
		refused(err)
		_, err = tx.Exec(t.Context(), "SET LOCAL client_encoding = 'UTF8'")
		require.NoError(t, err)
		_, err = s.Append(t.Context(), tx, es.Exact(1), eventsOf("Zoë", 1))
		require.NoError(t, err, mode)
		read, err := s.ReadAggregateStream(t.Context(), tx, "sales", "Order", "Zoë", nil, nil)
		require.NoError(t, err, mode)
		require.Equal(t, 2, read.Len(), mode)
		require.NoError(t, tx.Rollback(t.Context()))
	}
}
