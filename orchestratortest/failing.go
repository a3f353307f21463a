package orchestratortest

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Failing is the projection, but fails on the events for which when returns an error, with that error, before it handles them. It has the scope and everything else
// that p says of itself, and handles whole batches if p does: a batch with such an event fails. when may be called by several goroutines at once, and again for an
// event that is handled again.
func Failing(p projection.Projection, when func(es.PersistedEvent) error) projection.Projection {
	f := failing{Projection: p, when: when}
	if d, err := handling.Describe[projection.Wrapper, projection.ErrorPolicied](p); err == nil { // if not, whoever runs it says so
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
