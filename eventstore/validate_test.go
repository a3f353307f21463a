package eventstore

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

func TestAnInvalidEventIsRefusedByIndexFieldAndRule(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxNameLength+1)
	longID := strings.Repeat("x", MaxIDLength+1)
	tests := []struct {
		name  string
		spoil func(e *es.Event)
		want  string
	}{
		{"no context", func(e *es.Event) { e.BoundedContext = "" }, "BoundedContext must not be empty"},
		{"no type", func(e *es.Event) { e.AggregateType = "" }, "AggregateType must not be empty"},
		{"no id", func(e *es.Event) { e.AggregateID = "" }, "AggregateID must not be empty"},
		{"no event type", func(e *es.Event) { e.EventType = "" }, "EventType must not be empty"},
		{"long context", func(e *es.Event) { e.BoundedContext = long }, "BoundedContext must be at most 255 bytes long, got 256"},
		{"long type", func(e *es.Event) { e.AggregateType = long }, "AggregateType must be at most 255 bytes long, got 256"},
		{"long id", func(e *es.Event) { e.AggregateID = longID }, "AggregateID must be at most 1024 bytes long, got 1025"},
		{"long event type", func(e *es.Event) { e.EventType = long }, "EventType must be at most 255 bytes long, got 256"},
		{"long trace", func(e *es.Event) { e.TraceID = es.String(longID) }, "TraceID must be at most 1024 bytes long, got 1025"},
		{"long correlation", func(e *es.Event) { e.CorrelationID = es.String(longID) }, "CorrelationID must be at most 1024 bytes long"},
		{"long causation", func(e *es.Event) { e.CausationID = es.String(longID) }, "CausationID must be at most 1024 bytes long"},
		{"NUL in the id", func(e *es.Event) { e.AggregateID = "a\x00b" }, "AggregateID must not contain a NUL byte"},
		{"NUL in the trace", func(e *es.Event) { e.TraceID = es.String("\x00") }, "TraceID must not contain a NUL byte"},
		{"no UTF-8 in the type", func(e *es.Event) { e.AggregateType = "\xff" }, "AggregateType must be valid UTF-8"},
		{"negative version", func(e *es.Event) { e.EventVersion = -1 }, "EventVersion must be between 0 and 2147483647, got -1"},
		{"huge version", func(e *es.Event) { e.EventVersion = math.MaxInt32 + 1 }, "EventVersion must be between 0 and 2147483647"},
		{"early", func(e *es.Event) { e.CreatedAt = time.Date(0, 12, 31, 0, 0, 0, 0, time.UTC) }, "CreatedAt must be in the years 1 to 9999, got year 0"},
		{"late", func(e *es.Event) { e.CreatedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "CreatedAt must be in the years 1 to 9999, got year 10000"},
		{"no JSON", func(e *es.Event) { e.Metadata = []byte(`{"a":`) }, "Metadata must be valid JSON"},
		{"JSON that is no UTF-8", func(e *es.Event) { e.Metadata = []byte("\"\xff\"") }, "Metadata must be valid UTF-8"},
		{"JSON with an escaped NUL", func(e *es.Event) { e.Metadata = []byte(`{"a\\":"b\u0000"}`) }, `Metadata must not contain the escape \u0000`},
		{"other context", func(e *es.Event) { e.BoundedContext = "billing" }, `BoundedContext must be the same in all events of one append ("sales"), got "billing"`},
		{"other type", func(e *es.Event) { e.AggregateType = "User" }, `AggregateType must be the same in all events of one append ("Order"), got "User"`},
		{"other id", func(e *es.Event) { e.AggregateID = "order-2" }, `AggregateID must be the same in all events of one append ("order-1"), got "order-2"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			events := eventsOf("order-1", 3)
			tt.spoil(&events[2])
			err := validate(events)
			require.ErrorIs(t, err, ErrInvalidEvent)
			require.ErrorContains(t, err, "event 2: "+tt.want)
			events[2] = event("order-1")
			require.NoError(t, validate(events))
		})
	}
}

func TestPayloadsAreLimitedAloneAndTogether(t *testing.T) {
	t.Parallel()
	shared := make([]byte, MaxPayloadLength+1)
	events := eventsOf("order-1", MaxAppendLength/MaxPayloadLength+1)
	events[1].Payload = shared
	require.ErrorContains(t, validate(events), "event 1: Payload must be at most")
	for i := range events {
		events[i].Payload = shared[:MaxPayloadLength]
	}
	require.ErrorContains(t, validate(events), "event 4: Payload and Metadata of one append must be at most")
	require.NoError(t, validate(events[:4]))
	events[0].Payload, events[0].Metadata = nil, shared
	require.ErrorContains(t, validate(events), "event 0: Metadata must be at most")
}

// What the limits let through, the database stores: names of the greatest
// length fit the unique index even if they cannot be compressed.
func TestTheLongestNamesAreStored(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	longest := event("")
	longest.BoundedContext = noise(MaxNameLength)
	longest.AggregateType = noise(MaxNameLength)
	longest.AggregateID = noise(MaxIDLength)
	longest.EventType = noise(MaxNameLength)
	longest.TraceID = es.String(noise(MaxIDLength))
	longest.CorrelationID = es.String(noise(MaxIDLength))
	longest.CausationID = es.String(noise(MaxIDLength))

	mustAppend(t, s, pool, es.NoStream(), longest)

	stream, err := s.ReadAggregateStream(t.Context(), pool, longest.BoundedContext, longest.AggregateType, longest.AggregateID, nil, nil)
	require.NoError(t, err)
	assert.Equal(t, 1, stream.Len())
}

// noise is n letters that do not compress, the same in every run.
func noise(n int) string {
	b := make([]byte, n)
	state := uint64(n)
	for i := range b {
		state = state*6364136223846793005 + 1442695040888963407
		b[i] = '0' + byte(state>>58)
	}
	return string(b)
}

func TestAnEscapedNulIsFoundWhereJSONHasOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{`\\`, `\"`, `u0000`, `\u0001`, `\u0000`, `x`, `\n`})).Draw(t, "parts")
		document := `"` + strings.Join(parts, "") + `"`
		var decoded string
		if json.Unmarshal([]byte(document), &decoded) != nil {
			t.Skip("not valid JSON")
		}
		if got, want := hasNulEscape([]byte(document)), strings.Contains(decoded, "\x00"); got != want {
			t.Fatalf("hasNulEscape(%s) = %v, want %v", document, got, want)
		}
	})
}
