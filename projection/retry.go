package projection

import (
	"context"
	"errors"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/pooler"
)

// retries is the delay between attempts.
var retries = dbfault.Backoff{First: 100 * time.Millisecond, Max: 5 * time.Second}

// standbyDelay is the longest delay where a connection led to a standby. It was closed, and the next may lead to the primary.
const standbyDelay = 500 * time.Millisecond

// delayAfter is the delay after so many failures in a row, of which err is the last.
func delayAfter(failures int, err error) time.Duration {
	delay := retries.After(failures)
	if dbguard.IsStandby(err) || dbguard.IsBeginOnStandby(err) {
		return min(delay, standbyDelay)
	}
	return delay
}

// wait returns after the delay, or when ctx ends.
func wait(ctx context.Context, delay time.Duration) {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// passingError marks an error that came while events were handled and says nothing of them.
type passingError struct{ error }

func (e *passingError) Unwrap() error { return e.error }

// finalErrors end Run, besides what the database answers: see dbguard.MayPass.
var finalErrors = []error{
	ErrHandlerRunning, ErrCheckpointGone, ErrCheckpointsContradict, ErrProjectionImported,
	pooler.ErrNoPreparedStatements, pooler.ErrNoTransactions, pooler.ErrNoStartupParameters,
}

// transient says whether trying again can help.
func transient(err error) bool {
	if errors.Is(err, ErrProjectionStopped) {
		return false
	}
	if regressed, ok := errors.AsType[*horizon.RegressionError](err); ok {
		return !regressed.Floor
	}
	_, passing := errors.AsType[*passingError](err)
	return passing || dbguard.MayPass(err, finalErrors...)
}

// isRefusal says whether the database refused a statement, which it may not do on another connection.
func isRefusal(err error) bool {
	if errors.Is(err, ErrProjectionStopped) {
		return false
	}
	return dbrights.IsRefusal(err) || dbguard.HidesRows(err)
}
