// Package eventtest has events for the tests of several packages.
package eventtest

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Event is an event of aggregate id that is valid and has nothing optional.
func Event(id string) es.Event {
	return es.Event{
		BoundedContext: "sales",
		AggregateType:  "Order",
		AggregateID:    id,
		EventType:      "OrderPlaced",
		Payload:        []byte(`{"total":1}`),
	}
}

// Numbered are n events of aggregate id, numbered by their payloads.
func Numbered(id string, n int) []es.Event {
	events := make([]es.Event, n)
	for i := range events {
		events[i] = Event(id)
		events[i].Payload = fmt.Appendf(nil, "%d", i)
	}
	return events
}

// Awkward is an append full of what an encoding could get wrong.
func Awkward() []es.Event {
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
