// Package admin is what operators and their tools do to a replica set: see how far it is, pause, rebuild and move projections, drain workers, see what could not be
// handled, and have it handled again or left out.
//
// It needs no worker in its own process, and changes nothing but rows. Every change is one transaction, and leaves a row in orchestrator_operations that says
// who did what, when and why, and what came of it.
//
//	a, err := admin.New(db, eventStore, "main-projections")
//	groups, err := a.FailureGroups(ctx, admin.Filter{Projection: "users"})
//	trials, err := a.Try(ctx, admin.Filter{Group: groups[0].Group})
//	result, err := a.Retry(ctx, admin.Filter{Group: groups[0].Group}, "after the fix of the address parser")
package admin
