// Package pgcoord is the coordination of a replica set in PostgreSQL: its workers and their heartbeats, its generations,
// and the checkpoints of its projections. It contains everything that workers read and write in the coordination tables.
// Package admin has the SQL of operators. internal/replicaset makes the decisions that follow from the tables' contents.
//
// # What is where
//
//   - store.go: the names of tables, locks and the channel of one replica set
//   - workers.go, version.go: joining, states, heartbeats, leaving, and the library's version
//   - view.go: what a coordinator sees of its replica set, in one statement
//   - replicasets.go: which replica sets there are
//   - generations.go, activation.go: the two transitions of the Recreate strategy
//   - changes.go: what a generation was made for
//   - repair.go: checkpoints that people have deleted, moved or entered
//   - checkpoints.go: reading checkpoints
//   - regressions.go: the floor of a fresh horizon, and when positions went back below it
//   - batch.go: the fence: one batch of events in one transaction
//   - outcome.go, parked.go: what a batch records of events that are skipped, stopped at or put aside
//   - turns.go: batches of a projection that are in each other's way
//   - deadletters.go: the events that a handler failed on
//   - requests.go, reset.go: what people ask a projection's owner to do: letters, and emptying a read model
//   - successions.go: which projections have replaced others
//   - aid.go, abandoned.go, drains.go, samples.go: tables that nobody may need
//   - standing.go: how far projections have come, for whoever waits for an event
//   - session.go: the dedicated coordination connection
//   - notify.go, announcements.go, wakeups.go: notifications: of changes, of the leader's horizon, of appends
//   - grants.go: what the role must be allowed
//   - pooler.go: what a pooler does not give, from internal/pooler
//   - prune.go: deleting what is long over
//   - reads.go: several reads in one message
//   - blockers.go: ending backends that hold up a generation
//
// # The fence
//
// A batch is one transaction. Its first statement locks the checkpoint rows and compares everything that the worker
// believes: generation, worker, position and revision. Every change by an operator raises the revision. The last
// statement before COMMIT advances the rows. A new generation rewrites the same rows, so it waits for a batch in flight
// and sees its final position. A later batch of the old generation updates nothing. No clock is involved, and there is
// no window between check and use.
//
// Rows are locked in one order everywhere: the generation's row first, then
// checkpoints by projection and slot_from.
//
// # Time
//
// All stored times are the database's. Statements return ages as durations. No
// process compares its own clock with a stored time. A worker decides who is dead by
// its own clock: it measures how long a value, such as a heartbeat, has not changed.
// The database's ages count only at its first look (internal/replicaset/ages.go).
//
// The package is outside the module's compatibility promise.
package pgcoord
