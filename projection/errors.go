package projection

import (
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// ErrProjectionStopped is what [PostgresProcessor.Run] returns, wrapped, after an
// event could not be handled. See [StoppedError].
var ErrProjectionStopped = errors.New("the projection stopped at an event that it could not handle")

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
	// Err is what [HandleSafely] returned: the handler's error, a [*PanicError] …
	Err error
}

// Error names the projection, the event and the reason.
func (e *StoppedError) Error() string {
	return fmt.Sprintf("%v: projection %q, position %d, event %s of type %q: %v",
		ErrProjectionStopped, e.Projection, e.Position, e.EventID, e.EventType, e.Err)
}

// Unwrap is ErrProjectionStopped and the reason.
func (e *StoppedError) Unwrap() []error { return []error{ErrProjectionStopped, e.Err} }

// ErrHandlerRunning is what [PostgresProcessor.Run] returns, wrapped, if a handler had not returned 10s after ctx had ended. The
// connection of its transaction was closed, so the server rolls back what it wrote. The goroutine goes on until the handler returns.
var ErrHandlerRunning = errors.New("a handler did not return when its context ended")
