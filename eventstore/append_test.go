package eventstore

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

func TestAppendReturnsWhatALaterReadReturns(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	full := event("order-1")
	full.CreatedAt = time.Date(2024, 2, 29, 13, 14, 15, 123_456_789, time.FixedZone("", 3600))
	full.EventID = uuid.New()
	full.EventVersion = 7
	full.Payload = []byte{0, 1, 2, 0xff}
	full.Metadata = []byte(`{"b":[1, 2],"a":"é"}`)
	full.TraceID = es.String("trace")
	full.CorrelationID = es.String("")
	full.CausationID = es.String("cause 'quoted' \\ back")
	bare := event("order-1")
	bare.Payload = nil

	result := mustAppend(t, s, pool, es.NoStream(), full, bare)

	stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-1", nil, nil)
	require.NoError(t, err)
	require.Equal(t, stream.Events, result.Events)
	require.Equal(t, []int64{stream.Events[0].GlobalPosition, stream.Events[1].GlobalPosition}, result.GlobalPositions)
	got := result.Events[0]
	assert.Equal(t, time.Date(2024, 2, 29, 12, 14, 15, 123_456_000, time.UTC), got.CreatedAt)
	assert.Equal(t, full.EventID, got.EventID)
	assert.Equal(t, 7, got.EventVersion)
	assert.Equal(t, full.Payload, got.Payload)
	assert.JSONEq(t, string(full.Metadata), string(got.Metadata))
	assert.Equal(t, full.TraceID, got.TraceID)
	assert.Equal(t, full.CorrelationID, got.CorrelationID)
	assert.Equal(t, full.CausationID, got.CausationID)
	assert.Equal(t, int64(0), result.FromVersion())
	assert.Equal(t, int64(2), result.ToVersion())
}

func TestAppendFillsInWhatTheEventLeavesOpen(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	var now time.Time
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT now()").Scan(&now))
	bare := event("order-1")
	bare.Payload, bare.Metadata = nil, []byte{}

	result, err := s.Append(t.Context(), tx, es.Any(), []es.Event{bare, bare})

	require.NoError(t, err)
	for _, e := range result.Events {
		assert.Equal(t, uuid.Version(7), e.EventID.Version())
		assert.Equal(t, 1, e.EventVersion)
		assert.Equal(t, now.UTC(), e.CreatedAt)
		assert.Equal(t, []byte{}, e.Payload)
		assert.Nil(t, e.Metadata)
		assert.False(t, e.TraceID.Valid || e.CorrelationID.Valid || e.CausationID.Valid)
	}
	assert.NotEqual(t, result.Events[0].EventID, result.Events[1].EventID)
	assert.Equal(t, uuid.Nil, bare.EventID, "the caller's events are not changed")
}

func TestAppendEnforcesTheExpectedVersion(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("existing", 3)...)
	tests := []struct {
		name     string
		id       string
		expected es.ExpectedVersion
		actual   int64
		conflict bool
	}{
		{"any version of a new aggregate", "new-1", es.Any(), 0, false},
		{"no stream of a new aggregate", "new-2", es.NoStream(), 0, false},
		{"exactly version 0 of a new aggregate", "new-3", es.Exact(0), 0, false},
		{"a version of a new aggregate", "new-4", es.Exact(1), 0, true},
		{"no stream of an existing aggregate", "existing", es.NoStream(), 3, true},
		{"exactly version 0 of an existing aggregate", "existing", es.Exact(0), 3, true},
		{"a version that has passed", "existing", es.Exact(2), 3, true},
		{"a version that has not come", "existing", es.Exact(4), 3, true},
		{"the version it is at", "existing", es.Exact(3), 3, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tx := begin(t, pool, pgx.TxOptions{})
			result, err := s.Append(t.Context(), tx, tt.expected, eventsOf(tt.id, 2))
			if !tt.conflict {
				require.NoError(t, err)
				assert.Equal(t, tt.actual, result.FromVersion())
				assert.Equal(t, tt.actual+2, result.ToVersion())
				return
			}
			require.ErrorIs(t, err, ErrOptimisticConcurrency)
			assert.Empty(t, result.Events)
			for _, part := range []string{`"sales"`, `"Order"`, `"` + tt.id + `"`, tt.expected.String(), fmt.Sprintf("it is at version %d", tt.actual)} {
				assert.ErrorContains(t, err, part)
			}
			_, err = s.Append(t.Context(), tx, es.Exact(tt.actual), eventsOf(tt.id, 1))
			require.NoError(t, err, "the transaction must be usable after a conflict")
		})
	}
}

func TestSeveralAppendsInOneTransactionBuildOnEachOther(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	for i := range int64(5) {
		result, err := s.Append(t.Context(), tx, es.Exact(2*i), eventsOf("order-1", 2))
		require.NoError(t, err)
		require.Equal(t, 2*i+2, result.ToVersion())
	}
}

