package projection

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
)

// ErrProjectionStopped is what [PostgresProcessor.Run] returns, wrapped, after an
// event could not be handled. With an error policy it returns it again, without calling a handler, until a person decides. See [StoppedError].
var ErrProjectionStopped = errors.New("the projection goes no further than an event that it could not handle")

// StoppedError says which event stopped a projection, and why.
// errors.Is(err, ErrProjectionStopped) holds for it.
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
	// Err is what the handler returned, a [*PanicError] if it panicked, [ErrHandlerExited], [ErrTransactionAborted],
	// [ErrResultLeftOpen] or [ErrBatchTransaction].
	Err error
}

// Error names the event and the reason. The error of [PostgresProcessor.Run], which wraps it, names the projection.
func (e *StoppedError) Error() string {
	return fmt.Sprintf("%v: position %d, event %s of type %q: %v",
		ErrProjectionStopped, e.Position, e.EventID, e.EventType, e.Err)
}

// Unwrap is ErrProjectionStopped and the reason.
func (e *StoppedError) Unwrap() []error { return []error{ErrProjectionStopped, e.Err} }

// ErrHandlerRunning is what [PostgresProcessor.Run] returns, wrapped, if a handler had not returned 10s after ctx had ended. The
// connection of its transaction was closed, so the server rolls back what it wrote. The goroutine goes on until the handler returns.
var ErrHandlerRunning = errors.New("a handler did not return when its context ended")

// ErrBatchTransaction is returned to a handler that tries to end the transaction it was given, and is part of the error of a handler that
// did end it by SQL.
var ErrBatchTransaction = batchtx.ErrOwner

// ErrHandlerExited is the error of a handler that ended its goroutine with [runtime.Goexit], as testing.T.FailNow does.
var ErrHandlerExited = handling.ErrHandlerExited

// ErrTransactionAborted is the error of a handler that reported success although one of its statements had failed, which makes
// PostgreSQL refuse everything that follows in the transaction. A handler that expects a statement to fail wraps it in a savepoint
// (tx.Begin).
var ErrTransactionAborted = handling.ErrTransactionAborted

// ErrResultLeftOpen is the error of a handler that returned without reading or closing a result (pgx.Rows, pgx.BatchResults), so that
// the connection cannot be used.
var ErrResultLeftOpen = handling.ErrResultLeftOpen

// PanicError is a panic of a handler, as an error.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the stack of the handler's goroutine at the panic.
	Stack []byte
}

// Error describes the panic without its stack.
func (e *PanicError) Error() string { return (*handling.PanicError)(e).Error() }

// Unwrap is the panic's value if that is an error, else nil.
func (e *PanicError) Unwrap() error { return (*handling.PanicError)(e).Unwrap() }

// ErrCheckpointsContradict is what [PostgresProcessor.Run] returns, wrapped, where rows of different numbers of partitions
// give the same aggregate different positions. The text names two of them.
var ErrCheckpointsContradict = manual.ErrContradict

// ErrProjectionImported is what [PostgresProcessor.Run] returns, wrapped, where the projection has no checkpoint when it begins, because a replica set has taken
// it over by admin.Admin.ImportCheckpoints. Beginning at the first event would handle again what the workers have handled. It is not looked for in tables that the role may not read.
var ErrProjectionImported = errors.New("the projection was imported into a replica set, whose workers handle it")

// ErrCheckpointGone is what [PostgresProcessor.Run] returns, wrapped, where the partition's checkpoint is not there any more: it was
// deleted, as package admin does when it imports checkpoints, or a processor with another TotalPartitions has started.
var ErrCheckpointGone = errors.New("the partition's checkpoint is not there any more: somebody deleted it, a processor with another TotalPartitions has started, or its checkpoints were imported into a replica set")
