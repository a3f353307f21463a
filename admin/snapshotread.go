package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// This file reads the rows of a Snapshot, with one statement for each kind. All statements run in one round trip and one
// transaction, so they show one moment. assemble.go builds the Snapshot from the rows, and snapshot.go declares it.

const sqlVersions = `
SELECT pg_catalog.now(), pg_catalog.current_setting('server_version'), coalesce(pg_catalog.max(version), 0) FROM {{schema}}orchestrator_schema_version`

const sqlGenerations = `
SELECT number, state, cause, reason, changes::text, prepared_by, pg_catalog.array_remove(members, NULL), created_at, activated_at, superseded_at
FROM {{schema}}orchestrator_generations WHERE replica_set = $1 ORDER BY number DESC LIMIT 10`

const sqlWorkers = `
SELECT w.worker_id, w.name, w.state, w.generation, w.detail, pg_catalog.array_remove(w.projections, NULL), pg_catalog.array_remove(w.unpartitioned, NULL), pg_catalog.array_remove(w.left_out, NULL),
    w.partitions, w.replaces, w.hostname, w.process_id, w.library_version, w.started_at, w.state_changed_at, h.last_heartbeat,
    EXISTS (SELECT FROM {{schema}}orchestrator_drains AS d WHERE d.replica_set = w.replica_set AND d.worker IN (w.name, w.worker_id::text)),
    extract(epoch FROM w.stale_timeout)::float8
FROM {{schema}}orchestrator_workers AS w LEFT JOIN {{schema}}orchestrator_heartbeats AS h USING (worker_id)
WHERE w.replica_set = $1 AND (w.state NOT IN ('stopped', 'dead') OR w.worker_id IN (
    SELECT worker_id FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND state IN ('stopped', 'dead') ORDER BY state_changed_at DESC LIMIT 10))
ORDER BY w.name, w.started_at, w.worker_id`

const sqlAbandoned = `
SELECT a.worker_id, a.projection, a.partition_key, a.total_partitions, a.global_position, a.abandoned_at
FROM {{schema}}orchestrator_abandoned_handlers AS a JOIN {{schema}}orchestrator_workers AS w USING (worker_id)
WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead') ORDER BY a.projection, a.global_position`

const sqlCheckpoints = `
SELECT projection, slot_from, slot_to, position, generation, partition_key, total_partitions, worker_id, stopped_at, revision, updated_at,
    CASE WHEN hold_until > pg_catalog.now() OR hold_until IS NULL THEN hold_at END, CASE WHEN hold_until > pg_catalog.now() THEN hold_until END
FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1 ORDER BY projection, slot_from`

const sqlParkedSlots = `
SELECT projection, (pg_catalog.hashtextextended(aggregate_id, 0) & 65535)::int, pg_catalog.count(*), pg_catalog.sum(letters)::bigint
FROM {{schema}}orchestrator_parked_aggregates WHERE replica_set = $1 GROUP BY 1, 2`

const sqlLetterSlots = `
SELECT projection, (pg_catalog.hashtextextended(aggregate_id, 0) & 65535)::int,
    pg_catalog.count(*) FILTER (WHERE state = 'retrying'), pg_catalog.count(*) FILTER (WHERE state = 'stopped'), pg_catalog.count(*) FILTER (WHERE state = 'skipped')
FROM {{schema}}orchestrator_dead_letters WHERE replica_set = $1 AND state IN ('retrying', 'stopped', 'skipped') GROUP BY 1, 2`

const sqlSuccessions = `
SELECT projection, replaced FROM {{schema}}orchestrator_successions AS s
WHERE cut_over_at IS NOT NULL AND EXISTS (
    SELECT FROM {{schema}}orchestrator_checkpoints AS c WHERE c.replica_set = $1 AND c.projection IN (s.projection, s.replaced))`

const sqlTurns = `
SELECT projection, until FROM {{schema}}orchestrator_turns WHERE replica_set = $1 AND until > pg_catalog.now()`

// sqlWaits is for how long the oldest event of each projection waits that a sample lies above.
const sqlWaits = `
SELECT c.projection, pg_catalog.max(greatest(0, extract(epoch FROM pg_catalog.now() - s.sampled_at)))
FROM {{schema}}orchestrator_checkpoints AS c
CROSS JOIN LATERAL (
    SELECT sampled_at FROM {{schema}}orchestrator_samples WHERE replica_set = $1 AND position > c.position ORDER BY position LIMIT 1) AS s
WHERE c.replica_set = $1 GROUP BY c.projection`

