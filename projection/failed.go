package projection

import (
	"context"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// This file decides what happens after a batch of the manual runner was not committed. If an event has failed,
// failing.go applies the error policy.

// noPolicy applies if no error policy is set: Run ends at the first failed event.
var noPolicy = handling.Policy{Attempts: 1, Then: handling.Stop, MaxParked: handling.DefaultMaxParked, MaxParkedEvents: handling.DefaultMaxParked}

// rolledBack rolls back and decides what happens after a handler's error. It returns an error only if ctx has ended.
func (r *runner) rolledBack(ctx context.Context, tx *batchtx.Tx, events []es.PersistedEvent, handled int, took time.Duration, err error) (handling.Decision, error) {
	conflict, cause := tx.Conflict(), tx.Last()
	lost := tx.Abort(ctx)
	if ctx.Err() != nil {
		return handling.Decision{}, context.Cause(ctx)
	}
	_, whole := r.projection.(handling.BatchHandler)
	return r.decide(ctx, events, handling.Failure{
		Err: err, Cause: cause, Conflict: conflict, Lost: lost, Took: took, Handled: handled, Whole: whole,
	}), nil
}

// decide decides what happens after a batch was not committed.
func (r *runner) decide(ctx context.Context, events []es.PersistedEvent, f handling.Failure) handling.Decision {
	f.Events, f.Idle = len(events), r.idle
	if len(events) > 0 {
		f.Position = events[f.Handled].GlobalPosition
	}
	var d handling.Decision
	r.failures, d = handling.Decide(r.policy, r.failures, f)
	if d.Verdict == handling.Idle {
		r.log.WarnContext(ctx, "a handler sent no statement for too long, so the server ended its transaction and the batch is repeated; it gets more time",
			"error", d.Err, "idle_timeout", r.idle, "next_idle_timeout", d.Idle)
		r.idle = d.Idle
	}
	return d
}

// repeated is the error after which the batch is handled again. It ends Run if the role has lost a right, or if a table
// no longer exists. A handler's error, which may be another database's, does not.
func repeated(events []es.PersistedEvent, d handling.Decision) error {
	switch {
	case d.Verdict == handling.Database && d.Class == handling.ClassError && dbfault.IsConfiguration(d.Err):
		return d.Err
	case len(events) == 0:
		return &passingError{d.Err}
	}
	return &passingError{fmt.Errorf("handling events from position %d: %w", events[0].GlobalPosition, d.Err)}
}
