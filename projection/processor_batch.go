package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

const (
	// endTimeout is how long COMMIT or ROLLBACK may take, whatever became of
	// the processor's context.
	endTimeout = 10 * time.Second

	// idleTimeout is how long a handler may leave its transaction idle, at first. It takes the place of the role's own
	// idle_in_transaction_session_timeout.
	idleTimeout = 10 * time.Minute

	// storeAfter is how many positions without a wanted event are passed before
	// the checkpoint is advanced for their sake alone.
	storeAfter = 10_000
)

// errCheckpointMoved says that the checkpoint's rows are not where the processor
// believed: nothing was handled.
var errCheckpointMoved = errors.New("another processor has moved the checkpoint")

// handle handles a page's events and remembers that the stream has been looked
// through up to the page's end. After a crash of the server the page is dropped: positions that it passed may be given again.
func (r *runner) handle(ctx context.Context, page eventread.Page) error {
	if time.Since(r.probed) > horizonAge {
		epoch := r.epoch
		if err := r.advance(ctx); err != nil || r.epoch != epoch {
			return err
		}
	}
	if len(page.Events) > 0 || page.UpTo >= r.stored()+storeAfter {
		if err := r.handleParts(ctx, page.Events, page.UpTo); err != nil {
			return err
		}
	}
	r.scanned = page.UpTo
	return nil
}

// handleParts handles the events in one transaction. If one fails, those before
// it are handled again in a transaction that is committed, and the failure is returned. To
// find the one that made HandleBatch or COMMIT fail, the events are divided.
func (r *runner) handleParts(ctx context.Context, events []es.PersistedEvent, upTo int64) error {
	var stopped error // at the event after the last of events
	for size := len(events); ; {
		part, to := events[:size], upTo
		if size < len(events) {
			to = part[size-1].GlobalPosition
		}
		d, err := r.handleBatch(ctx, part, to)
		if err != nil {
			return err
		}
		switch d.Verdict {
		case handling.Conflict, handling.Idle, handling.Database:
			r.size = max(1, len(part)/2)
			return repeated(part, d)
		case handling.Smaller:
			size = d.Size
			continue
		case handling.EventFailed:
			stopped = r.stoppedBy(part[d.Event], d.Err)
			if d.Event == 0 {
				return stopped
			}
			events, size, upTo = part[:d.Event], d.Size, part[d.Event-1].GlobalPosition
			continue
		}
		if r.size = min(2*r.size, r.config.BatchSize); size == len(events) {
			return stopped
		}
		events = events[size:]
		size = min(size, len(events))
	}
}

// handleBatch handles the events and advances the checkpoint to upTo, in one
// transaction. The decision is the zero value if that was committed. The error is of what came before the handlers, or of ctx.
func (r *runner) handleBatch(ctx context.Context, events []es.PersistedEvent, upTo int64) (d handling.Decision, err error) {
	begin, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	conn, err := r.db.Acquire(begin)
	if err != nil {
		return d, fmt.Errorf("acquiring a connection for a batch (the pool's limit is %d): %w", r.config.DB.Config().MaxConns, err)
	}
	hung := false
	defer func() {
		if !hung {
			dbguard.Release(conn, errors.Join(err, d.Err))
		}
	}()
	holds := r.rows.holds(r.own, upTo)
	tx, found, err := batchtx.Begin(begin, conn.Conn(), batchtx.Settings{
		ApplicationName: r.application, IdleTimeout: r.idle, SynchronousCommit: true,
	}, holds...)
	if err != nil {
		if begin.Err() != nil && ctx.Err() == nil {
			r.db.Suspect() // another processor has the rows, or the connection has died without a sign
		}
		return d, fmt.Errorf("locking the checkpoint of %q, partition %v, at %d: %w", r.name, r.partition, r.stored(), err)
	}
	if found != int64(len(holds)) {
		batchtx.Rollback(ctx, conn.Conn())
		return d, errCheckpointMoved
	}
	began := time.Now()
	handled, err := r.call(ctx, conn, tx, events)
	switch {
	case errors.Is(err, ErrHandlerRunning):
		hung = true // the handler still has the connection
		return d, err
	case err != nil:
		return r.rolledBack(ctx, tx, events, handled, time.Since(began), err)
	}
	end, cancelEnd := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancelEnd()
	if err := tx.CommitWith(end, r.rows.advances(r.own, upTo)...); err != nil {
		batchtx.Rollback(ctx, conn.Conn())
		lost := conn.Conn().IsClosed()
		if batchtx.Spoils(err) {
			batchtx.Close(conn.Conn())
		}
		if end.Err() != nil {
			r.db.Suspect()
		}
		err = fmt.Errorf("committing a batch of %q, partition %v, up to position %d: %w", r.name, r.partition, upTo, err)
		return r.decide(ctx, events, handling.Failure{Err: err, AtCommit: true, Lost: lost, Took: time.Since(began)}), nil
	}
	for i := range r.own {
		r.own[i].Position = max(r.own[i].Position, upTo)
	}
	r.failures = r.failures.Committed(upTo)
	return d, nil
}

// stoppedBy is the error that a failing event ends Run with.
func (r *runner) stoppedBy(event es.PersistedEvent, err error) error {
	if panicked, ok := errors.AsType[*handling.PanicError](err); ok {
		err = (*PanicError)(panicked)
	}
	return &StoppedError{
		Projection: r.name,
		Position:   event.GlobalPosition,
		EventID:    event.EventID,
		EventType:  event.EventType,
		Err:        err,
	}
}

// stored is the position of the lowest of the checkpoint's rows, as they are believed to be.
func (r *runner) stored() int64 { return slot.Lowest(piecesOf(r.own)) }

// highest is the position of the highest row.
func highest(rows []namedPiece) int64 {
	position := int64(0)
	for _, p := range rows {
		position = max(position, p.Position)
	}
	return position
}

// rollbackQuietly ends tx after an error that is being returned already; if it
// fails the connection is closed, and the server rolls back.
func rollbackQuietly(ctx context.Context, tx pgx.Tx) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = tx.Rollback(end)
}
