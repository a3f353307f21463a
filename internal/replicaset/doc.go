// Package replicaset makes the decisions of a replica set: which workers are dead, which one leads, what happens next,
// and which worker gets which slots. It has values and pure functions and does no I/O. Package pgcoord reads and stores
// the values, and package actors carries out the decisions.
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
