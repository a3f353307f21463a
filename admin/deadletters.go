package admin

import (
	"context"
	"iter"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Aggregate identifies an aggregate.
type Aggregate struct {
	BoundedContext string `json:"bounded_context"`
	Type           string `json:"aggregate_type"`
	ID             string `json:"aggregate_id"`
}

// DeadLetter is an event that a projection's handler failed on, or that waits behind such an event.
type DeadLetter struct {
	Projection string    `json:"projection"`
	Position   int64     `json:"position"` // of the event
	EventID    uuid.UUID `json:"event_id"`
	EventType  string    `json:"event_type"`
	Aggregate  Aggregate `json:"aggregate"`
	// State is "retrying" while the event's partition waits for it, "stopped" while the projection is stopped at it,
	// "parked" while its aggregate is parked, "skipped" if no handler has handled it, and "handled" if a handler has
	// handled it in the end.
	State string `json:"state"`
	// Attempts is how often handlers have failed on the event. It is 0 for an event that waits behind another one.
	Attempts int `json:"attempts"`
	// Error is the error of the last attempt. Group identifies the failures that are like it.
	Error string `json:"error"`
	Group string `json:"group"`
	// Worker and Generation are those of the last attempt, or of the worker that parked the event.
	Worker     uuid.UUID `json:"worker"`
	Generation int64     `json:"generation"`
	// FirstFailedAt and LastFailedAt are the times of the first and the last attempt, or the time at which the event was
	// parked. They are the database's times.
	FirstFailedAt time.Time `json:"first_failed_at"`
	LastFailedAt  time.Time `json:"last_failed_at"`
}

const sqlDeadLetters = `
SELECT d.projection, d.global_position, d.event_id, d.event_type, d.bounded_context, d.aggregate_type, d.aggregate_id, d.state, d.attempts, d.last_error,
    ` + groupSQL + `, d.worker_id, d.generation, d.first_failed_at, d.last_failed_at
FROM {{schema}}orchestrator_dead_letters AS d
WHERE ` + filterSQL + ` AND (d.projection, d.global_position) > ($10, $11::bigint)
ORDER BY d.projection, d.global_position LIMIT 500`

// DeadLetters returns the events that could not be handled, ordered by projection name and position. It reads them while
// the caller iterates, 500 at a time. After an error the iteration ends.
func (a *Admin) DeadLetters(ctx context.Context, f Filter) iter.Seq2[DeadLetter, error] {
	return func(yield func(DeadLetter, error) bool) {
		after := DeadLetter{Position: -1}
		for {
			page, err := a.deadLetters(ctx, f, after)
			if err != nil {
				yield(DeadLetter{}, a.explainReading(ctx, "reading the dead letters", err))
				return
			}
			for _, letter := range page {
				if !yield(letter, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			after = page[len(page)-1]
		}
	}
}

// deadLetters is the next letters after one.
func (a *Admin) deadLetters(ctx context.Context, f Filter, after DeadLetter) ([]DeadLetter, error) {
	store, wanted, err := a.toList(ctx, f)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, store.SQL(sqlDeadLetters), f.args(a.replicaSet, wanted, after.Projection, after.Position)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (d DeadLetter, err error) {
		return d, row.Scan(&d.Projection, &d.Position, &d.EventID, &d.EventType, &d.Aggregate.BoundedContext, &d.Aggregate.Type, &d.Aggregate.ID, &d.State,
			&d.Attempts, &d.Error, &d.Group, &d.Worker, &d.Generation, &d.FirstFailedAt, &d.LastFailedAt)
	})
}

// toList is what a list needs: the tables, and the states of the rows that the filter selects.
func (a *Admin) toList(ctx context.Context, f Filter) (*pgcoord.Store, []string, error) {
	if err := f.check(states...); err != nil {
		return nil, nil, err
	}
	wanted := []string{"retrying", "stopped", "parked", "skipped"}
	if f.State != "" {
		wanted = []string{f.State}
	}
	store, err := a.open(ctx)
	return store, wanted, err
}

// FailureGroup is a group of similar failures of a projection. They have the same kind and come from the same function
// of the application.
type FailureGroup struct {
	Projection string `json:"projection"`
	// Group identifies the kind and the frame, for a Filter. It is the same in all projections and replica sets.
	Group string `json:"group"`
	// Kind is what the errors have in common. It is the first of these that applies:
	//
	//   - "timeout", if the call took longer than the error policy allows
	//   - the code and the constraint of PostgreSQL's error, as in "SQLSTATE 23505, constraint users_email_key"
	//   - the Go type of the innermost error, as in "*net.DNSError"
	//   - the innermost error's text, if its type belongs to errors, fmt or runtime and so says nothing. Numbers,
	//     identifiers and quoted parts are replaced by "…", as in "no user …"
	//
	// A panic's kind is that of its value, after "panic: ". To put failures with different texts into one group, return
	// errors of a type of your own.
	Kind string `json:"kind"`
	// Frame is the function that the failures came from: the one that panicked, or else the handler's method.
	Frame string `json:"frame"`
	// Events is how many events failed in this way, and Aggregates is how many aggregates they belong to. Waiting is how
	// many letters the parked ones among these aggregates have in total.
	Events     int `json:"events"`
	Aggregates int `json:"aggregates"`
	Waiting    int `json:"waiting"`
	// First and Last are the earliest and the latest time at which an event of the group failed.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	// Example is the error of the event at ExamplePosition, which is the one that failed last.
	Example         string `json:"example"`
	ExamplePosition int64  `json:"example_position"`
}

const sqlFailureGroups = `
SELECT d.projection, ` + groupSQL + `, min(d.error_kind), min(d.error_frame), count(*),
    count(DISTINCT (d.bounded_context, d.aggregate_type, d.aggregate_id)),
    coalesce(sum(p.letters), 0)::bigint, min(d.first_failed_at), max(d.last_failed_at),
    (array_agg(d.last_error ORDER BY d.last_failed_at DESC, d.global_position))[1],
    (array_agg(d.global_position ORDER BY d.last_failed_at DESC, d.global_position))[1]
FROM {{schema}}orchestrator_dead_letters AS d
LEFT JOIN {{schema}}orchestrator_parked_aggregates AS p ON p.projection = d.projection AND p.global_position = d.global_position
WHERE ` + filterSQL + ` AND d.attempts > 0
GROUP BY 1, 2
ORDER BY count(*) DESC, 1, 2`

// FailureGroups returns the failures in groups. The groups with the most events come first.
func (a *Admin) FailureGroups(ctx context.Context, f Filter) ([]FailureGroup, error) {
	groups, err := a.failureGroups(ctx, f)
	if err != nil {
		return nil, a.explainReading(ctx, "grouping the failures", err)
	}
	return groups, nil
}

func (a *Admin) failureGroups(ctx context.Context, f Filter) ([]FailureGroup, error) {
	store, wanted, err := a.toList(ctx, f)
	if err != nil {
		return nil, err
	}
	rows, err := a.db.Query(ctx, store.SQL(sqlFailureGroups), f.args(a.replicaSet, wanted)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (g FailureGroup, err error) {
		return g, row.Scan(&g.Projection, &g.Group, &g.Kind, &g.Frame, &g.Events, &g.Aggregates, &g.Waiting, &g.First, &g.Last, &g.Example, &g.ExamplePosition)
	})
}
