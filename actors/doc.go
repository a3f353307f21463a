// Package actors runs one worker of one replica set as a tree of supervised
// actors:
//
//	supervisor                       life cycle: spawns, counts crashes, respawns with backoff
//	├── coordinator                  membership, leadership, generations
//	├── heartbeat                    renews the lease; says so when its trust ends
//	├── horizon                      up to where events can be read
//	├── reader                       reads for all processors of a generation
//	└── partition (one per k/N)      stopped and spawned again by every generation
//	    └── processor (one per projection)   one batch per message
//
// Each actor's file begins with its protocol. Deciding is apart from doing:
// what the coordinator does follows from replicaset.Decide, a pure function of its
// state and of what it sees in the tables, and what follows a failure of a handler
// from handling.Decide.
//
// # Supervision
//
// An actor that panics is stopped and spawned again, never restarted: the
// library's restart does not look whether a stop is pending. Each parent is the
// strategy of its children. It counts the crash, stops the child, and arms a
// timer when it hears that the child has ended; names are never used twice.
//
// An actor's work that takes time (a statement) runs on a goroutine that sends
// its result back, so that the actor stays able to stop. The processor is the
// exception: it handles a batch within Receive, so that it has stopped when it
// says it has. A new generation cancels the old one's contexts first.
//
// The package is outside the module's compatibility promise; no type of the
// actor library appears in what it exports.
package actors