const sqlRegressions = `
SELECT number, last_position, checkpoint, noticed_at, settled_at
FROM {{schema}}orchestrator_sequence_regressions WHERE events_table = $1 ORDER BY number DESC LIMIT 10`

const sqlWaiting = `
SELECT o.id, o.projection, o.kind, o.arguments::text, o.actor, o.reason, o.requested_at, r.waiting, r.succeeded, r.failed
FROM {{schema}}orchestrator_operations AS o
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE state = 'waiting') AS waiting, pg_catalog.count(*) FILTER (WHERE state = 'succeeded') AS succeeded, pg_catalog.count(*) FILTER (WHERE state = 'failed') AS failed
    FROM {{schema}}orchestrator_requests WHERE operation = o.id) AS r
WHERE o.replica_set = $1 AND o.state = 'waiting' ORDER BY o.id LIMIT 100`

// countedMost is up to how many events a lag is counted.
const countedMost = 2000

// sqlLatest is the positions and slots of the latest events above the lowest checkpoint, the highest first: up to $2 of them. %s is the events table.
const sqlLatest = `
SELECT coalesce(pg_catalog.array_agg(e.global_position ORDER BY e.global_position DESC), '{}'), coalesce(pg_catalog.array_agg(e.slot ORDER BY e.global_position DESC), '{}')
FROM (SELECT global_position, (pg_catalog.hashtextextended(aggregate_id, 0) & 65535)::int AS slot FROM %s
      WHERE global_position > (SELECT pg_catalog.min(position) FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1)
      ORDER BY global_position DESC LIMIT $2) AS e`

// checkpoint is a row of orchestrator_checkpoints.
type checkpoint struct {
	Range
	projection string
	generation int64
	partition  string // empty if nobody owns the range
	worker     *uuid.UUID
}

// slotted is how many parked aggregates and failed events there are in a slot.
type slotted struct {
	projection string
	slot       int
	parked     Parked
	letters    Letters
}

// abandonedBy is a handler that a worker has abandoned.
type abandonedBy struct {
	worker uuid.UUID
	Abandoned
}

// assembly is a snapshot in the making, and the rows that it is made from.
type assembly struct {
	Snapshot
	view        replicaset.View
	checkpoints []checkpoint
	slotted     []slotted
	abandoned   []abandonedBy
	turns       map[string]*time.Time
	successions []replicaset.Succession
	waits       map[string]float64 // in seconds, by projection
	latest      latest
}

// latest is the latest events, the highest position first.
type latest struct {
	positions []int64
	slots     []int32
}

func (a *Admin) snapshot(ctx context.Context) (Snapshot, error) {
	var s assembly
	err := a.look(ctx, func(l look) error {
		s = assembly{}
		now, err := readSettled(ctx, l.tx, l.store, l.events)
		if err != nil {
			return err
		}
		s.view, s.Horizon = now.view, now.horizon
		return s.read(ctx, l)
	})
	if err != nil {
		return Snapshot{}, err
	}
	s.ReplicaSet = a.replicaSet
	s.Versions.Library, s.Versions.LatestSchema = pgcoord.LibraryVersion(), migrations.Latest()
	s.assemble()
	return s.Snapshot, nil
}

