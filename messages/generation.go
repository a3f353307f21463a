package messages

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Assignment is what one worker handles in one generation.
type Assignment struct {
	Generation int64
	Partitions []PartitionAssignment
}

// PartitionAssignment is one partition and the projections that the worker
// handles it for.
type PartitionAssignment struct {
	Partition   slot.Partition
	Projections []ProjectionAssignment
}

// ProjectionAssignment is one projection in one partition: the slots, and how
// far each has been handled.
type ProjectionAssignment struct {
	Projection string
	Pieces     []slot.Piece
	// Unsettled is the highest position of an event that failed before and is still to be handled; 0 if there is none, and
	// UnsettledUnknown if that could not be read.
	Unsettled int64
	// Parked is the aggregates that are parked for the projection, of whatever slot.
	Parked []replicaset.Parked
	// Successions is which projections have replaced others at a cut-over, this one or any other.
	Successions []replicaset.Succession
}

// UnsettledUnknown is an Unsettled that could not be read.
const UnsettledUnknown = -1

// StartPartitions asks the supervisor to handle an assignment. Coordinator →
// supervisor, only after PartitionsStopped for all that came before. The
// supervisor drops it if the lease has expired meanwhile, and answers with
// PartitionsStopped then.
type StartPartitions struct{ Assignment Assignment }

// StopPartitions asks the supervisor to stop the partitions of a generation.
// Coordinator → supervisor. Processors finish the event they are at, commit and
// stop; what is not done within the drain time is cancelled. The answer is
// PartitionsStopped, also if nothing was running.
type StopPartitions struct {
	Generation int64
	// Now cancels at once, for a worker that must not go on.
	Now bool
	// Reason says why, for people.
	Reason string
}

// PartitionsStopped says that no processor of the generation, or of an earlier
// one, is alive: nothing is handled any more, but for what the abandoned handlers
// do, which cannot be committed. Supervisor → coordinator.
type PartitionsStopped struct{ Generation int64 }

// PartitionsRunning tells a respawned coordinator what it finds: the partitions
// of the generation are running, or on their way to stop. Supervisor →
// coordinator, before anything else.
type PartitionsRunning struct {
	Generation int64
	Stopping   bool
}

// Fenced says that a checkpoint no longer belongs to this worker in the
// generation; the processor has stopped for good. Processor → partition →
// supervisor → coordinator.
type Fenced struct {
	Generation int64
	Projection string
	Partition  slot.Partition
}

// CheckpointsChanged says that somebody has set checkpoints of this worker back, deleted them, or raised their revision: read them again. The
// number differs from that of the message before. Coordinator → supervisor → partitions → processors.
type CheckpointsChanged struct{ Number int64 }

// HandlersAbandoned says which handlers of this worker are abandoned, ordered by
// projection, generation and partition. Supervisor → coordinator, when it has changed,
// and before the PartitionsStopped of the generation in which it did.
type HandlersAbandoned struct{ Handlers []replicaset.AbandonedHandler }

// HandlersChanged says that a handler was abandoned, or that an abandoned one has
// returned: look which. From the record of running handlers → supervisor.
type HandlersChanged struct{}

func (HandlersAbandoned) toCoordinator() {}
func (HandlersChanged) toSupervisor()    {}
func (StartPartitions) toSupervisor()    {}
func (StopPartitions) toSupervisor()     {}
func (PartitionsStopped) toCoordinator() {}
func (PartitionsRunning) toCoordinator() {}
func (CheckpointsChanged) toSupervisor() {}
func (CheckpointsChanged) toPartition()  {}
func (CheckpointsChanged) toProcessor()  {}
func (Fenced) toPartition()              {}
func (Fenced) toSupervisor()             {}
func (Fenced) toCoordinator()            {}