func TestARolledBackAppendLeavesNothing(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), tx, es.NoStream(), eventsOf("order-1", 3))
	require.NoError(t, err)
	require.NoError(t, tx.Rollback(t.Context()))

	result := mustAppend(t, s, pool, es.NoStream(), event("order-1"))

	assert.Equal(t, int64(1), result.ToVersion())
	stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-1", nil, nil)
	require.NoError(t, err)
	assert.Len(t, stream.Events, 1)
}

func TestAppendRefusesAnEventIDThatIsStored(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	first := event("order-1")
	first.EventID = uuid.New()
	mustAppend(t, s, pool, es.NoStream(), first)
	again := event("order-2")
	again.EventID = first.EventID

	_, err := tryAppend(t.Context(), s, pool, es.Any(), again)

	require.ErrorIs(t, err, ErrDuplicateEvent)
	require.NotErrorIs(t, err, ErrOptimisticConcurrency)
	stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-2", nil, nil)
	require.NoError(t, err)
	assert.True(t, stream.IsEmpty())
}

func TestAnAggregateWithoutAHeadIsFoundByItsEvents(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tests := []struct {
		name     string
		expected es.ExpectedVersion
		conflict bool
	}{
		{"any version", es.Any(), false},
		{"the version of its last event", es.Exact(3), false},
		{"no stream", es.NoStream(), true},
		{"an older version", es.Exact(2), true},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf("order-%d", i)
			mustAppend(t, s, pool, es.NoStream(), eventsOf(id, 3)...)
			_, err := pool.Exec(t.Context(), "DELETE FROM aggregate_heads WHERE aggregate_id = $1", id)
			require.NoError(t, err)

			result, err := tryAppend(t.Context(), s, pool, tt.expected, event(id))

			if tt.conflict {
				require.ErrorIs(t, err, ErrOptimisticConcurrency)
				require.ErrorContains(t, err, "it is at version 3")
				return
			}
			require.NoError(t, err)
			assert.Equal(t, int64(4), result.ToVersion())
			mustAppend(t, s, pool, es.Exact(4), event(id))
		})
	}
}

func TestTheUniqueConstraintCatchesWritersThatPassTheHeadsBy(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
	_, err := pool.Exec(t.Context(), "UPDATE aggregate_heads SET aggregate_version = 1")
	require.NoError(t, err)

	for _, expected := range []es.ExpectedVersion{es.Exact(1), es.Any()} {
		_, err = tryAppend(t.Context(), s, pool, expected, event("order-1"))
		require.ErrorIs(t, err, ErrOptimisticConcurrency)
		require.ErrorContains(t, err, `its version in "aggregate_heads" is behind its events`, "a retry cannot help")
	}
}

func TestAHeadOutlivesArchivedEvents(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 4)...)
	_, err := pool.Exec(t.Context(), "DELETE FROM events")
	require.NoError(t, err)

	result := mustAppend(t, s, pool, es.Exact(4), event("order-1"))

	assert.Equal(t, int64(5), result.ToVersion())
}

func TestAppendSaysThatATriggerSwallowedEvents(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	_, err := pool.Exec(t.Context(), `
		CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
		CREATE TRIGGER swallow BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.aggregate_version = 2) EXECUTE FUNCTION swallow()`)
	require.NoError(t, err)

	_, err = tryAppend(t.Context(), s, pool, es.NoStream(), eventsOf("order-1", 3)...)

	require.ErrorContains(t, err, "stored 2 of the 3 events")
}

func TestAppendTakesOneRoundTripForAnyNumberOfEvents(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	tx := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), tx, es.Any(), eventsOf("order-1", 1)) // prepares the statement
	require.NoError(t, err)
	var wire bytes.Buffer
	tx.Conn().PgConn().Frontend().Trace(&wire, pgproto3.TracerOptions{SuppressTimestamps: true})

	_, err = s.Append(t.Context(), tx, es.Any(), eventsOf("order-1", 500))

	tx.Conn().PgConn().Frontend().Untrace()
	require.NoError(t, err)
	assert.Equal(t, 1, strings.Count(wire.String(), "ReadyForQuery"), "the server's answers")
	assert.Equal(t, 1, strings.Count(wire.String(), "Execute"), "statements")
}

func TestAppendRefusesTheCallersMistakesBeforeAskingTheDatabase(t *testing.T) {
	t.Parallel()
	s := New()
	_, err := s.Append(t.Context(), nil, es.Any(), nil)
	require.ErrorIs(t, err, ErrNoEvents)
	_, err = s.Append(t.Context(), nil, es.Any(), []es.Event{{}})
	require.ErrorIs(t, err, ErrInvalidEvent)
}
