package workload

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Check is a statement that counts, and what the count must be.
type Check struct {
	// Title says what is counted.
	Title string
	// SQL selects one number.
	SQL string
	// Some says that the number must be above 0. Otherwise it must be 0.
	Some bool
}

// Result is a check's outcome.
type Result struct {
	Check
	Count int64
}

// OK says whether the count is what it must be.
func (r Result) OK() bool { return (r.Count > 0) == r.Some }

// Checks prove that each committed event that a projection wants was handled once by it, and in order. They are for the end of a
// run, when everything has been handled (see [Drained]), and need worker names that are unique.
func Checks() []Check {
	return []Check{
		{Title: "handled: events that were logged by a projection", Some: true, SQL: sqlHandled},
		{Title: "missing: committed events in a projection's scope that it never handled", SQL: sqlMissing},
		{Title: "twice: events that a projection handled again", SQL: sqlTwice},
		{Title: "phantom: handled events that were never committed, or are out of the projection's scope", SQL: sqlPhantom},
		{Title: "order: events of an aggregate that were not handled right after the version before them", SQL: sqlOrder},
		{Title: "read model: aggregates that it shows otherwise than the event store", SQL: sqlReadModel},
		{Title: "sharing: slots of a projection that two workers handled in one generation", SQL: sqlSharing},
		{Title: "going back: events handled under a generation after a later one had handled the slot", SQL: sqlGoingBack},
		{Title: "strangers: events handled by a worker under a generation that it was no member of", SQL: sqlStrangers},
	}
}

const sqlHandled = `SELECT count(*) FROM workload_log`

const sqlMissing = `SELECT count(*)
FROM events AS e
JOIN workload_scopes AS s ON s.aggregate_types IS NULL OR e.aggregate_type = ANY (s.aggregate_types)
WHERE NOT EXISTS (
    SELECT FROM workload_log AS l
    WHERE l.projection = s.projection AND l.global_position = e.global_position)`

const sqlTwice = `SELECT count(*) - count(DISTINCT (projection, global_position)) FROM workload_log`

const sqlPhantom = `SELECT count(*)
FROM workload_log AS l
WHERE NOT EXISTS (
    SELECT FROM events AS e
    JOIN workload_scopes AS s ON s.aggregate_types IS NULL OR e.aggregate_type = ANY (s.aggregate_types)
    WHERE s.projection = l.projection AND e.global_position = l.global_position
      AND (e.bounded_context, e.aggregate_type, e.aggregate_id, e.aggregate_version)
        = (l.bounded_context, l.aggregate_type, l.aggregate_id, l.aggregate_version))`

const sqlOrder = `SELECT count(*)
FROM (
    SELECT aggregate_version, lag(aggregate_version, 1, 0::bigint) OVER (
        PARTITION BY projection, bounded_context, aggregate_type, aggregate_id ORDER BY seq) AS before
    FROM workload_log) AS pairs
WHERE aggregate_version <> before + 1`

const sqlReadModel = `SELECT count(*)
FROM (
    SELECT * FROM aggregate_heads AS h
    JOIN workload_scopes AS s ON s.aggregate_types IS NULL OR h.aggregate_type = ANY (s.aggregate_types)) AS head
FULL JOIN workload_read_model AS m USING (projection, bounded_context, aggregate_type, aggregate_id)
WHERE (m.version, m.events, m.gaps) IS DISTINCT FROM (head.aggregate_version, head.aggregate_version, 0::bigint)`

const sqlSharing = `SELECT count(*)
FROM (
    SELECT FROM workload_log
    GROUP BY projection, slot, generation HAVING count(DISTINCT worker) > 1) AS shared`

const sqlGoingBack = `SELECT count(*)
FROM (
    SELECT generation, max(generation) OVER (PARTITION BY projection, slot ORDER BY seq) AS highest
    FROM workload_log) AS entries
WHERE generation < highest`

const sqlStrangers = `SELECT count(*)
FROM workload_log AS l
WHERE NOT EXISTS (
    SELECT FROM orchestrator_generations AS g
    JOIN orchestrator_workers AS w ON w.replica_set = g.replica_set AND w.worker_id = ANY (g.members)
    WHERE g.number = l.generation AND w.name = l.worker)`

// RunCheck counts.
func RunCheck(ctx context.Context, pool *pgxpool.Pool, check Check) (Result, error) {
	r := Result{Check: check}
	if err := pool.QueryRow(ctx, check.SQL).Scan(&r.Count); err != nil {
		return r, fmt.Errorf("checking %q: %w", check.Title, err)
	}
	return r, nil
}

// Analyze brings the statistics up to date, without which the checks' joins may be planned badly.
func Analyze(ctx context.Context, pool *pgxpool.Pool) error {
	if _, err := pool.Exec(ctx, "ANALYZE events, aggregate_heads, workload_log, workload_read_model"); err != nil {
		return fmt.Errorf("analysing the tables: %w", err)
	}
	return nil
}
