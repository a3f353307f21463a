package workload

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// ProjectionSpec describes a [Recorder], so that it can be handed to another process.
type ProjectionSpec struct {
	Name string
	// AggregateTypes are the wanted types. Empty means all.
	AggregateTypes []string
	// Batch makes it a projection of whole batches.
	Batch bool
	// Think is how long the handler waits before each event, or each batch.
	Think time.Duration
}

// Recorder logs each event that it handles, and counts it in a read model, inside the batch's transaction.
type Recorder struct {
	spec   ProjectionSpec
	worker string
}

// NewRecorder is the projection for spec, on the worker of that name.
func NewRecorder(spec ProjectionSpec, worker string) projection.Projection {
	r := Recorder{spec: spec, worker: worker}
	if spec.Batch {
		return batchRecorder{r}
	}
	return r
}

// Name is the projection's name.
func (r Recorder) Name() string { return r.spec.Name }

// AggregateTypes are the wanted types; see [projection.AggregateScoped].
func (r Recorder) AggregateTypes() []string { return r.spec.AggregateTypes }

// The read model's row is locked before the log's seq is drawn: rows come out of "model" after they were written. The generation
// is what the checkpoint says within this transaction, in which the orchestrator holds the checkpoint's lock.
const sqlRecord = `
WITH model AS (
    INSERT INTO workload_read_model AS m (projection, bounded_context, aggregate_type, aggregate_id, version, events, gaps)
    VALUES ($1, $2, $3, $4, $5, 1, CASE WHEN $5::bigint = 1 THEN 0 ELSE 1 END)
    ON CONFLICT (projection, bounded_context, aggregate_type, aggregate_id) DO UPDATE
    SET version = excluded.version, events = m.events + 1,
        gaps = m.gaps + CASE WHEN excluded.version = m.version + 1 THEN 0 ELSE 1 END
    RETURNING m.projection, (hashtextextended(m.aggregate_id, 0) & 65535)::integer AS slot
)
INSERT INTO workload_log (projection, bounded_context, aggregate_type, aggregate_id, aggregate_version, global_position,
    worker, process_id, slot, generation)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, slot, coalesce((
    SELECT c.generation FROM orchestrator_checkpoints AS c
    WHERE c.projection = model.projection AND c.slot_from <= model.slot AND model.slot < c.slot_to), 0)
FROM model`

// Handle records one event.
func (r Recorder) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if err := pause(ctx, r.spec.Think); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, sqlRecord, r.arguments(&event)...); err != nil {
		return fmt.Errorf("recording the event at position %d: %w", event.GlobalPosition, err)
	}
	return nil
}

// arguments are those of sqlRecord.
func (r Recorder) arguments(e *es.PersistedEvent) []any {
	return []any{
		r.spec.Name, e.BoundedContext, e.AggregateType, e.AggregateID, e.AggregateVersion, e.GlobalPosition,
		r.worker, os.Getpid(),
	}
}

// batchRecorder records a whole batch in one round trip.
type batchRecorder struct{ Recorder }

var _ projection.BatchProjection = batchRecorder{}

// HandleBatch records the events in order.
func (r batchRecorder) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	if err := pause(ctx, r.spec.Think); err != nil {
		return err
	}
	var batch pgx.Batch
	for i := range events {
		batch.Queue(sqlRecord, r.arguments(&events[i])...)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("recording %d events from position %d: %w", len(events), events[0].GlobalPosition, err)
	}
	return nil
}

// pause waits for d; it returns ctx's cause if that ends before.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
