package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

const (
	// endTimeout is how long COMMIT or ROLLBACK may take, whatever became of
	// the processor's context.
	endTimeout = 10 * time.Second

	// storeAfter is how many positions without a wanted event are passed before
	// the checkpoint is lifted for their sake alone.
	storeAfter = 10_000
)

// errCheckpointMoved says that the checkpoint's row is not where the processor
// believed: nothing was handled.
var errCheckpointMoved = errors.New("another processor has moved the checkpoint")

// handle handles a page's events and remembers that the stream has been looked
// through up to the page's end.
func (r *runner) handle(ctx context.Context, page eventstore.Page) error {
	if len(page.Events) > 0 || page.UpTo >= r.stored+storeAfter {
		if err := r.handleParts(ctx, page.Events, page.UpTo); err != nil {
			return err
		}
	}
	r.scanned = page.UpTo
	return nil
}

// handleParts handles the events in one transaction. If one fails, those before
// it are handled again in a transaction that is committed, and the failure is returned. To
// find the one that made HandleBatch fail, the events are divided.
func (r *runner) handleParts(ctx context.Context, events []es.PersistedEvent, upTo int64) error {
	var stopped error
	for size := len(events); ; {
		part, to := events[:size], upTo
		if size < len(events) {
			to = part[size-1].GlobalPosition
		}
		handled, err := r.handleBatch(ctx, part, to)
		var failure *handlerError
		switch {
		case errors.As(err, &failure):
			if len(part) == 1 || handled == 0 && !r.wholeBatches() {
				return r.stoppedBy(part[0], failure.error)
			}
			if r.wholeBatches() {
				size = (size + 1) / 2
				continue
			}
			stopped, size = r.stoppedBy(part[handled], failure.error), handled
		case err != nil:
			return err
		case stopped != nil:
			return stopped
		default:
			r.stored = to
			if events = events[size:]; len(events) == 0 {
				return nil
			}
			size = min(size, len(events))
		}
	}
}

// wholeBatches says whether the projection gets its events by HandleBatch.
func (r *runner) wholeBatches() bool {
	_, ok := r.config.Projection.(BatchProjection)
	return ok
}

// handlerError marks an error as one of the projection, not of the runner.
type handlerError struct{ error }

func (e *handlerError) Unwrap() error { return e.error }

// handleBatch handles the events and lifts the checkpoint to upTo, in one
// transaction. handled counts the events before the one that failed.
func (r *runner) handleBatch(ctx context.Context, events []es.PersistedEvent, upTo int64) (handled int, err error) {
	conn, err := r.config.DB.Acquire(ctx)
	if err != nil {
		return 0, fmt.Errorf("acquiring a connection for a batch (the pool's limit is %d): %w", r.config.DB.Config().MaxConns, err)
	}
	defer conn.Release()
	tx, err := r.row.beginAt(ctx, conn.Conn(), r.stored)
	if err != nil {
		return 0, err
	}
	handled, err = HandleSafely(ctx, r.config.Projection, GuardTx(tx), events, nil)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err == nil {
		if err = r.row.commitAt(end, tx, r.stored, upTo); err != nil {
			return 0, err
		}
		return handled, nil
	}
	_ = tx.Rollback(end) // if it fails, it closes the connection
	if conn.Conn().IsClosed() && !closesConnection(err) {
		return 0, &lostError{fmt.Errorf("handling events: %w", err)}
	}
	return handled, &handlerError{err}
}

// closesConnection says whether a handler's error explains by itself that its
// connection is closed: pgx closes it when a statement's context ends, and a
// panic may leave it in any state.
func closesConnection(err error) bool {
	var panicked *PanicError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &panicked)
}

// stoppedBy is the error that a failing event ends Run with.
func (r *runner) stoppedBy(event es.PersistedEvent, err error) error {
	return &StoppedError{
		Projection: r.config.Projection.Name(),
		Position:   event.GlobalPosition,
		EventID:    event.EventID,
		EventType:  event.EventType,
		Err:        err,
	}
}

// rollbackQuietly ends tx after an error that is being returned already; if it
// fails the connection is closed, and the server rolls back.
func rollbackQuietly(ctx context.Context, tx pgx.Tx) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = tx.Rollback(end)
}
