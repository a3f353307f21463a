package admin

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// EntryKind is the kind of an Entry.
type EntryKind string

// The kinds of entries.
const (
	GenerationPrepared  EntryKind = "generation_prepared"  // Reason says why
	GenerationActivated EntryKind = "generation_activated" // Count is its workers
	WorkerJoined        EntryKind = "worker_joined"
	WorkerStopped       EntryKind = "worker_stopped" // Reason says why
	WorkerDied          EntryKind = "worker_died"    // Reason is the evidence
	HandlerFailed       EntryKind = "handler_failed" // Reason is the last attempt's error, Count the attempts so far, At the time of the first
	EventHandled        EntryKind = "event_handled"  // after it had failed
	EventSkipped        EntryKind = "event_skipped"
	EventPutAside       EntryKind = "event_put_aside"   // because its aggregate was parked
	AggregateParked     EntryKind = "aggregate_parked"  // Count is its letters now. Reason names it
	HandlerAbandoned    EntryKind = "handler_abandoned" // it did not return when it was told to stop
	OperationRequested  EntryKind = "operation_requested"
	OperationEnded      EntryKind = "operation_ended"    // only for operations that workers carry out
	RegressionNoticed   EntryKind = "regression_noticed" // Position is where the sequence stood, Count the highest checkpoint
	RegressionSettled   EntryKind = "regression_settled" // the same
)

// Entry is something that happened in a replica set. Fields that do not apply are empty or null.
type Entry struct {
	At   time.Time `json:"at"` // the database's time
	Kind EntryKind `json:"kind"`
	// Text describes the entry in a sentence.
	Text       string `json:"text"`
	Projection string `json:"projection"`
	WorkerName string `json:"worker_name"`
	// Generation, Operation and Position are the numbers of what the entry is about.
	Generation *int64 `json:"generation"`
	Operation  *int64 `json:"operation"`
	Position   *int64 `json:"position"`
	// What is the cause of a generation, the kind of an operation, or the type of an event. Reason says why it happened.
	// Actor is the actor who requested an operation.
	What   string `json:"what"`
	Reason string `json:"reason"`
	Actor  string `json:"actor"`
	Count  int64  `json:"count"`
	// Result says what came of an operation that has ended: how many of its parts succeeded and failed, or who cancelled
	// it and why.
	Result string `json:"result"`
}

// entriesMost is how many entries a timeline has at most.
const entriesMost = 10_000

// operationResult is what came of an operation o, in words.
const operationResult = `CASE o.state
        WHEN 'cancelled' THEN 'cancelled by ' || coalesce(o.result ->> 'cancelled_by', 'somebody') || coalesce(': ' || nullif(o.result ->> 'cancelled_because', ''), '')
        ELSE pg_catalog.concat_ws(', ', o.result ->> 'succeeded' || ' succeeded', nullif(o.result ->> 'failed', '0') || ' failed',
            nullif(o.result ->> 'discarded', '0') || ' discarded', nullif(o.result ->> 'events', '0') || ' events') END`

