package es

import (
	"time"

	"github.com/google/uuid"
)

// Event is a fact that an application wants stored. It has no position yet:
// the store assigns AggregateVersion and GlobalPosition when it is appended
// (see PersistedEvent).
type Event struct {
	// CreatedAt is when the event happened. The zero value lets the database
	// set its own time.
	CreatedAt time.Time
	// BoundedContext names the part of the domain the aggregate lives in.
	BoundedContext string
	// AggregateType names the kind of aggregate, for example "User".
	AggregateType string
	// AggregateID identifies the aggregate within its context and type: a UUID
	// as text, an email address, any non-empty string.
	AggregateID string
	// EventType names what happened, for example "UserRegistered".
	EventType string
	// EventVersion is the version of the event type's schema. Zero means 1.
	EventVersion int
	// Payload is the event's content in whatever encoding the application uses.
	Payload []byte
	// Metadata is a JSON document, or nil.
	Metadata []byte
	// CausationID names the event or command that caused this one.
	CausationID NullString
	// CorrelationID links events that belong to one business process.
	CorrelationID NullString
	// TraceID links the event to a distributed trace.
	TraceID NullString
	// EventID identifies the event. The zero UUID lets the store draw one.
	EventID uuid.UUID
}

// PersistedEvent is an event as the store holds it.
type PersistedEvent struct {
	// CreatedAt is when the event happened.
	CreatedAt time.Time
	// BoundedContext names the part of the domain the aggregate lives in.
	BoundedContext string
	// AggregateType names the kind of aggregate.
	AggregateType string
	// AggregateID identifies the aggregate within its context and type.
	AggregateID string
	// EventType names what happened.
	EventType string
	// EventVersion is the version of the event type's schema.
	EventVersion int
	// AggregateVersion numbers the aggregate's events 1, 2, 3 ….
	AggregateVersion int64
	// GlobalPosition is the event's place in the whole stream. Positions grow
	// but are not dense: a rolled back transaction leaves a hole for ever.
	GlobalPosition int64
	// Payload is the event's content in whatever encoding the application uses. Projections share its memory and that of Metadata: a handler
	// must not change them, and copies what it wants to change.
	Payload []byte
	// Metadata is a JSON document, or nil.
	Metadata []byte
	// CausationID names the event or command that caused this one.
	CausationID NullString
	// CorrelationID links events that belong to one business process.
	CorrelationID NullString
	// TraceID links the event to a distributed trace.
	TraceID NullString
	// EventID identifies the event.
	EventID uuid.UUID
}

// AppendResult says what an append stored.
type AppendResult struct {
	// Events are the stored events, in the order in which they were given.
	Events []PersistedEvent
	// GlobalPositions are their positions, in the same order.
	GlobalPositions []int64
}

// FromVersion is the aggregate's version before the append; 0 for a new
// aggregate or an empty result.
func (r AppendResult) FromVersion() int64 {
	if len(r.Events) == 0 {
		return 0
	}
	return r.Events[0].AggregateVersion - 1
}

// ToVersion is the aggregate's version after the append; 0 for an empty result.
func (r AppendResult) ToVersion() int64 {
	if len(r.Events) == 0 {
		return 0
	}
	return r.Events[len(r.Events)-1].AggregateVersion
}

// Stream is an aggregate's events, or a range of them, ordered by version.
type Stream struct {
	BoundedContext string
	AggregateType  string
	AggregateID    string
	Events         []PersistedEvent
}

// Version is the version of the last event in the stream; 0 if it is empty.
func (s Stream) Version() int64 {
	if len(s.Events) == 0 {
		return 0
	}
	return s.Events[len(s.Events)-1].AggregateVersion
}

// IsEmpty says whether the stream has no events.
func (s Stream) IsEmpty() bool { return len(s.Events) == 0 }

// Len is the number of events in the stream.
func (s Stream) Len() int { return len(s.Events) }
