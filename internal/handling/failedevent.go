package handling

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// FailedEvent is projection.FailedEvent, which it converts to.
type FailedEvent struct {
	GlobalPosition   int64
	EventID          uuid.UUID
	EventType        string
	EventVersion     int
	BoundedContext   string
	AggregateType    string
	AggregateID      string
	AggregateVersion int64
	CreatedAt        time.Time
}

// FailedEventOf is an event without what may be large or secret. It keeps nothing of the event's memory alive.
func FailedEventOf(event es.PersistedEvent) FailedEvent {
	return FailedEvent{
		GlobalPosition: event.GlobalPosition, EventID: event.EventID, EventType: strings.Clone(event.EventType), EventVersion: event.EventVersion,
		BoundedContext: strings.Clone(event.BoundedContext), AggregateType: strings.Clone(event.AggregateType),
		AggregateID: strings.Clone(event.AggregateID), AggregateVersion: event.AggregateVersion, CreatedAt: event.CreatedAt,
	}
}

// longestError bounds what a handler's error may leave in logs and tables, in bytes.
const longestError = 8 << 10

// Abridged is a text cut to 8 KiB.
func Abridged(text string) string {
	if len(text) <= longestError {
		return text
	}
	return text[:longestError] + fmt.Sprintf("… (%d bytes)", len(text))
}
