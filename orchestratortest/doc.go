// Package orchestratortest helps to test projections.
//
// Handle passes events to a handler within a transaction of the test, without workers. CatchUp runs a worker that
// handles all appended events, as in production. CheckLaws checks that the read model does not depend on how workers
// handle the events. Failing makes a projection fail on chosen events.
package orchestratortest
