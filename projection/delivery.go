package projection

import (
	"context"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// Delivery says on whose behalf a handler is called. Its Generation is the
// fencing token: a system outside PostgreSQL that remembers the highest token it
// has seen for a projection, and refuses lower ones, is not written by a worker that has
// been replaced, once its successor has written.
//
// The token is no idempotency key. An event that is handled again, after a rollback or
// a crash, comes with the same token or with a higher one. Use the event's id to
// recognise it.
type Delivery struct {
	// ReplicaSet, Worker and Generation identify the worker and the configuration
	// it works in. Generations are numbered 1, 2, 3 … per replica set.
	ReplicaSet string
	Worker     uuid.UUID
	Generation int64
	// PartitionKey and TotalPartitions name the partition, key of total.
	PartitionKey, TotalPartitions int
	// Trial says that the transaction will be rolled back, whatever the handler returns: somebody has asked whether events of a parked
	// aggregate could be handled now. Leave out what a rollback does not undo.
	Trial bool
	// Replay says that the projection is a [Successor] that has not taken over yet: the projection that it replaces handles the event as well, or has done so. Write the
	// read model, and leave out all other effects. The batch commits only if that is still so. It is false for all other projections.
	Replay bool
}

// DeliveryFrom is the delivery that a handler's context carries. ok is false
// where the orchestrator does not call it: under the manual runner, and in the
// tests of a handler.
func DeliveryFrom(ctx context.Context) (d Delivery, ok bool) {
	d, ok = handling.DeliveryFrom(ctx).(Delivery)
	return d, ok
}
