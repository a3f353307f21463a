// Package handling calls handlers safely, and decides what follows when they fail. The processor actor and the manual runner share it.
//
// [Describe] asks a projection for its name, scope and division, and refuses one that would lose what somebody meant to give it.
// [Handle] turns whatever a handler may do (panic, Goexit, hide a failed statement, end the transaction) into errors that name it.
//
// [Decide] is a pure function from a [Policy], what is remembered ([State]) and a [Failure] to a [Decision]. It first finds out who is at
// fault (fault.go): a concurrent transaction, the database or the connection, or an event. Conflicts, losses of the connection and
// handlers that were idle for too long are no event's failure, unless the connection is lost again and again at the same event. If only
// the whole batch is known to fail, it is divided until one event is left. The policy (policy.go) says what becomes of that event:
// retry, stop, skip or park. A worker and the manual runner both take a projection's error policy. Without one the worker retries without end, and the manual
// runner stops at the first failure. The caller performs the decision and does all I/O: actors/eventfailed.go and outcome.go, projection/failing.go.
//
// The package declares the interfaces that it needs, so that package projection, which documents them for users, can import it.
package handling
