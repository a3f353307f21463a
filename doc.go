// Package orchestrator runs event-sourced projections on many workers. It needs no infrastructure other than the
// PostgreSQL database that holds the events.
//
// Every process makes an Orchestrator for a replica set and calls Run:
//
//	orch, err := orchestrator.New(db, eventstore.New(), "main-projections")
//	…
//	err = orch.Run(ctx, []projection.Projection{&UserProjection{}})
//
// The processes of a replica set divide the stream of events among themselves. When a process arrives, leaves or dies,
// the others notice and divide the stream again: all workers pause, agree on a new generation with new partitions, and
// continue with it.
//
// No event is lost. The effects that an event has in the handler's transaction happen exactly once. Each projection
// handles the events of one aggregate in order. docs/architecture.md explains how.
//
// RunMigrations creates the coordination tables. All state is in plain rows that you can query with SQL.
package orchestrator
