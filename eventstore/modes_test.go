package eventstore

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// awkward is an append full of what an encoding could get wrong.
func awkward() []es.Event {
	text := "quote ' double \" backslash \\ brace { } comma , dollar $1 NULL -- ünï 𝄞\n\t"
	first := es.Event{
		CreatedAt:      time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		BoundedContext: "context " + text,
		AggregateType:  "type " + text,
		AggregateID:    "id " + text,
		EventType:      "event " + text,
		EventVersion:   2,
		Payload:        []byte("\x00\x01\\x5c'\"{},\xff"),
		Metadata:       []byte(`{"key, \"x\"": ["\\", "{}", null, "ü"]}`),
		CausationID:    es.String(text),
		CorrelationID:  es.String(""),
		TraceID:        es.String("NULL"),
		EventID:        uuid.New(),
	}
	second := first
	second.CreatedAt, second.EventID, second.EventVersion = time.Time{}, uuid.Nil, 0
	second.Payload, second.Metadata = nil, nil
	second.CausationID, second.CorrelationID, second.TraceID = es.NullString{}, es.NullString{}, es.NullString{}
	second.EventType = "NULL"
	third := second
	third.CreatedAt, third.Payload, third.Metadata = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), []byte{}, []byte("null")
	return []es.Event{first, second, third}
}

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
	given := awkward()
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
	read := parts(t, s, pool, Query{
		Pieces: []slot.Piece{
			{Range: slot.Range{From: 0, To: slot.Count - 1}},
			{Range: slot.Range{From: slot.Count - 1, To: slot.Count}, Position: 1 << 40},
		},
		UpTo: 100, Limit: 10, WithSlots: true,
		AggregateTypes:  []string{"other", first.AggregateType},
		BoundedContexts: []string{first.BoundedContext},
	}, 2)
	require.Len(t, read, 2)
	assert.Equal(t, result.Events, append(read[0].Events.All(), read[1].Events.All()...))
	assert.Equal(t, int64(100), read[1].UpTo)
	var at int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT (hashtextextended($1, 0) & 65535)::int", first.AggregateID).Scan(&at))
	assert.Equal(t, at, read[1].Events.Slot(0))
	_, err = tryAppend(t.Context(), s, pool, es.NoStream(), first)
	require.ErrorIs(t, err, ErrOptimisticConcurrency)
	require.ErrorContains(t, err, "it is at version 3")
}
