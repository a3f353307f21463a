package handling

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// isConflict says whether a concurrent transaction was in the way.
func (f Failure) isConflict() bool { return f.Conflict || batchtx.IsConflict(f.Err) }

// idleEnd says whether the server ended the transaction because its handlers had sent nothing for too long, and how long the next may be
// idle. Where it may not be longer, that is a loss of the connection like others.
func (f Failure) idleEnd() (more time.Duration, ended bool) {
	cause := f.Err
	if !f.AtCommit && f.Cause != nil {
		cause = f.Cause
	}
	more, ok := batchtx.MoreIdle(f.Idle)
	return more, ok && f.Idle > 0 && f.Lost && batchtx.MayBeIdleEnd(cause, f.Took, f.Idle)
}

// againstTheOwner are what handlers may do to the transaction, found out at commit.
var againstTheOwner = []error{batchtx.ErrOwner, batchtx.ErrReadOnly, batchtx.ErrRows}

// handlerAtFault says whether the failure speaks of the events or their handlers. A handler's error does, unless the connection was lost
// meanwhile. Then it must explain the loss by itself, as the end of the handler's own context does, for which pgx closes the connection.
// An error of the commit does if a handler had ended the transaction, or if COMMIT refuses what was written. The statements before
// COMMIT are not the handlers'.
func (f Failure) handlerAtFault() bool {
	if f.Events == 0 {
		return false
	}
	if slices.ContainsFunc(againstTheOwner, func(one error) bool { return errors.Is(f.Err, one) }) {
		return true
	}
	if f.AtCommit {
		return batchtx.IsOfCommit(f.Err) && refused(f.Err)
	}
	ownTime := errors.Is(f.Err, context.DeadlineExceeded) || errors.Is(f.Err, context.Canceled)
	return !f.Lost || ownTime || refused(f.Err)
}

// refused says whether the database's answer speaks of what was asked of it, rather than of the server, the connection or other
// transactions.
func refused(err error) bool {
	return dbfault.Code(err) != "" && !dbfault.IsOfServer(err) && !dbfault.IsUnavailable(err) && !dbguard.IsStandby(err)
}

// connectionLoss says whether what no event is at fault for may still be the doing of one, if it happens again and again: the connection
// was lost, the server broke (XX), or the connection's prepared statements were gone (26).
func (f Failure) connectionLoss() bool {
	return f.Events > 0 && (f.Lost || f.AtCommit && dbfault.HasClass(f.Err, "XX", "26"))
}
