package replicaset

import (
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Phase is what the worker's partitions are doing, as the coordinator knows it.
type Phase int

// The phases of a worker's partitions.
const (
	Idle     Phase = iota // nothing is alive
	Handling              // handling events
	Draining              // asked to stop, not stopped yet
)

// State is what a coordinator remembers between two looks at its replica set. The
// coordinator writes the first group of fields, and Decide the second.
type State struct {
	Self     uuid.UUID
	PollOnly bool
	Timing   Timing

	Partitions Phase
	Generation int64 // that the partitions are of
	Fenced     bool  // a checkpoint of that generation was not ours any more
	Trusted    bool  // the lease holds
	Leaving    bool
	Abandoned  []AbandonedHandler // of this worker, ordered by projection

	// RecordAgain is when the abandoned handlers are to be recorded again, on the worker's own clock, if they could not be. It goes on without
	// the record until then.
	RecordAgain time.Duration

	// Reconnected says that the session is not the worker's first.
	Reconnected bool
	// Refused is the backend of a frozen leader that this worker was not allowed to end.
	// RefusedAt is when that was, on the worker's own clock.
	Refused   int
	RefusedAt time.Duration

	// LeaderlessSince is when the leader's lock was first seen without a live worker that
	// holds it, on the worker's own clock. It is nil if a live worker holds it, or if it is free.
	LeaderlessSince *time.Duration
	// warned says that people were told who holds it.
	warned bool
	// absent is since when a worker's session has been missing at every look, on the
	// worker's own clock.
	absent map[uuid.UUID]time.Duration
	// pruned is the generation in which this worker last deleted old rows.
	pruned int64
	// withheld is the projections that were not started with the partitions, because of abandoned handlers that the generation does not leave out.
	withheld []string
	// lastAllocated is the highest position of the events table at the last look, and
	// changed says that it differed from the look before.
	lastAllocated int64
	changed       bool
}

// Timing is the intervals and bounds by which a worker decides.
type Timing struct {
	// Stale is the age at which a heartbeat proves its worker dead.
	Stale time.Duration
	// Coordination is how long a generation change waits for a worker.
	Coordination time.Duration
	// Observe is the leader's interval between two looks at its replica set,
	// Follow everybody else's; see NextLook.
	Observe, Follow time.Duration
	// Poll is the longest interval between two looks for new events.
	Poll time.Duration
	// Settle is how long a change waits that follows another closely.
	Settle time.Duration
	// Replace is how long the partitions of a worker that left wait for the one
	// that takes its place.
	Replace time.Duration
	// SessionGrace is how long after a restart of the server, or after its own session was
	// connected again, the leader declares nobody dead: right then nobody has a session.
	SessionGrace time.Duration
}

// AbandonedHandler is a call of a handler that did not return when it was to stop. The
// worker has stopped waiting for it, and handles no partition of its projection until
// the call has returned.
type AbandonedHandler struct {
	Projection string
	Partition  slot.Partition
	Generation int64
	// Position and EventID are of the event that it is at.
	Position int64
	EventID  uuid.UUID
}