// sqlTimeline is what happened since $2, the latest $4 entries. Times that are infinite are left out.
const sqlTimeline = `
SELECT at, kind, projection, worker, generation, operation, position, what, reason, actor, count,
    coalesce(CASE kind WHEN 'operation_ended' THEN (SELECT ` + operationResult + ` FROM {{schema}}orchestrator_operations AS o WHERE o.id = operation) END, '')
FROM (
    SELECT created_at AS at, 10 AS rank, 'generation_prepared' AS kind, '' AS projection, coalesce(w.name, '') AS worker, g.number AS generation, NULL::bigint AS operation,
        NULL::bigint AS position, g.cause AS what, g.reason AS reason, '' AS actor, 0::bigint AS count
    FROM {{schema}}orchestrator_generations AS g LEFT JOIN {{schema}}orchestrator_workers AS w ON w.worker_id = g.prepared_by WHERE g.replica_set = $1
    UNION ALL
    SELECT activated_at, 11, 'generation_activated', '', '', number, NULL::bigint, NULL, cause, reason, '', pg_catalog.cardinality(members)
    FROM {{schema}}orchestrator_generations WHERE replica_set = $1 AND activated_at IS NOT NULL
    UNION ALL
    SELECT started_at, 0, 'worker_joined', '', name, NULL, NULL::bigint, NULL, '', '', '', 0 FROM {{schema}}orchestrator_workers WHERE replica_set = $1
    UNION ALL
    SELECT state_changed_at, 1, CASE state WHEN 'dead' THEN 'worker_died' ELSE 'worker_stopped' END, '', name, NULL, NULL::bigint, NULL, '', detail, '', 0
    FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND state IN ('stopped', 'dead')
    UNION ALL
    SELECT t.at, t.rank, t.kind, d.projection, coalesce(w.name, ''), d.generation, NULL, d.global_position, d.event_type, d.last_error, '', d.attempts
    FROM {{schema}}orchestrator_dead_letters AS d
    LEFT JOIN {{schema}}orchestrator_workers AS w USING (worker_id)
    CROSS JOIN LATERAL (VALUES
        (CASE WHEN d.attempts > 0 THEN d.first_failed_at END, 20, 'handler_failed'),
        (CASE WHEN d.attempts = 0 THEN d.first_failed_at END, 22, 'event_put_aside'),
        (d.handled_at, 24, 'event_handled'), (d.skipped_at, 23, 'event_skipped')) AS t (at, rank, kind)
    WHERE d.replica_set = $1
    UNION ALL
    SELECT parked_at, 21, 'aggregate_parked', projection, '', NULL::bigint, NULL, global_position, '', pg_catalog.concat_ws(' ', bounded_context, aggregate_type, aggregate_id), '', letters
    FROM {{schema}}orchestrator_parked_aggregates WHERE replica_set = $1
    UNION ALL
    SELECT a.abandoned_at, 25, 'handler_abandoned', a.projection, w.name, a.generation, NULL, a.global_position, '', '', '', 0
    FROM {{schema}}orchestrator_abandoned_handlers AS a JOIN {{schema}}orchestrator_workers AS w USING (worker_id) WHERE w.replica_set = $1
    UNION ALL
    SELECT t.at, t.rank, t.kind, o.projection, coalesce(o.arguments ->> 'worker', ''), NULL, o.id, NULL, o.kind, o.reason, o.actor, 0
    FROM {{schema}}orchestrator_operations AS o
    CROSS JOIN LATERAL (VALUES
        (o.requested_at, 30, 'operation_requested'), (CASE WHEN o.finished_at > o.requested_at THEN o.finished_at END, 31, 'operation_ended')) AS t (at, rank, kind)
    WHERE o.replica_set = $1
    UNION ALL
    SELECT t.at, t.rank, t.kind, '', '', NULL::bigint, NULL, r.last_position, '', '', '', r.checkpoint
    FROM {{schema}}orchestrator_sequence_regressions AS r
    CROSS JOIN LATERAL (VALUES (r.noticed_at, 40, 'regression_noticed'), (r.settled_at, 41, 'regression_settled')) AS t (at, rank, kind)
    WHERE r.events_table = $3
) AS happened
WHERE at >= $2 AND pg_catalog.isfinite(at)
ORDER BY at DESC, rank DESC, coalesce(generation, operation, 0) DESC, projection DESC, position DESC LIMIT $4`

// Timeline returns what happened in the replica set since a time, in order: generations, failures of handlers and the
// outcomes of their events, operations, regressions of the sequence, and workers that came and left. The zero time means
// everything. It returns at most the latest 10,000 entries.
//
// Timeline is built from rows, so it lacks what they no longer contain. Old generations and workers are deleted, and an
// event's row has only its last error.
func (a *Admin) Timeline(ctx context.Context, since time.Time) ([]Entry, error) {
	entries, err := a.timeline(ctx, since)
	if err != nil {
		return nil, a.explainReading(ctx, "reading the timeline", err)
	}
	return entries, nil
}

