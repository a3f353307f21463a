package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
)

// check is a violation to look for: a statement that selects the offending rows.
type check struct {
	name string
	// means says what a row is.
	means string
	sql   string
}

// skipped is a condition for an event e of a projection s to have been skipped by the policy that may.
const skipped = `EXISTS (SELECT FROM orchestrator_dead_letters AS d WHERE d.projection = s.projection AND d.projection = '` + skipping + `' AND d.global_position = e.global_position AND d.state = 'skipped')`

// checks are what SQL can say after a run, over what handlers wrote in their transactions (workload_log) and outside of them
// (chaos_calls). No row is allowed in any.
var checks = []check{
	{"lost", "a committed event in a projection's scope that it never handled", `
SELECT s.projection, e.global_position, e.aggregate_type, e.aggregate_id, e.aggregate_version, e.created_at
FROM events AS e
JOIN workload_scopes AS s ON s.aggregate_types IS NULL OR e.aggregate_type = ANY (s.aggregate_types)
WHERE NOT EXISTS (SELECT FROM workload_log AS l WHERE l.projection = s.projection AND l.global_position = e.global_position)
  AND NOT ` + skipped},

	{"skipped", "an event that was skipped though its handler had not failed twice, or that was also handled, or that no policy skips", `
SELECT d.projection, d.global_position, d.attempts, d.last_error FROM orchestrator_dead_letters AS d
WHERE d.state = 'skipped' AND (d.projection <> '` + skipping + `' OR d.attempts < ` + strconv.Itoa(skipAfter) + `
    OR EXISTS (SELECT FROM workload_log AS l WHERE l.projection = d.projection AND l.global_position = d.global_position)
    OR NOT EXISTS (SELECT FROM chaos_calls AS f WHERE f.projection = d.projection AND f.position = d.global_position AND f.outcome <> 'ok'))`},

	{"duplicated", "an event that a projection handled more than once in committed transactions, or that never was", `
SELECT projection, global_position, count(*), array_agg(worker ORDER BY seq) AS workers, array_agg(generation ORDER BY seq) AS generations
FROM workload_log GROUP BY projection, global_position HAVING count(*) > 1
UNION ALL
SELECT projection, global_position, 0, array[worker], array[generation]
FROM workload_log AS l WHERE NOT EXISTS (SELECT FROM events AS e WHERE e.global_position = l.global_position
    AND (e.aggregate_type, e.aggregate_id, e.aggregate_version) = (l.aggregate_type, l.aggregate_id, l.aggregate_version))`},

	{"disordered", "an event of an aggregate that was not handled right after the version before it", `
SELECT * FROM (
    SELECT projection, aggregate_type, aggregate_id, aggregate_version, global_position, worker, generation,
           lag(aggregate_version, 1, 0::bigint) OVER (PARTITION BY projection, aggregate_type, aggregate_id ORDER BY seq) AS before
    FROM workload_log) AS s
WHERE aggregate_version <= before OR aggregate_version > before + 1 AND EXISTS (
    SELECT FROM events AS e WHERE e.aggregate_type = s.aggregate_type AND e.aggregate_id = s.aggregate_id
      AND e.aggregate_version > before AND e.aggregate_version < s.aggregate_version AND NOT ` + skipped + `)`},

	{"overlapped", "a call of a handler during another one of the same projection and slot, whose session was alive", `
WITH running AS (
    SELECT *, max(ended) OVER (PARTITION BY projection, slot ORDER BY began, worker, call
                               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS busy_until
    FROM chaos_calls
), suspects AS (
    SELECT * FROM running WHERE began < busy_until
)
SELECT s.projection, s.slot, o.worker AS older, o.position AS older_position, o.backend AS older_backend, o.began AS older_began,
       o.ended AS older_ended, o.outcome AS older_outcome, s.worker AS newer, s.position AS newer_position, s.began AS newer_began
FROM suspects AS s
JOIN chaos_calls AS o ON o.projection = s.projection AND o.slot = s.slot AND o.began < s.began AND o.ended > s.began
 AND (o.worker, o.backend) IS DISTINCT FROM (s.worker, s.backend)
WHERE NOT EXISTS (SELECT FROM chaos_ends AS x WHERE x.backend = o.backend AND x.at BETWEEN o.began - 2000000 AND s.began + 1000000000)
  AND NOT EXISTS (SELECT FROM chaos_deeds AS d WHERE d.fault = 'restart' AND d.began < s.began AND d.ended > o.began)
UNION ALL
SELECT projection, slot, '', 0, backend, 0, 0, 'the slot was locked by a live transaction', worker, position, began
FROM chaos_calls WHERE outcome = 'overlap'`},

	{"repeated-outside", "an event handled again although nothing had happened to the call before", `
WITH attempts AS (
    SELECT *, lead(began) OVER again AS next_began, lead(worker) OVER again AS next_worker,
           lead(backend) OVER again AS next_backend, lead(outcome) OVER again AS next_outcome
    FROM chaos_calls WINDOW again AS (PARTITION BY projection, position ORDER BY began)
)
SELECT projection, position, worker, backend, began, ended, outcome, next_worker, next_began
FROM attempts AS a
WHERE next_began IS NOT NULL
  AND NOT EXISTS ( -- its batch failed
    SELECT FROM chaos_calls AS f WHERE f.worker = a.worker AND f.projection = a.projection AND f.outcome <> 'ok'
    AND f.ended BETWEEN a.began AND a.next_began)
  AND NOT EXISTS ( -- its worker's lease expired, so it gave up its batches
    SELECT FROM chaos_expiries AS x WHERE x.worker = a.worker AND x.at BETWEEN a.began - 2000000 AND a.next_began)
  AND NOT EXISTS ( -- its session was ended, or lost its client
    SELECT FROM chaos_ends AS x WHERE x.backend = a.backend AND x.abnormal AND x.at BETWEEN a.began - 2000000 AND a.next_began + 1000000000)
  AND NOT EXISTS ( -- the later call's session had been ended before, while its worker was frozen: it could write nothing
    SELECT FROM chaos_ends AS x WHERE x.backend = a.next_backend AND x.abnormal AND x.at BETWEEN a.next_began - 60000000000 AND a.next_began)
  AND NOT EXISTS ( -- the later call's worker went on with an old batch after it had been frozen, and could not commit it: behind a pooler its session lives
    SELECT FROM chaos_deeds AS d WHERE d.fault = 'freeze' AND d.worker = a.next_worker AND a.next_outcome <> 'ok'
    AND a.next_began BETWEEN d.began AND d.ended + 1000000000)
  AND NOT EXISTS ( -- its worker was killed, or the server restarted
    SELECT FROM chaos_lives AS l WHERE l.worker = a.worker AND l.killed AND l.ended BETWEEN a.began AND a.next_began + 1000000000)
  AND NOT EXISTS (
    SELECT FROM chaos_deeds AS d WHERE d.fault = 'restart' AND d.began < a.next_began AND d.ended > a.began)
  AND NOT EXISTS ( -- its projection was reset, by a transaction that may have waited for the call; or a retry that it was part of was cancelled
    SELECT FROM orchestrator_operations AS o
    WHERE (o.kind = 'reset' AND o.projection = a.projection AND o.state = 'done' OR o.state = 'cancelled')
    AND extract(epoch FROM o.finished_at) * 1e9 BETWEEN a.began - 10000000000 AND a.next_began)
  AND NOT EXISTS ( -- its worker's way to the database was cut or broken
    SELECT FROM chaos_deeds AS d WHERE d.fault IN ('cut', 'halfopen') AND d.worker = a.worker
    AND d.began < a.next_began AND d.ended + 1000000000 > a.began)`},

	{"read-model", "an aggregate that a read model shows otherwise than the event store", `
SELECT projection, aggregate_type, aggregate_id, m.version, m.events, m.gaps, head.aggregate_version
FROM (
    SELECT * FROM aggregate_heads AS h
    JOIN workload_scopes AS s ON s.aggregate_types IS NULL OR h.aggregate_type = ANY (s.aggregate_types)) AS head
FULL JOIN workload_read_model AS m USING (projection, bounded_context, aggregate_type, aggregate_id)
WHERE projection <> '` + skipping + `' AND (m.version, m.events, m.gaps) IS DISTINCT FROM (head.aggregate_version, head.aggregate_version, 0::bigint)
UNION ALL
SELECT projection, aggregate_type, aggregate_id, m.version, m.events, m.gaps, log.version
FROM (
    SELECT projection, bounded_context, aggregate_type, aggregate_id, max(aggregate_version) AS version, count(*) AS events
    FROM workload_log WHERE projection = '` + skipping + `' GROUP BY 1, 2, 3, 4) AS log
FULL JOIN (SELECT * FROM workload_read_model WHERE projection = '` + skipping + `') AS m USING (projection, bounded_context, aggregate_type, aggregate_id)
WHERE (m.version, m.events) IS DISTINCT FROM (log.version, log.events)`},

	{"shared", "a slot of a projection that two workers handled in one generation", `
SELECT projection, slot, generation, array_agg(DISTINCT worker) AS workers
FROM workload_log GROUP BY projection, slot, generation HAVING count(DISTINCT worker) > 1`},

	{"went-back", "an event handled under a generation after a later one had handled its slot", `
SELECT * FROM (
    SELECT projection, slot, global_position, worker, generation, max(generation) OVER (PARTITION BY projection, slot ORDER BY seq) AS highest
    FROM workload_log) AS entries
WHERE generation < highest`},

	{"strangers", "an event handled by a worker under a generation that it was no member of", `
SELECT projection, global_position, worker, generation FROM workload_log AS l
WHERE NOT EXISTS (
    SELECT FROM orchestrator_generations AS g
    JOIN orchestrator_workers AS w ON w.replica_set = g.replica_set AND w.worker_id = ANY (g.members)
    WHERE g.number = l.generation AND w.name = l.worker)`},

	{"paused", "an event handled while its projection was paused, and nobody had resumed it", `
SELECT l.projection, l.global_position, l.worker, l.handled_at FROM workload_log AS l
JOIN chaos_deeds AS d ON d.fault = 'pause' AND d.detail = l.projection
WHERE extract(epoch FROM l.handled_at) * 1e9 > d.began AND extract(epoch FROM l.handled_at) * 1e9 < d.ended
  AND NOT EXISTS (
    SELECT FROM orchestrator_operations AS o WHERE o.kind = 'resume' AND o.projection IN (l.projection, '')
    AND extract(epoch FROM o.finished_at) * 1e9 > d.began AND o.finished_at <= l.handled_at)`},

	{"deadlocks", "a deadlock that the server had to solve", `
SELECT log_time, application_name, message, detail, query FROM chaos_server_log WHERE sql_state_code = '40P01'`},

	{"unhandled", "a failure of a handler that is still recorded as being retried", `
SELECT projection, global_position, attempts, last_error, last_failed_at FROM orchestrator_dead_letters AS c WHERE state NOT IN ('handled', 'skipped') AND NOT ` + replaced},
}

// finding is a check's outcome.
type finding struct {
	Name  string
	Means string
	Count int64
	Rows  []string // some of them
}

// line is what scripts read.
func (f finding) line() string { return fmt.Sprintf("check %s count=%d allowed=0", f.Name, f.Count) }

// shownRows is how many offending rows are kept as evidence.
const shownRows = 50

// look runs a check.
func (c *chaos) look(ctx context.Context, k check) (finding, error) {
	f := finding{Name: k.name, Means: k.means}
	if err := c.pool.QueryRow(ctx, "SELECT count(*) FROM ("+k.sql+") AS rows").Scan(&f.Count); err != nil {
		return f, fmt.Errorf("checking %s: %w", k.name, err)
	}
	if f.Count == 0 {
		return f, nil
	}
	rows, err := c.pool.Query(ctx, fmt.Sprintf("SELECT row_to_json(rows)::text FROM (%s) AS rows LIMIT %d", k.sql, shownRows))
	if err != nil {
		return f, fmt.Errorf("checking %s: %w", k.name, err)
	}
	f.Rows, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return f, fmt.Errorf("checking %s: %w", k.name, err)
	}
	return f, nil
}
