// Package projection defines projections and runs one without coordination.
//
// A [Projection] handles events one by one. Optional interfaces let it take whole batches ([BatchProjection]), only some
// events ([ScopedProjection]), or all aggregates in one order ([UnpartitionedProjection]). The same value runs under the
// orchestrator and under the manual runner, [PostgresProcessor], which knows nothing of other workers. Never run a
// projection under both at once, since each has its own checkpoints. docs/projections.md explains how to move from one
// to the other.
//
// The manual runner handles each batch in one transaction. It first locks the checkpoint and compares its position with
// the expected one. If two processors run the same partition, one waits for the other and then finds that the checkpoint
// has moved. Otherwise the transaction runs the handlers, advances the checkpoint and commits. Read model and checkpoint
// therefore change together or not at all.
//
// Handlers get a transaction that only its owner can end. If a handler panics, calls Goexit or hides a failed statement,
// the result is an error that names the cause (see internal/handling). The processor reads events up to the horizon.
//
// The outcome of a failed event is a transaction of its own (failing.go). It is stored in two tables beside the
// checkpoints table (letters.go), which are read after the checkpoint (load.go).
//
// The manual runner keeps its checkpoints as rows for ranges of slots. When the number of partitions changes, every
// aggregate keeps its position. Package internal/manual computes the new rows with a pure function, and checkpoint.go
// writes them.
package projection
