package es

import (
	"time"

	"github.com/google/uuid"
)

// Event is a fact that an application wants to store. It has no position yet. The store assigns AggregateVersion and
// GlobalPosition when it appends the event (see PersistedEvent).
type Event struct {
	// CreatedAt is when the event happened. If it is zero, the database sets its own time.
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
	// EventID identifies the event. If it is the zero UUID, the store generates one.
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
	// GlobalPosition is the event's place in the whole stream. Positions increase but have gaps: a transaction that was
	// rolled back leaves a permanent one.
	GlobalPosition int64
	// Payload is the event's content in whatever encoding the application uses. Projections share the memory of Payload
	// and Metadata. A handler must not change them; it copies what it wants to change.
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

// AppendResult is what an append stored.
type AppendResult struct {
	// Events are the stored events, in the order in which they were passed.
	Events []PersistedEvent
	// GlobalPositions are their positions, in the same order.
	GlobalPositions []int64
}

// FromVersion returns the aggregate's version before the append. It is 0 for a new aggregate or an empty result.
func (r AppendResult) FromVersion() int64 {
	if len(r.Events) == 0 {
		return 0
	}
	return r.Events[0].AggregateVersion - 1
}

// ToVersion returns the aggregate's version after the append. It is 0 for an empty result.
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

// Version returns the version of the last event in the stream. It is 0 if the stream is empty.
func (s Stream) Version() int64 {
	if len(s.Events) == 0 {
		return 0
	}
	return s.Events[len(s.Events)-1].AggregateVersion
}

// IsEmpty reports whether the stream has no events.
func (s Stream) IsEmpty() bool { return len(s.Events) == 0 }

// Len returns the number of events in the stream.
func (s Stream) Len() int { return len(s.Events) }
