package projection

import (
	"time"

	"github.com/google/uuid"
)

// Failure describes a failed attempt at an event, for orchestrator.WithFailureHook and ProcessorConfig.FailureHook.
type Failure struct {
	// ReplicaSet, Worker, Generation, PartitionKey and TotalPartitions say where the handler was called: see [Delivery]. The first three are zero
	// under the manual runner.
	ReplicaSet                    string
	Worker                        uuid.UUID
	Generation                    int64
	PartitionKey, TotalPartitions int

	// Projection is the projection's name.
	Projection string
	// Event is the event that failed.
	Event FailedEvent
	// Attempt counts the consecutive failed attempts at the event, including this one. The count survives restarts.
	Attempt int
	// Class is the kind of failure.
	Class Class
	// Retry is true if the event will be handled again, after Delay. Otherwise Outcome says what happened to it.
	Retry bool
	Delay time.Duration
	// Outcome is what happened to the event, as stored in the tables. It has no meaning if Retry is set.
	Outcome Outcome
	// Err is the handler's error: a [*PanicError] if it panicked.
	Err error
}

// FailedEvent is an event without its payload and metadata, which may be large or secret.
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
