package projection

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Projection turns events into something else, such as a read model, a message or a search document.
type Projection interface {
	// Name identifies the projection. Its checkpoints are stored under this name, so a renamed projection starts again
	// from the first event.
	Name() string

	// Handle applies one event. tx is the transaction of the batch. Everything written through tx is committed together
	// with the checkpoint, so it happens exactly once. Effects elsewhere happen at least once.
	//
	// tx belongs to the caller: Commit and Rollback on it return an error. If Handle returns an error or panics, what it
	// wrote through tx for this event is rolled back, and the event is handled again. Ending the transaction by SQL is
	// also an error.
	//
	// The events of a batch share the transaction. The next event's handler sees what SET LOCAL has set, and temporary
	// tables that are ON COMMIT DROP. A handler that must not affect the next one resets them. The connection comes from
	// the application's pool. A SET without LOCAL stays in effect on it, and so do session locks, LISTEN and temporary
	// tables.
	//
	// If a handler sends no statement through tx for longer than both the stale worker timeout and the coordination
	// timeout, it is called again, with more time. This repeats its effects elsewhere.
	//
	// ctx ends when the handler must give up. It carries a [Delivery], which has the fencing token for systems that can
	// check one. Handle must not keep tx or event after it has returned. A goroutine that uses tx after the batch has
	// ended gets [pgx.ErrTxClosed]. Handle must not change the event's bytes, which other projections share. Several
	// goroutines may call Handle at once for events of different partitions, but never for two events of one aggregate.
	Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error
}

// ScopedProjection is a Projection that wants only some events. The database filters them, so events out of scope are
// never sent to the worker.
//
// A projection may implement only one of the two methods: see [AggregateScoped] and [ContextScoped].
type ScopedProjection interface {
	Projection
	AggregateScoped
	ContextScoped
}

// AggregateScoped limits a projection to some aggregate types.
type AggregateScoped interface {
	// AggregateTypes returns the wanted types. Empty means all.
	AggregateTypes() []string
}

// ContextScoped limits a projection to some bounded contexts.
type ContextScoped interface {
	// BoundedContexts returns the wanted contexts. Empty means all.
	BoundedContexts() []string
}

// BatchProjection is a Projection that handles a whole batch in one call, for example to write it with one statement.
// Its Handle is never called. Embed [BatchOnly] to satisfy the interface.
//
// Running a projection whose HandleBatch has another signature is an error.
type BatchProjection interface {
	Projection

	// HandleBatch applies the events, which are in order, not empty, and all of one partition. The rules of Handle apply
	// to the batch as a whole. After an error the batch is retried in smaller parts, down to the one event that fails.
	//
	// Under the orchestrator, the first batch after a partition starts has up to 16 events. Later batches are sized, up
	// to the batch size, so that the time per call, excluding its fixed overhead, stays near 50 ms. A call that takes
	// longer is not interrupted, and a stop waits for it.
	HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error
}

// Resettable is a projection that can empty its read model, so that admin.Admin.Reset can rebuild it.
type Resettable interface {
	// Reset empties the read model through tx. The same transaction moves the projection's checkpoints back, so either
	// both happen or neither does. No worker runs a batch of the projection during the reset. tx belongs to the caller:
	// Commit and Rollback on it return an error.
	//
	// ctx ends when Reset must give up. If workers come or go during the reset, this is after half the coordination
	// timeout, and Reset is called again. It should therefore be quick, like TRUNCATE.
	//
	// An error undoes everything and ends the operation. If another transaction or a lost connection caused the error,
	// Reset is called again instead, so effects outside the transaction may be repeated.
	Reset(ctx context.Context, tx pgx.Tx) error
}

// Successor is a projection that will take over from another one. Pass both to Run, in the same replica set. The
// successor is built from the beginning of the stream while the other one keeps running. Until admin.Admin.CutOver,
// Delivery.Replay tells its handlers to leave out effects that the other projection has. At the cut-over, one
// transaction ends the other projection, and the successor continues at its position.
//
// After the cut-over the method has no effect. Remove it when every database has had its cut-over. In a database where
// the other projection never runs, leave it out from the start, since a projection without a cut-over replays forever.
// Running a projection whose Replaces has another signature is an error. The manual processor has no cut-over and
// refuses a Successor.
type Successor interface {
	// Replaces returns the name of the other projection. Empty means none. The projection's own name is an error.
	Replaces() string
}

// UnpartitionedProjection is a Projection that must see all aggregates in one order. It gets a single partition, on one
// worker, however many workers there are.
type UnpartitionedProjection interface {
	Projection

	// Unpartitioned reports whether the projection must not be divided.
	Unpartitioned() bool
}
