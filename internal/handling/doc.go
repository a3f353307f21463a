// Package handling calls handlers safely, and decides what follows when they fail. The processor actor and the manual runner share it.
//
// [Describe] asks a projection for its name, scope and division. It refuses a projection in which an optional interface
// would be silently ignored, because a wrapper hides it or a method has another signature. [Handle] turns everything
// that a handler may do wrong (panic, Goexit, hide a failed statement, end the transaction) into errors that name it.
//
// [Decide] is a pure function from a [Policy], a remembered [State] and a [Failure] to a [Decision]. It first finds the
// cause (fault.go): a concurrent transaction, the database or the connection, or an event. Conflicts, lost connections
// and handlers that were idle for too long do not count as failures of an event, unless the connection is lost
// repeatedly at the same event. If a whole batch fails and the event is not known, Decide divides the batch until one
// event is left. The policy (policy.go) gives the outcome of that event: retry, stop, skip or park. A worker and the
// manual runner both take a projection's error policy. Without one the worker retries without end, and the manual runner
// stops at the first failure. The caller performs the decision and does all I/O: actors/eventfailed.go and outcome.go,
// projection/failing.go.
//
// The package declares the interfaces that it needs, so that package projection, which documents them for users, can import it.
package handling
