// Package replicaset decides what becomes of a replica set: who is dead, who leads, what
// happens next, and who gets which slots. It holds values and pure functions and does no
// I/O: package pgcoord reads and stores its values, and package actors does what it decides.
//
// # What is where
//
//   - view.go: what a coordinator sees: the generation, the workers, the locks
//   - state.go: what it remembers between two looks, and the times that bound it
//   - decide.go, action.go: Decide, and what it may answer: the worker's own part
//   - lead.go: the leader's part: who is dead, when a generation is prepared and activated
//   - transition.go: the requests for these two
//   - schedule.go: when to look again
//   - ages.go: ages on the worker's own clock
//   - plan.go, member.go: who gets which slots in the next generation
//   - repair.go: checkpoints that people have deleted or moved
//   - parked.go, request.go, succession.go: values that the tables hold: parked aggregates, what people ask for, who has replaced whom
//   - changes.go: what a generation was made for, as data and in words
package replicaset
