// Package admin is the library that operators and their tools use on a replica set. It shows how far the replica set is,
// pauses, rebuilds and moves projections, and drains workers. It also shows the events that could not be handled, and
// retries or discards them.
//
// It needs no worker in its own process, and changes only rows. Every change is one transaction. It leaves a row in
// orchestrator_operations that says who did what, when and why, and with what result.
//
//	a, err := admin.New(db, eventStore, "main-projections")
//	groups, err := a.FailureGroups(ctx, admin.Filter{Projection: "users"})
//	trials, err := a.Try(ctx, admin.Filter{Group: groups[0].Group})
//	result, err := a.Retry(ctx, admin.Filter{Group: groups[0].Group}, "after the fix of the address parser")
package admin
