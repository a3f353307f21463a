// Package projection says what a projection is and runs one by hand.
//
// A [Projection] handles events one by one; optional interfaces let it take whole
// batches ([BatchProjection]), only some events ([ScopedProjection]), or all aggregates
// in one order ([UnpartitionedProjection]). The same value runs under the orchestrator
// and under the manual [PostgresProcessor], which knows nothing of other workers. Never
// run it by both at once: each has its own checkpoints (docs/projections.md says how to go over).
//
// A batch is one transaction. It first locks the checkpoint and compares it
// with where this processor believes it to be: of two processors one waits and then
// finds that it was late. Then the events are handled in that transaction, then the
// checkpoint is advanced and all is committed: read model and checkpoint together, or
// neither.
// Only its owner can end the transaction that handlers get. What they may do (panic, Goexit, hide a failed
// statement) becomes an error that names it: see internal/handling. The horizon says how far may be read.
//
// What an error policy says of an event that failed is a transaction of its own (failing.go), and rows in two tables beside that of the checkpoints
// (letters.go). They are read after the checkpoint (load.go).
//
// The manual runner's checkpoints are rows for ranges of slots. Package internal/manual says which rows a partition is run with, so that every aggregate
// keeps its position when the number of partitions changes. It is a pure function; checkpoint.go performs it.
package projection
