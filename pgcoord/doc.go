// Package pgcoord is the coordination of a replica set in PostgreSQL: its
// workers and their heartbeats, its generations, and the checkpoints of its
// projections. It is the only package that knows the coordination tables. What
// follows from what they say is decided in internal/replicaset.
//
// # What is where
//
//   - store.go: the names of tables, locks and the channel of one replica set
//   - workers.go: joining, states, heartbeats, leaving
//   - view.go: what a coordinator sees of its replica set, in one statement
//   - generations.go, activation.go: the two transitions of the Recreate strategy
//   - changes.go: what a generation was made for
//   - repair.go: checkpoints that people have deleted, moved or entered
//   - checkpoints.go: reading checkpoints
//   - regressions.go: the floor of a fresh horizon, and when positions went back below it
//   - batch.go: the fence: one batch of events in one transaction
//   - aid.go, abandoned.go: tables that nobody may need
//   - turns.go: batches of a projection that are in each other's way
//   - deadletters.go: the events that a handler failed on
//   - session.go: the dedicated coordination connection
//   - grants.go: what the role must be allowed
//   - pooler.go: what a pooler does not give, from internal/pooler
//   - prune.go: deleting what is long over
//   - blockers.go: ending backends that hold up a generation
//
// # The fence
//
// A batch is one transaction whose first statement locks its checkpoint rows and
// compares all that the worker believes: generation, worker and position. Its last
// one before COMMIT advances them.
// A new generation rewrites the same rows. So it waits for a batch in flight and
// sees its final position, and a later batch of the old generation updates
// nothing. There is no clock in it and no window between check and use.
//
// Rows are locked in one order everywhere: the generation's row first, then
// checkpoints by projection and slot_from.
//
// # Time
//
// Every time that is stored or compared is the database's. Ages leave it as
// durations, so that no process compares its own clock with a timestamp.
//
// The package is outside the module's compatibility promise.
package pgcoord
