// Package orchestrator runs event-sourced projections on many workers, with no
// infrastructure beside the PostgreSQL that holds the events.
//
// Every process makes an Orchestrator for a replica set and calls Run:
//
//	orch, err := orchestrator.New(db, eventstore.New(), "main-projections")
//	…
//	err = orch.Run(ctx, []projection.Projection{&UserProjection{}})
//
// The processes of a replica set divide the stream of events among themselves,
// notice each other's arrival, departure and death, and divide it again: all
// pause, a new generation with new partitions is agreed, all go on with it.
//
// No event is lost, an event's effects in the handler's transaction happen
// exactly once, and events of one aggregate are handled in order. How, is
// written in docs/architecture.md.
//
// RunMigrations creates the coordination tables. Everything in them is plain
// rows, to be read with SQL.
package orchestrator
