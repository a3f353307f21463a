package projection

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// Projection turns events into something else: a read model, a message, a
// search document.
type Projection interface {
	// Name identifies the projection. Its checkpoints are kept under this name,
	// so renaming a projection starts it again from the first event.
	Name() string

	// Handle applies one event. tx is the transaction of the batch: what is
	// written through it is committed together with the checkpoint, so it
	// happens exactly once. Effects elsewhere happen at least once.
	//
	// tx belongs to the caller: Commit and Rollback on it return an error. A
	// returned error, or a panic, makes the event be handled again; what the
	// handler wrote through tx for it is rolled back first. To end the
	// transaction by SQL is such an error.
	//
	// The events of a batch share the transaction. What a handler sets by SET LOCAL, the
	// next event's handler sees, and a temporary table ON COMMIT DROP is still there. A handler that
	// must not be seen to do so resets it. The connection is one of the application's pool: what is set by SET without LOCAL stays
	// on it, as session locks, LISTEN and temporary tables do.
	//
	// A handler that sends no statement through tx for longer than the stale worker
	// timeout and the coordination timeout is called again, with more time. Effects
	// elsewhere are repeated then.
	//
	// ctx ends when the handler must give up; it carries a Delivery, with the
	// fencing token for systems that can check one. Handle must not keep tx or event
	// after it returned, nor change the event's bytes, which other projections
	// share, and may be called by several goroutines at once for
	// events of different partitions, never for two events of one aggregate.
	Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error
}

// ScopedProjection is a Projection that wants only some events. The database
// filters: events out of scope are never sent to the worker.
//
// Either method may be left out; see AggregateScoped and ContextScoped.
type ScopedProjection interface {
	Projection
	AggregateScoped
	ContextScoped
}

// AggregateScoped limits a projection to aggregates of some types.
type AggregateScoped interface {
	// AggregateTypes are the wanted types. Empty means all.
	AggregateTypes() []string
}

// ContextScoped limits a projection to some bounded contexts.
type ContextScoped interface {
	// BoundedContexts are the wanted contexts. Empty means all.
	BoundedContexts() []string
}

// BatchProjection is a Projection that handles a whole batch at once, so that
// it can write it with one statement. Handle is not called. Embed [BatchOnly] to have one.
//
// A HandleBatch with another signature is an error when the projection is run.
type BatchProjection interface {
	Projection

	// HandleBatch applies the events, which are in order, not empty, and all of
	// one partition. The rules of Handle hold for the batch as a whole. After an
	// error the batch is retried in smaller parts, down to the one event that
	// fails.
	//
	// The orchestrator gives it up to 16 events first, whenever a partition starts,
	// and then, up to its batch size, as many as calls before let expect to take some
	// 50 ms more than a call takes whatever its events. A call is not cut when it takes
	// longer; a stop waits for it.
	HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error
}

// Resettable is a projection that can empty its read model, so that admin.Admin.Reset can rebuild it.
type Resettable interface {
	// Reset empties the read model through tx. The projection's checkpoints are set back in the same transaction, so that either all of it happens or nothing
	// does. No batch of the projection runs meanwhile, on any worker. tx belongs to the caller: Commit and Rollback on it return an error. ctx ends when
	// Reset must give up: after half the coordination timeout when workers come or go meanwhile. Then it is called again, so it should be quick, as TRUNCATE is. An error undoes everything and ends the operation, unless another transaction or a lost connection is the cause: then Reset is called
	// again, so effects outside the transaction may be repeated.
	Reset(ctx context.Context, tx pgx.Tx) error
}

// Successor is a projection that is to take over from another one, with which it is passed to Run, in the same replica set. It is built beside the other one from
// the beginning of the stream. Until admin.Admin.CutOver its handlers are told (Delivery.Replay), so that they can leave out effects that the other one has. Then,
// in one transaction, the other one ends and this one goes on where it was.
//
// After the cut-over the method has no effect, and it can be removed when every database has had its cut-over. In a database where the other projection never runs,
// leave it out from the beginning: without a cut-over the projection replays for ever. A Replaces with another signature is an error when the projection is run. The manual
// processor has no cut-over, and refuses a Successor.
type Successor interface {
	// Replaces is the name of the other projection. Empty means none. The projection's own name is an error.
	Replaces() string
}

// UnpartitionedProjection is a Projection that must see all aggregates in one
// order: it gets a single partition, on one worker, whatever their number.
type UnpartitionedProjection interface {
	Projection

	// Unpartitioned says whether the projection must not be divided.
	Unpartitioned() bool
}
