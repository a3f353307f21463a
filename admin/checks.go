package admin

// check is a statement that finds what should not be. Its rows are a projection, how many rows it is about, and a detail. $1 is the replica set, $2 the events
// table as the coordination tables name it, and {{events}} the events table.
type check struct {
	kind     string
	severity Severity
	sql      string
	// text may have {projection}, {count} and {detail}.
	text, remedy string
}

// discardRemedy is what helps where letters and parked aggregates disagree.
const discardRemedy = "stop the projection's workers; delete the letters that nobody needs, and insert or correct the rows of orchestrator_parked_aggregates; then raise revision of its checkpoints"

// lettersOf joins the letters d of a parked aggregate p.
const lettersOf = `d.projection = p.projection AND d.aggregate_id = p.aggregate_id AND d.aggregate_type = p.aggregate_type AND d.bounded_context = p.bounded_context AND d.state = 'parked'`

// newest is the highest number of a generation.
const newest = `coalesce((SELECT pg_catalog.max(g.number) FROM {{schema}}orchestrator_generations AS g WHERE g.replica_set = $1), 0)`

// checks are in the order of what they are about: events, parked aggregates, checkpoints, generations and workers, operations.
var checks = []check{
	{
		"letter_without_event", Fault, `
SELECT d.projection, pg_catalog.count(*), pg_catalog.min(d.global_position)::text FROM {{schema}}orchestrator_dead_letters AS d
WHERE d.replica_set = $1 AND d.state <> 'handled' AND NOT EXISTS (SELECT FROM {{events}} AS e WHERE e.global_position = d.global_position)
GROUP BY d.projection ORDER BY d.projection`,
		"{count} letters of projection {projection}, the first at {detail}, are of events that the events table has not", "put the events back, or discard the letters with Discard",
	},
	{
		"letter_of_other_event", Fault, `
SELECT d.projection, pg_catalog.count(*), pg_catalog.min(d.global_position)::text
FROM {{schema}}orchestrator_dead_letters AS d JOIN {{events}} AS e USING (global_position)
WHERE d.replica_set = $1 AND d.state <> 'handled' AND e.event_id <> d.event_id
GROUP BY d.projection ORDER BY d.projection`,
		"{count} letters of projection {projection}, the first at {detail}, are of other events than those that have the positions", "put the events back, or discard the letters with Discard",
	},
	{
		"letter_of_unparked_aggregate", Fault, `
SELECT d.projection, pg_catalog.count(*), pg_catalog.min(d.global_position)::text FROM {{schema}}orchestrator_dead_letters AS d
WHERE d.replica_set = $1 AND d.state = 'parked' AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_parked_aggregates AS p WHERE ` + lettersOf + `)
GROUP BY d.projection ORDER BY d.projection`,
		"{count} events of projection {projection}, the first at {detail}, are put aside, but their aggregates are not parked: no retry finds them", discardRemedy,
	},
	{
		"parked_aggregate_without_letter", Fault, `
SELECT p.projection, pg_catalog.count(*), pg_catalog.min(p.aggregate_id) FROM {{schema}}orchestrator_parked_aggregates AS p
WHERE p.replica_set = $1 AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_dead_letters AS d WHERE ` + lettersOf + `)
GROUP BY p.projection ORDER BY p.projection`,
		"{count} parked aggregates of projection {projection}, such as {detail}, have no letters", "delete the rows of orchestrator_parked_aggregates, and raise revision of the projection's checkpoints",
	},
	{
		"parked_aggregate_disagrees", Fault, `
SELECT p.projection, pg_catalog.count(*), pg_catalog.min(p.aggregate_id)
FROM {{schema}}orchestrator_parked_aggregates AS p
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS letters, pg_catalog.min(d.global_position) AS first FROM {{schema}}orchestrator_dead_letters AS d WHERE ` + lettersOf + `) AS l
WHERE p.replica_set = $1 AND l.letters > 0 AND (l.letters <> p.letters OR l.first <> p.global_position)
GROUP BY p.projection ORDER BY p.projection`,
		"{count} parked aggregates of projection {projection}, such as {detail}, have other letters than their rows say", discardRemedy,
	},
	{
		"stop_without_letter", Fault, `
SELECT c.projection, pg_catalog.count(*), pg_catalog.min(c.stopped_at)::text FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND c.stopped_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_dead_letters AS d WHERE d.projection = c.projection AND d.global_position = c.stopped_at AND d.state = 'stopped')
GROUP BY c.projection ORDER BY c.projection`,
		"projection {projection} is stopped at {detail}, and no letter says why", "Resume tries the event again",
	},
	{
		"hold_passed", Fault, `
SELECT c.projection, pg_catalog.count(*), pg_catalog.min(c.hold_at)::text FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND c.position > c.hold_at AND (c.hold_until IS NULL OR c.hold_until > pg_catalog.now())
GROUP BY c.projection ORDER BY c.projection`,
		"{count} checkpoints of projection {projection} are past where it is held, at {detail}", "somebody has moved them; Pause holds the projection where it is, Resume lets it go on",
	},
	{
		"checkpoint_of_other_events_table", Fault, `
SELECT c.projection, pg_catalog.count(*), pg_catalog.min(c.events_table) FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND c.events_table <> $2
GROUP BY c.projection ORDER BY c.projection`,
		"{count} checkpoints of projection {projection} are of the events table {detail}", "look with an event store of that table; or, if its rows have moved to this one, correct events_table",
	},
	{
		"regression_stands", Fault, `
SELECT '', pg_catalog.count(*), pg_catalog.min(r.last_position) || ', below the checkpoint ' || pg_catalog.max(r.checkpoint)
FROM {{schema}}orchestrator_sequence_regressions AS r WHERE r.events_table = $2 AND r.settled_at IS NULL AND $1 <> ''
HAVING pg_catalog.count(*) > 0`,
		"the sequence of positions was found at {detail}: workers handle nothing", "see docs/architecture.md, After a failover or a restore",
	},
	{
		// A projection that was moved here has no owner, and keeps the generation that it had, until the replica set's next one divides it.
		"checkpoint_of_no_generation", Fault, `
SELECT c.projection, pg_catalog.count(*), pg_catalog.max(c.generation)::text FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND c.worker_id IS NOT NULL AND c.generation > ` + newest + `
GROUP BY c.projection ORDER BY c.projection`,
		"{count} checkpoints of projection {projection} are of generation {detail}, which does not exist", "set generation back to that of the other rows; workers then ask for a new generation",
	},
	{
		"worker_of_no_generation", Fault, `
SELECT '', pg_catalog.count(*), pg_catalog.min(w.name) FROM {{schema}}orchestrator_workers AS w
WHERE w.replica_set = $1 AND w.generation > ` + newest + `
HAVING pg_catalog.count(*) > 0`,
		"{count} workers, such as {detail}, are in a generation that does not exist", "restart them; delete the rows of those that do not run",
	},
	{
		"checkpoint_contradicts_generation", Fault, `
SELECT c.projection, pg_catalog.count(*), pg_catalog.min(g.number)::text
FROM {{schema}}orchestrator_checkpoints AS c
JOIN {{schema}}orchestrator_generations AS g ON g.replica_set = c.replica_set AND g.state = 'active'
WHERE c.replica_set = $1 AND c.generation <= g.number AND (c.generation <> g.number OR c.worker_id IS NULL OR c.worker_id <> ALL (g.members))
  AND EXISTS (SELECT FROM {{schema}}orchestrator_workers AS w
              WHERE w.worker_id = ANY (g.members) AND c.projection = ANY (w.projections) AND (c.projection = ANY (w.left_out)) IS NOT TRUE AND NOT w.drained)
GROUP BY c.projection ORDER BY c.projection`,
		"{count} checkpoints of projection {projection} are not as generation {detail} has divided them", "running workers notice it and ask for a new generation; if none runs, the next one does",
	},
	{
		"worker_silent", Warning, `
SELECT '', pg_catalog.count(*), pg_catalog.min(w.name)
FROM {{schema}}orchestrator_workers AS w LEFT JOIN {{schema}}orchestrator_heartbeats AS h USING (worker_id)
WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead') AND (h.last_heartbeat > pg_catalog.now() - ` + silenceSQL + `) IS NOT TRUE
HAVING pg_catalog.count(*) > 0`,
		"{count} workers, such as {detail}, have not been heard of for 15 s or longer, and nobody has declared them dead", "start a worker: it does so",
	},
	{
		"drain_of_nobody", Note, `
SELECT '', pg_catalog.count(*), pg_catalog.min(d.worker) FROM {{schema}}orchestrator_drains AS d
WHERE d.replica_set = $1 AND NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_workers AS w
    WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead') AND d.worker IN (w.name, w.worker_id::text))
HAVING pg_catalog.count(*) > 0`,
		"{count} drains are of workers, such as {detail}, that are not there", "end them with Undrain, unless the workers are to come back drained",
	},
	{
		"handler_abandoned", Warning, `
SELECT a.projection, pg_catalog.count(*), pg_catalog.min(w.name)
FROM {{schema}}orchestrator_abandoned_handlers AS a JOIN {{schema}}orchestrator_workers AS w USING (worker_id)
WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead')
GROUP BY a.projection ORDER BY a.projection`,
		"{count} handlers of projection {projection}, on worker {detail} or others, do not return: these workers leave out the projection", "restart the workers, and give the handlers timeouts",
	},
	{
		"request_without_operation", Fault, `
SELECT r.projection, pg_catalog.count(*), pg_catalog.min(r.operation)::text FROM {{schema}}orchestrator_requests AS r
WHERE NOT EXISTS (SELECT FROM {{schema}}orchestrator_operations AS o WHERE o.id = r.operation)
  AND EXISTS (SELECT FROM {{schema}}orchestrator_checkpoints AS c WHERE c.projection = r.projection AND c.replica_set = $1)
GROUP BY r.projection ORDER BY r.projection`,
		"{count} requests for projection {projection} are of operations, such as {detail}, that do not exist", "delete the rows from orchestrator_requests, and restore the foreign key",
	},
	{
		"request_of_ended_operation", Fault, `
SELECT r.projection, pg_catalog.count(*), pg_catalog.min(o.id)::text
FROM {{schema}}orchestrator_requests AS r JOIN {{schema}}orchestrator_operations AS o ON o.id = r.operation
WHERE o.replica_set = $1 AND r.state = 'waiting' AND o.state <> 'waiting'
GROUP BY r.projection ORDER BY r.projection`,
		"{count} requests for projection {projection} wait, and their operations, such as {detail}, have ended", "set state of the requests to cancelled, and finished_at to now()",
	},
	{
		"operation_without_request", Warning, `
SELECT o.projection, pg_catalog.count(*), pg_catalog.min(o.id)::text FROM {{schema}}orchestrator_operations AS o
WHERE o.replica_set = $1 AND o.state = 'waiting' AND (o.kind <> 'cut-over' OR (o.arguments ->> 'until')::timestamptz < pg_catalog.now()) AND NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_requests AS r WHERE r.operation = o.id AND r.state = 'waiting')
GROUP BY o.projection ORDER BY o.projection`,
		"{count} operations, such as {detail}, wait for nothing", "end them with Cancel",
	},
	{
		"letters_of_moved_projection", Warning, `
SELECT l.projection, pg_catalog.count(*), pg_catalog.min(c.replica_set)
FROM (
    SELECT projection FROM {{schema}}orchestrator_dead_letters WHERE replica_set = $1
    UNION ALL SELECT projection FROM {{schema}}orchestrator_parked_aggregates WHERE replica_set = $1) AS l
CROSS JOIN LATERAL (SELECT replica_set FROM {{schema}}orchestrator_checkpoints AS c WHERE c.projection = l.projection ORDER BY slot_from LIMIT 1) AS c
WHERE c.replica_set <> $1
GROUP BY l.projection ORDER BY l.projection`,
		"{count} rows of failed events and parked aggregates of projection {projection} are this replica set's, but replica set {detail} runs it", "set their replica_set too: see docs/operating.md",
	},
	{
		"rows_of_no_projection", Note, `
SELECT l.projection, pg_catalog.count(*), ''
FROM (
    SELECT projection FROM {{schema}}orchestrator_dead_letters WHERE replica_set = $1
    UNION ALL SELECT projection FROM {{schema}}orchestrator_parked_aggregates WHERE replica_set = $1) AS l
WHERE NOT EXISTS (SELECT FROM {{schema}}orchestrator_checkpoints AS c WHERE c.projection = l.projection)
GROUP BY l.projection ORDER BY l.projection`,
		"{count} rows of failed events and parked aggregates are of projection {projection}, which has no checkpoints", "delete them if the projection was removed",
	},
	{
		"projection_without_worker", Note, `
SELECT DISTINCT c.projection, 1::bigint, '' FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_successions AS s WHERE s.replaced = c.projection AND s.cut_over_at IS NOT NULL) AND NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_workers AS w WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead') AND c.projection = ANY (w.projections))
ORDER BY c.projection`,
		"no worker runs projection {projection}", "start one; if the projection was removed, delete its rows",
	},
}