func (a *Admin) timeline(ctx context.Context, since time.Time) (entries []Entry, err error) {
	err = a.look(ctx, func(l look) error {
		rows, err := l.tx.Query(ctx, l.store.SQL(sqlTimeline), a.replicaSet, since, l.store.EventsTable(), entriesMost) //nolint:rowserrcheck // collect checks it
		if err != nil {
			return err
		}
		return collect(&entries, scanEntry)(rows)
	})
	slices.Reverse(entries)
	return entries, err
}

func scanEntry(rows pgx.Rows, e *Entry) error {
	err := rows.Scan(&e.At, &e.Kind, &e.Projection, &e.WorkerName, &e.Generation, &e.Operation, &e.Position, &e.What, &e.Reason, &e.Actor, &e.Count, &e.Result)
	e.Text = e.sentence()
	return err
}

// sentence is the entry in words.
func (e *Entry) sentence() string {
	number := func(n *int64) int64 {
		if n == nil {
			return 0
		}
		return *n
	}
	position, of := number(e.Position), "all projections"
	if e.Projection != "" {
		of = fmt.Sprintf("projection %q", e.Projection)
	} else if e.WorkerName != "" {
		of = fmt.Sprintf("worker %q", e.WorkerName)
	}
	switch e.Kind {
	case GenerationPrepared:
		return because(fmt.Sprintf("generation %d is prepared", number(e.Generation)), e.Reason)
	case GenerationActivated:
		return fmt.Sprintf("generation %d is active, with %d workers", number(e.Generation), e.Count)
	case WorkerJoined:
		return fmt.Sprintf("worker %q joined", e.WorkerName)
	case WorkerStopped:
		return because(fmt.Sprintf("worker %q stopped", e.WorkerName), e.Reason)
	case WorkerDied:
		return because(fmt.Sprintf("worker %q was declared dead", e.WorkerName), e.Reason)
	case HandlerFailed:
		return because(fmt.Sprintf("%s failed on the event at %d, %s until now", of, position, times(e.Count)), e.Reason)
	case EventHandled:
		if e.Count == 0 {
			return fmt.Sprintf("%s handled the event at %d, which was put aside", of, position)
		}
		return fmt.Sprintf("%s handled the event at %d, after it had failed %s", of, position, times(e.Count))
	case EventSkipped:
		return fmt.Sprintf("%s skipped the event at %d", of, position)
	case EventPutAside:
		return fmt.Sprintf("%s put the event at %d aside, because its aggregate is parked", of, position)
	case AggregateParked:
		return fmt.Sprintf("%s parked %s at the event at %d; it has %d letters now", of, e.Reason, position, e.Count)
	case HandlerAbandoned:
		return fmt.Sprintf("a handler of %s on worker %q did not return from the event at %d, and was abandoned", of, e.WorkerName, position)
	case OperationRequested:
		return because(fmt.Sprintf("%s asked for operation %d: %s of %s", e.Actor, number(e.Operation), e.What, of), e.Reason)
	case OperationEnded:
		return because(fmt.Sprintf("operation %d ended: %s of %s", number(e.Operation), e.What, of), e.Result)
	case RegressionNoticed:
		return fmt.Sprintf("the sequence of positions was found at %d, below the checkpoint %d", position, e.Count)
	case RegressionSettled:
		return fmt.Sprintf("the regression of the sequence to %d, below the checkpoint %d, was settled", position, e.Count)
	}
	return string(e.Kind)
}

// times is how often, in words.
func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// because adds a reason, if there is one.
func because(text, reason string) string {
	if reason == "" {
		return text
	}
	return text + ": " + reason
}
