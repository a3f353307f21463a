package messages

import (
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Assignment is everything that one worker handles in one generation.
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

// ProjectionAssignment is one projection in one partition: its slots, and how far each was handled.
type ProjectionAssignment struct {
	Projection string
	Pieces     []slot.Piece
	// Unsettled is the highest position of an event that failed before and must still be handled. It is 0 if there is no
	// such event, and UnsettledUnknown if that could not be read.
	Unsettled int64
	// Parked is the aggregates that are parked for the projection, in any slot.
	Parked []replicaset.Parked
	// Successions says which projections have replaced others at a cut-over. It may include other projections than this
	// one.
	Successions []replicaset.Succession
}

// UnsettledUnknown is the value of Unsettled if it could not be read.
const UnsettledUnknown = -1

// StartPartitions asks the supervisor to handle an assignment. Coordinator → supervisor, only after PartitionsStopped
// for everything before it. If the lease has expired in the meantime, the supervisor drops the message and answers with
// PartitionsStopped.
type StartPartitions struct{ Assignment Assignment }

// StopPartitions asks the supervisor to stop the partitions of a generation. Coordinator → supervisor. Processors finish
// their current event, commit and stop. Work that is not done within the drain time is cancelled. The answer is
// PartitionsStopped, even if nothing was running.
type StopPartitions struct {
	Generation int64
	// Now cancels at once. It is for a worker that must not continue.
	Now bool
	// Reason says why, for people.
	Reason string
}

// PartitionsStopped says that no processor of the generation, or of an earlier one, is alive. Nothing is handled any
// more, except by abandoned handlers, whose work cannot be committed. Supervisor → coordinator.
type PartitionsStopped struct{ Generation int64 }

// PartitionsRunning tells a respawned coordinator that the partitions of the generation are running or stopping.
// Supervisor → coordinator, before anything else.
type PartitionsRunning struct {
	Generation int64
	Stopping   bool
}

// Fenced says that a checkpoint no longer belongs to this worker in the generation, and that the processor has stopped
// permanently. Processor → partition → supervisor → coordinator.
type Fenced struct {
	Generation int64
	Projection string
	Partition  slot.Partition
}

// CheckpointsChanged says that somebody has moved checkpoints of this worker back, deleted them, or raised their
// revision. The receivers read them again. The number differs from that of the previous message. Coordinator →
// supervisor → partitions → processors.
type CheckpointsChanged struct{ Number int64 }

// HandlersAbandoned names the abandoned handlers of this worker, ordered by projection, generation and partition.
// Supervisor → coordinator, when they change. It comes before the PartitionsStopped of the generation in which they
// changed.
type HandlersAbandoned struct{ Handlers []replicaset.AbandonedHandler }

// HandlersChanged says that a handler was abandoned, or that an abandoned one has returned. The supervisor looks which.
// Record of running handlers → supervisor.
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
