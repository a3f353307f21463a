package projection

import (
	"context"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// Delivery tells a handler which worker calls it and why. Its Generation is the fencing token. A system outside
// PostgreSQL can remember the highest token that it has seen for a projection, and refuse lower ones. A worker that has
// been replaced then cannot write to it after its successor has written.
//
// The token is not an idempotency key. An event that is handled again, after a rollback or a crash, comes with the same
// token or with a higher one. Use the event's id to recognise it.
type Delivery struct {
	// ReplicaSet, Worker and Generation identify the worker and the configuration
	// it works in. Generations are numbered 1, 2, 3 … per replica set.
	ReplicaSet string
	Worker     uuid.UUID
	Generation int64
	// PartitionKey and TotalPartitions identify the partition: key of total.
	PartitionKey, TotalPartitions int
	// Trial is true if the transaction will be rolled back whatever the handler returns. An operator has asked whether
	// events of a parked aggregate could be handled now. Leave out effects that a rollback does not undo.
	Trial bool
	// Replay is true if the projection is a [Successor] that has not taken over yet. The projection that it replaces
	// also handles the event, or has done so. Write the read model, and leave out all other effects. The batch commits
	// only if Replay still holds. Replay is false for all other projections.
	Replay bool
}

// DeliveryFrom returns the delivery from a handler's context. ok is false if the orchestrator did not call the handler:
// under the manual runner, and in tests of a handler.
func DeliveryFrom(ctx context.Context) (d Delivery, ok bool) {
	d, ok = handling.DeliveryFrom(ctx).(Delivery)
	return d, ok
}
