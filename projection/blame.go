package projection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// lossesMost is how often in a row the connection may be lost while the same single event is handled before that is the
// event's failure.
const lossesMost = 3

// losses counts connections lost in a row while one event was handled.
type losses struct {
	position int64
	count    int
}

// failed rolls back and says what an error of a handler means: that its event failed, unless it shows a conflict with another transaction or
// the loss of the connection.
func (r *runner) failed(ctx context.Context, tx *batchtx.Tx, events []es.PersistedEvent, took time.Duration, err error) error {
	conflict := batchtx.IsConflict(err) || tx.Conflict()
	cause := err
	if last := tx.Last(); last != nil {
		cause = last
	}
	lost := tx.Abort(ctx)
	_, whole := r.projection.(handling.BatchHandler)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case conflict, lost && r.wasIdle(ctx, cause, took):
		return &passingError{fmt.Errorf("handling events from position %d: %w", events[0].GlobalPosition, err)}
	case !lost || closesConnection(err):
		return &handlerError{error: err, whole: whole}
	}
	return r.lost(events, fmt.Errorf("handling events from position %d, the connection was lost: %w", events[0].GlobalPosition, r.explained(err)))
}

// lost says what the loss of the connection means, while events were handled or committed: that the event failed, if it is alone and this was not the first time.
func (r *runner) lost(events []es.PersistedEvent, err error) error {
	if len(events) != 1 {
		return &passingError{err}
	}
	if at := events[0].GlobalPosition; r.losses.position != at {
		r.losses = losses{position: at}
	}
	if r.losses.count++; r.losses.count >= lossesMost {
		return &handlerError{error: fmt.Errorf("the connection was lost %d times while the event was handled: %w", r.losses.count, err)}
	}
	return &passingError{err}
}

// closesConnection says whether a handler's error explains by itself that its
// connection is closed: pgx closes it when a statement's context ends, and a
// panic may leave it in any state.
func closesConnection(err error) bool {
	var panicked *handling.PanicError
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &panicked)
}

// commitFailed says what an error of CommitWith means. The event has failed if a handler ended the transaction, or if the database refuses to commit what was
// written: then the answer speaks neither of the server nor of other transactions.
func (r *runner) commitFailed(closed bool, events []es.PersistedEvent, upTo int64, took time.Duration, err error) error {
	code := dbfault.Code(err)
	refused := batchtx.IsOfCommit(err) && code != "" && !dbfault.IsOfServer(err) && !dbfault.IsUnavailable(err) && !dbguard.IsStandby(err)
	handlers := refused || errors.Is(err, batchtx.ErrOwner) || errors.Is(err, batchtx.ErrReadOnly) || errors.Is(err, batchtx.ErrRows)
	err = fmt.Errorf("committing a batch of %q, partition %v, up to position %d: %w", r.name, r.partition, upTo, err)
	switch {
	case batchtx.IsConflict(err), closed && r.wasIdle(context.Background(), err, took):
		return &passingError{err}
	case handlers && len(events) > 0:
		return &handlerError{error: err, whole: true}
	case dbfault.IsConfiguration(err):
		return err // the role has lost a right, or the table is not there any more
	case closed || dbfault.HasClass(err, "XX"):
		return r.lost(events, r.explained(err))
	}
	return &passingError{err}
}

// wasIdle says whether the batch, which had taken so long, was ended because its handler had sent nothing for too long, and gives
// the next one more time.
func (r *runner) wasIdle(ctx context.Context, err error, took time.Duration) bool {
	more, ok := batchtx.MoreIdle(r.idle)
	if !ok || !batchtx.MayBeIdleEnd(err, took, r.idle) {
		return false
	}
	r.log.WarnContext(ctx, "a handler sent no statement for too long, so the server ended its transaction and the batch is repeated; it gets more time",
		"error", err, "idle_timeout", r.idle, "next_idle_timeout", more)
	r.idle = more
	return true
}

// explained says what ended the batch where the server's error does not.
func (r *runner) explained(err error) error {
	if !batchtx.IsIdleEnd(err) {
		return err
	}
	return fmt.Errorf("the handler sent no statement for longer than idle_in_transaction_session_timeout (the processor gives it %s), "+
		"so the server ended its transaction; a handler that takes so long for one event should do that work elsewhere: %w", r.idle, err)
}