// read reads the tables, in one round trip.
func (s *assembly) read(ctx context.Context, l look) error {
	var batch pgx.Batch
	ask := func(sql string, read func(pgx.Rows) error, args ...any) {
		batch.Queue(l.store.SQL(sql), args...).Query(read)
	}
	set := l.admin.replicaSet
	s.EventsTable = l.store.EventsTable()
	batch.Queue(l.store.SQL(sqlVersions)).QueryRow(func(row pgx.Row) error { return row.Scan(&s.At, &s.Versions.Server, &s.Versions.Schema) })
	ask(sqlGenerations, collect(&s.Generations, scanGeneration), set)
	ask(sqlWorkers, collect(&s.Workers, scanWorker), set)
	ask(sqlAbandoned, collect(&s.abandoned, scanAbandoned), set)
	ask(sqlCheckpoints, collect(&s.checkpoints, scanCheckpoint), set)
	var parked, letters []slotted
	ask(sqlParkedSlots, collect(&parked, func(rows pgx.Rows, n *slotted) error {
		return rows.Scan(&n.projection, &n.slot, &n.parked.Aggregates, &n.parked.Events)
	}), set)
	ask(sqlLetterSlots, collect(&letters, func(rows pgx.Rows, n *slotted) error {
		return rows.Scan(&n.projection, &n.slot, &n.letters.Retrying, &n.letters.Stopped, &n.letters.Skipped)
	}), set)
	s.turns = map[string]*time.Time{}
	ask(sqlTurns, func(rows pgx.Rows) error {
		var projection string
		var until *time.Time
		_, err := pgx.ForEachRow(rows, []any{&projection, at(&until)}, func() error {
			s.turns[projection] = until
			return nil
		})
		return err
	}, set)
	s.waits = map[string]float64{}
	ask(sqlWaits, func(rows pgx.Rows) error {
		var projection string
		var seconds float64
		_, err := pgx.ForEachRow(rows, []any{&projection, &seconds}, func() error {
			s.waits[projection] = seconds
			return nil
		})
		return err
	}, set)
	ask(sqlHolds, collect(&s.Holds, scanHold), set)
	ask(sqlDrainsOf, collect(&s.Drains, scanDrain), set)
	ask(sqlSuccessions, collect(&s.successions, scanSuccession), set)
	ask(sqlRegressions, collect(&s.Regressions, scanRegression), s.EventsTable)
	ask(sqlWaiting, collect(&s.Operations, func(rows pgx.Rows, o *Operation) error {
		var arguments string
		err := rows.Scan(&o.ID, &o.Projection, &o.Kind, &arguments, &o.Actor, &o.Reason, at(&o.RequestedAt), &o.Waiting, &o.Succeeded, &o.Failed)
		o.Arguments = json.RawMessage(arguments)
		return err
	}), set)
	batch.Queue(fmt.Sprintf(l.store.SQL(sqlLatest), l.events.Sanitize()), set, countedMost+1).QueryRow(func(row pgx.Row) error {
		return row.Scan(&s.latest.positions, &s.latest.slots)
	})
	if err := l.tx.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("reading the tables: %w", err)
	}
	s.slotted = append(parked, letters...)
	return nil
}

func scanGeneration(rows pgx.Rows, g *Generation) error {
	var changes string
	err := rows.Scan(&g.Number, &g.State, &g.Cause, &g.Reason, &changes, &g.PreparedBy, &g.Members, at(&g.CreatedAt), at(&g.ActivatedAt), at(&g.SupersededAt))
	if err != nil {
		return err
	}
	var stored []replicaset.Change
	if err := json.Unmarshal([]byte(changes), &stored); err != nil {
		return fmt.Errorf("reading the changes of generation %d: %w", g.Number, err)
	}
	g.Changes = []Change{}
	for _, c := range stored {
		change := Change{Name: c.Name, Change: string(c.Kind), Projections: append([]string{}, c.Projections...), Detail: c.Detail}
		if c.Worker != uuid.Nil {
			change.Worker = &c.Worker
		}
		g.Changes = append(g.Changes, change)
	}
	return nil
}

func scanWorker(rows pgx.Rows, w *Worker) error {
	return rows.Scan(&w.ID, &w.Name, &w.State, &w.Generation, &w.Detail, &w.Projections, &w.Unpartitioned, &w.LeftOut,
		&w.PartitionsPerProjection, &w.Replaces, &w.Hostname, &w.ProcessID, &w.LibraryVersion, at(&w.StartedAt), at(&w.StateChangedAt), at(&w.LastHeartbeat), &w.Drained, &w.StaleTimeoutSeconds)
}

func scanAbandoned(rows pgx.Rows, a *abandonedBy) error {
	var p slot.Partition
	err := rows.Scan(&a.worker, &a.Projection, &p.Key, &p.Total, &a.Position, at(&a.AbandonedAt))
	a.Partition = p.String()
	return err
}

func scanCheckpoint(rows pgx.Rows, c *checkpoint) error {
	var number, total *int
	err := rows.Scan(&c.projection, &c.SlotFrom, &c.SlotTo, &c.Position, &c.generation, &number, &total, &c.worker, &c.StoppedAt, &c.Revision, at(&c.UpdatedAt),
		&c.HoldAt, at(&c.HoldUntil))
	if number != nil && total != nil {
		c.partition = slot.Partition{Key: *number, Total: *total}.String()
	}
	return err
}

func scanSuccession(rows pgx.Rows, s *replicaset.Succession) error {
	return rows.Scan(&s.Projection, &s.Replaced)
}

func scanRegression(rows pgx.Rows, r *Regression) error {
	return rows.Scan(&r.Number, &r.LastPosition, &r.Checkpoint, at(&r.NoticedAt), at(&r.SettledAt))
}
