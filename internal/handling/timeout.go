package handling

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// TimeoutError is the cause with which the context of a call of a handler ends when the policy's timeout is over. It wraps
// [context.DeadlineExceeded].
type TimeoutError struct{ Limit time.Duration }

// Error says how long the call might take.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the handler took longer than the error policy's Timeout of %s", e.Limit)
}

// Unwrap is context.DeadlineExceeded.
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }

// asTimeout is the TimeoutError in err, if there is one.
func asTimeout(err error) (*TimeoutError, bool) { return errors.AsType[*TimeoutError](err) }

// limited is ctx for one call of a handler.
func (r *run) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if r.limit <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, r.limit, &TimeoutError{r.limit})
}

// overTime adds to the error of a call that its time was over, if it was. A success counts although it came late, unless the driver has
// closed the connection meanwhile.
func (r *run) overTime(ctx context.Context, err error) error {
	if r.limit <= 0 || ctx.Err() == nil {
		return err
	}
	late, ok := asTimeout(context.Cause(ctx))
	closed := r.tx != nil && r.tx.Conn() != nil && r.tx.Conn().IsClosed()
	switch {
	case !ok || err == nil && !closed:
		return err
	case err == nil:
		return late
	}
	if _, panicked := errors.AsType[*PanicError](err); panicked {
		return err
	}
	return fmt.Errorf("%w: %w", late, err)
}
