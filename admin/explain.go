package admin

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// Outcome is what a projection did or will do with a position.
type Outcome string

// The outcomes. Handled, Skipped, PutAside, Stopped and Retrying come from rows about the event. The others follow from
// the checkpoint.
const (
	// Handled means that a handler failed on the event at first, and has handled it since.
	Handled Outcome = "handled"
	// Passed means that the checkpoint is at the event or past it, and no row says more. A handler has handled the event
	// if it is in the projection's scope, which only workers know. This does not hold if somebody has moved the
	// checkpoint past the event or discarded it.
	Passed Outcome = "passed"
	// Skipped means that no handler has handled the event: the error policy skipped it, or a person moved the checkpoint
	// past it.
	Skipped Outcome = "skipped"
	// PutAside means that the event was set aside because its aggregate is parked.
	PutAside Outcome = "parked"
	// Stopped means that the projection is stopped at this event.
	Stopped Outcome = "stopped"
	// Retrying means that the handler fails on the event, and will be called again.
	Retrying Outcome = "retrying"
	// Replaced means that the projection was replaced at a cut-over, and handles nothing after it.
	Replaced Outcome = "replaced"
	// Held means that somebody has paused the projection, or holds it back before the event.
	Held Outcome = "held"
	// AboveHorizon means that an open transaction may still append at the position or below.
	AboveHorizon Outcome = "above_horizon"
	// Waiting means that the event will be handled, if it is in scope. Reason says what comes first.
	Waiting Outcome = "waiting"
	// Gap means that there is no event and none can appear. Its transaction was rolled back, or the event was deleted.
	Gap Outcome = "gap"
	// NotYet means that the position has not been allocated to an event.
	NotYet Outcome = "not_yet"
	// Uncovered means that the projection has no checkpoint for the event's slot.
	Uncovered Outcome = "uncovered"
)

// Explanation says what a projection did or will do with a position, and why.
type Explanation struct {
	Projection string `json:"projection"`
	Position   int64  `json:"position"`
	// Event is null if the position has no event.
	Event   *Event  `json:"event"`
	Outcome Outcome `json:"outcome"`
	// Reason explains the outcome in a sentence or two, with the known details.
	Reason string `json:"reason"`
	// Partition, WorkerName and Checkpoint are those of the event's slot. Without an event, Checkpoint is the
	// projection's lowest, and the others are empty. If the slot has no checkpoint, all are empty or 0.
	Partition  string `json:"partition"`
	WorkerName string `json:"worker_name"`
	Checkpoint int64  `json:"checkpoint"`
	// Behind is the position of the event that must be handled or decided about first. It is null if no other event
	// comes first.
	Behind *int64 `json:"behind"`
	// HeldBackBy lists the open transactions if the outcome is AboveHorizon.
	HeldBackBy []Transaction `json:"held_back_by"`
}

// Event is an event without its payload.
type Event struct {
	ID        uuid.UUID `json:"id"`
	Type      string    `json:"type"`
	Aggregate Aggregate `json:"aggregate"`
	// Slot is the slot of the aggregate.
	Slot int `json:"slot"`
}

// Explain says, for each projection of the replica set, what it did or will do with the event at a position, and why.
// The answer comes from the tables. It calls an event handled only if a row shows that a handler handled it.
func (a *Admin) Explain(ctx context.Context, position int64) ([]Explanation, error) {
	found, err := a.explainPosition(ctx, position)
	if err != nil {
		return nil, a.explainReading(ctx, fmt.Sprintf("explaining position %d", position), err)
	}
	return found, nil
}

const sqlEvent = `
SELECT event_id, event_type, bounded_context, aggregate_type, aggregate_id, (pg_catalog.hashtextextended(aggregate_id, 0) & 65535)::int
FROM %s WHERE global_position = $1`

