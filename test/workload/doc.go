// Package workload keeps an orchestrator busy and proves afterwards that it did its job. The demonstration, the tests with
// faults and the benchmarks of recovery share it. It reads no flags; everything is values.
//
//   - [NewDatabase] is an empty database, [Target] is how every process of a run connects to it, [Migrate] makes all tables.
//   - [StartWriters] appends events from several connections at once, in transactions that overlap and some of which roll back.
//   - [Spawn] runs a worker as a process of its own, to be killed, stopped, frozen and thawed. The worker is the same program
//     started again, so its main function, or TestMain, begins with [ServeIfAsked].
//   - [Recorder] is the workers' projection: it logs each event that it handles, and keeps a read model, inside the batch's
//     transaction.
//   - [Observe] reads the state of a replica set from the coordination tables.
//   - [Checks] are the statements that prove, or disprove, that each event was handled once and in order.
//
// # What the log proves
//
// workload_log has no unique constraint on purpose: an event that is handled twice must be seen, not refused. Its column seq is
// drawn from a sequence while the event is handled. By itself that is the order in which handlers ran, not the order in which
// they committed: of two batches that overlapped, the one with the lower number might commit last. Two things close this
// gap. The statement that logs an event updates the aggregate's row in the read model first, and draws the number only when it
// has that row's lock, which it keeps until it commits; so for one projection and aggregate the numbers are in the order of the
// commits. And the read model counts for itself how often an event did not follow the version before it.
package workload
