// Package actors runs one worker of one replica set as a tree of supervised actors:
//
//	supervisor                       life cycle: spawns, counts crashes, respawns with backoff
//	├── coordinator                  membership, leadership, generations
//	├── heartbeat                    renews the lease, reports when it expires
//	├── horizon                      finds the position up to which events can be read
//	├── reader                       reads for all processors of a generation
//	└── partition (one per k/N)      stopped and respawned by every generation
//	    └── processor (one per projection)   one batch per message
//
// Each actor's file begins with its protocol. Pure functions make the decisions, and the actors carry them out. The
// coordinator's actions come from replicaset.Decide, which takes the coordinator's state and what it sees in the tables.
// The reaction to a handler's failure comes from handling.Decide.
//
// # Supervision
//
// An actor that panics is stopped and spawned again. It is never restarted, since the library's restart does not check
// whether a stop is pending. Each parent is the supervisor strategy of its children. It counts the crash, stops the
// child, and starts a timer when the child has ended. A name is never used twice.
//
// Slow work of an actor (a statement) runs on a goroutine that sends its result back, so the actor can still be stopped.
// The processor is the exception. It handles a batch within Receive, so no batch is running once it has stopped. A new
// generation cancels the contexts of the old one first.
//
// The package is outside the module's compatibility promise. It exports no type of the actor library.
package actors
