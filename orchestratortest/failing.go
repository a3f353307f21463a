package orchestratortest

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Failing wraps p so that it fails on chosen events. If when returns an error for an event, the handler returns that
// error before it handles the event. The result has p's scope and all its optional interfaces. If p handles whole
// batches, a batch with such an event fails. Several goroutines may call when at once. It is called again for an event
// that is handled again.
func Failing(p projection.Projection, when func(es.PersistedEvent) error) projection.Projection {
	f := failing{Projection: p, when: when}
	if d, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p); err == nil { // if not, Run says so
		if batches, whole := d.Projection.(handling.BatchHandler); whole {
			return failingBatches{failing: f, batches: batches}
		}
		if one, bySQL := sqlOf(p); bySQL {
			return failingSQL{failing: f, one: one}
		}
	}
	return f
}

// failing fails on some events.
type failing struct {
	projection.Projection
	when func(es.PersistedEvent) error
}

// Unwrap is the projection.
func (f failing) Unwrap() projection.Projection { return f.Projection }

// Handle fails, or has the event handled.
func (f failing) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if err := f.when(event); err != nil {
		return err
	}
	return f.Projection.Handle(ctx, tx, event)
}

// failingBatches fails on batches with some events.
type failingBatches struct {
	failing
	batches handling.BatchHandler
}

// HandleBatch fails, or has the events handled.
func (f failingBatches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for _, event := range events {
		if err := f.when(event); err != nil {
			return err
		}
	}
	return f.batches.HandleBatch(ctx, tx, events)
}

// failingSQL fails on some events of a projection that uses database/sql.
type failingSQL struct {
	failing
	one projection.SQLProjection
}

// HandleSQL fails, or has the event handled.
func (f failingSQL) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	if err := f.when(event); err != nil {
		return err
	}
	return f.one.HandleSQL(ctx, tx, event)
}

// sqlOf is p, or what it wraps, if that uses database/sql.
func sqlOf(p projection.Projection) (projection.SQLProjection, bool) {
	for {
		if one, bySQL := p.(projection.SQLProjection); bySQL {
			return one, true
		}
		w, wraps := p.(projection.Wrapper)
		if !wraps {
			return nil, false
		}
		p = w.Unwrap()
	}
}