// sqlLettersAt is the letters at a position, and the events at lower positions that are retried.
const sqlLettersAt = `
SELECT d.projection, d.global_position, d.event_id, d.state, d.attempts, d.last_error, (pg_catalog.hashtextextended(d.aggregate_id, 0) & 65535)::int
FROM {{schema}}orchestrator_dead_letters AS d
WHERE d.replica_set = $1 AND (d.global_position = $2 OR d.global_position < $2 AND d.state = 'retrying')
ORDER BY d.projection, d.global_position`

// sqlParkedOf is since which event the aggregate of a position is parked. %s is the events table.
const sqlParkedOf = `
SELECT p.projection, p.global_position, p.letters
FROM %s AS e JOIN {{schema}}orchestrator_parked_aggregates AS p USING (bounded_context, aggregate_type, aggregate_id)
WHERE e.global_position = $2 AND p.replica_set = $1`

// sqlRegressionsOver is the regression that stands, and those that concern a position.
const sqlRegressionsOver = `
SELECT number, last_position, checkpoint, noticed_at, settled_at
FROM {{schema}}orchestrator_sequence_regressions
WHERE events_table = $1 AND (settled_at IS NULL OR $2 > last_position AND $2 <= checkpoint) ORDER BY number DESC LIMIT 10`

// letterAt is a row of orchestrator_dead_letters.
type letterAt struct {
	projection string
	position   int64
	event      uuid.UUID
	state      string
	attempts   int64
	err        string
	slot       int
}

// parkedAt is since when an aggregate is parked for a projection.
type parkedAt struct {
	projection string
	position   int64
	letters    int64
}

// facts is what is known of a position.
type facts struct {
	settled
	position    int64
	event       *Event
	checkpoints []checkpoint
	letters     []letterAt
	parked      []parkedAt
	regressions []Regression
	successions []replicaset.Succession
}

func (a *Admin) explainPosition(ctx context.Context, position int64) ([]Explanation, error) {
	if position < 1 {
		return nil, fmt.Errorf("the position must be at least 1, got %d", position)
	}
	store, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	// Before the transaction: so that has every event up to the horizon, and what is not there is a gap.
	now, err := readSettled(ctx, a.db, store, a.found.Load().events)
	if err != nil {
		return nil, err
	}
	var f facts
	err = a.look(ctx, func(l look) error {
		f = facts{settled: now, position: position}
		return f.read(ctx, l)
	})
	if err != nil {
		return nil, err
	}
	return f.explain(), nil
}

// read reads the tables, in one round trip.
func (f *facts) read(ctx context.Context, l look) error {
	var batch pgx.Batch
	ask := func(sql string, read func(pgx.Rows) error, args ...any) { batch.Queue(sql, args...).Query(read) }
	set := l.admin.replicaSet
	var events []Event
	ask(fmt.Sprintf(sqlEvent, l.events.Sanitize()), collect(&events, func(rows pgx.Rows, e *Event) error {
		return rows.Scan(&e.ID, &e.Type, &e.Aggregate.BoundedContext, &e.Aggregate.Type, &e.Aggregate.ID, &e.Slot)
	}), f.position)
	ask(l.store.SQL(sqlCheckpoints), collect(&f.checkpoints, scanCheckpoint), set)
	ask(l.store.SQL(sqlLettersAt), collect(&f.letters, func(rows pgx.Rows, d *letterAt) error {
		return rows.Scan(&d.projection, &d.position, &d.event, &d.state, &d.attempts, &d.err, &d.slot)
	}), set, f.position)
	ask(fmt.Sprintf(l.store.SQL(sqlParkedOf), l.events.Sanitize()), collect(&f.parked, func(rows pgx.Rows, p *parkedAt) error {
		return rows.Scan(&p.projection, &p.position, &p.letters)
	}), set, f.position)
	ask(l.store.SQL(sqlSuccessions), collect(&f.successions, scanSuccession), set)
	ask(l.store.SQL(sqlRegressionsOver), collect(&f.regressions, scanRegression), l.store.EventsTable(), f.position)
	if err := l.tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("reading the tables: %w", err)
	}
	if len(events) > 0 {
		f.event = &events[0]
	}
	return nil
}
