package projection

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
)

// ErrProjectionStopped means that an event could not be handled. [PostgresProcessor.Run] returns an error that wraps it.
// With an error policy, Run returns it again, without calling a handler, until a person decides. See [StoppedError].
var ErrProjectionStopped = errors.New("the projection goes no further than an event that it could not handle")

// StoppedError says which event stopped a projection, and why. errors.Is(err, ErrProjectionStopped) is true for it.
type StoppedError struct {
	// Projection is the projection's name.
	Projection string
	// Position is the event's global position. All wanted events before it have
	// been handled.
	Position int64
	// EventID identifies the event.
	EventID uuid.UUID
	// EventType is the event's type.
	EventType string
	// Err is the handler's error. It is a [*PanicError] if the handler panicked, and may be [ErrHandlerExited],
	// [ErrTransactionAborted], [ErrResultLeftOpen] or [ErrBatchTransaction].
	Err error
}

// Error names the event and the reason. The error of [PostgresProcessor.Run] wraps it and names the projection.
func (e *StoppedError) Error() string {
	return fmt.Sprintf("%v: position %d, event %s of type %q: %v",
		ErrProjectionStopped, e.Position, e.EventID, e.EventType, e.Err)
}

// Unwrap returns ErrProjectionStopped and the reason.
func (e *StoppedError) Unwrap() []error { return []error{ErrProjectionStopped, e.Err} }

// ErrHandlerRunning means that a handler had not returned 10s after ctx had ended. [PostgresProcessor.Run] returns an
// error that wraps it. Run closes the connection of the handler's transaction, so the server rolls back what the handler
// wrote. The goroutine keeps running until the handler returns.
var ErrHandlerRunning = errors.New("a handler did not return when its context ended")

// ErrBatchTransaction means that a handler tried to end the transaction it was given. Commit and Rollback return it to
// the handler. If a handler ends the transaction by SQL, the handler's error contains it.
var ErrBatchTransaction = batchtx.ErrOwner

// ErrHandlerExited means that a handler ended its goroutine with [runtime.Goexit], as testing.T.FailNow does.
var ErrHandlerExited = handling.ErrHandlerExited

// ErrTransactionAborted means that a handler reported success although one of its statements had failed. After a failed
// statement PostgreSQL refuses all later statements of the transaction. A handler that expects a statement to fail wraps
// it in a savepoint (tx.Begin).
var ErrTransactionAborted = handling.ErrTransactionAborted

// ErrResultLeftOpen means that a handler returned without reading or closing a result (pgx.Rows, pgx.BatchResults), so
// the connection cannot be used.
var ErrResultLeftOpen = handling.ErrResultLeftOpen

// PanicError is the panic of a handler as an error.
type PanicError struct {
	// Value is the value that the handler panicked with.
	Value any
	// Stack is the stack of the handler's goroutine at the panic.
	Stack []byte
}

// Error describes the panic without its stack.
func (e *PanicError) Error() string { return (*handling.PanicError)(e).Error() }

// Unwrap returns the panic's value if it is an error, and nil otherwise.
func (e *PanicError) Unwrap() error { return (*handling.PanicError)(e).Unwrap() }

// ErrCheckpointsContradict means that rows of different numbers of partitions give the same aggregate different
// positions. [PostgresProcessor.Run] returns an error that wraps it and names two such rows.
var ErrCheckpointsContradict = manual.ErrContradict

// ErrProjectionImported means that the projection has no checkpoint when Run begins, because
// admin.Admin.ImportCheckpoints has moved it to a replica set. [PostgresProcessor.Run] returns an error that wraps it.
// Starting at the first event would repeat what the workers have handled. Run does not look for an import in tables that
// its role may not read.
var ErrProjectionImported = errors.New("the projection was imported into a replica set, whose workers handle it")

// ErrCheckpointGone means that the partition's checkpoint no longer exists. Either somebody deleted it, as package admin
// does when it imports checkpoints, or a processor with another TotalPartitions has started. [PostgresProcessor.Run]
// returns an error that wraps it.
var ErrCheckpointGone = errors.New("the partition's checkpoint is not there any more: somebody deleted it, a processor with another TotalPartitions has started, or its checkpoints were imported into a replica set")
