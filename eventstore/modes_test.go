package eventstore

import (
	"testing"

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
			config, err := pgxpool.ParseConfig(pgtest.NewDSN(t))
			require.NoError(t, err)
			config.ConnConfig.DefaultQueryExecMode = mode
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			require.NoError(t, RunMigrations(pool, WithLogger(nil)))
			checkMode(t, New(WithLogger(nil)), pool)
		})
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
