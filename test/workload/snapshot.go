package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Snapshot is a replica set at one moment, as the coordination tables show it.
type Snapshot struct {
	Workers     []WorkerStatus     // all that ever were, oldest first
	Generations []GenerationStatus // all that ever were, in order
	// Latest is the highest committed position in the events table.
	Latest int64
}

// WorkerStatus is one worker.
type WorkerStatus struct {
	ID         uuid.UUID
	Name       string
	PID        int
	State      string
	Generation int64
	// Detail is what happened to it last, in a sentence.
	Detail string
	// Heartbeat is the age of its last heartbeat.
	Heartbeat time.Duration
	// Assignments are ordered by projection, then partition.
	Assignments []Assignment
}

// Assignment is one partition of one projection on a worker.
type Assignment struct {
	Projection string
	Partition  string // k/N
	// Position is the lowest of the partition's checkpoints, and Lag how far that is below the latest committed event.
	Position, Lag int64
	// Rate is the events that it handled a second, lately.
	Rate float64
}

// GenerationStatus is one generation.
type GenerationStatus struct {
	Number  int64
	State   string
	Cause   string
	Reason  string
	Members []uuid.UUID
	// Took is the time from its preparation to its activation; 0 if it never was active.
	Took time.Duration
	// Activated says whether it ever was.
	Activated bool
}

// Current is the generation with the highest number; the zero value if there is none.
func (s Snapshot) Current() GenerationStatus {
	if len(s.Generations) == 0 {
		return GenerationStatus{}
	}
	return s.Generations[len(s.Generations)-1]
}

// Worker is the last worker of that name.
func (s Snapshot) Worker(name string) (worker WorkerStatus, found bool) {
	for _, w := range s.Workers {
		if w.Name == name {
			worker, found = w, true
		}
	}
	return worker, found
}

const sqlSnapshotGenerations = `
SELECT number, state, cause, reason, members, coalesce(extract(epoch FROM activated_at - created_at), 0)::float8,
    activated_at IS NOT NULL
FROM orchestrator_generations WHERE replica_set = $1 ORDER BY number`

const sqlSnapshotWorkers = `
SELECT w.worker_id, w.name, w.process_id, w.state, w.generation, w.detail,
    coalesce(extract(epoch FROM clock_timestamp() - h.last_heartbeat), 0)::float8
FROM orchestrator_workers AS w LEFT JOIN orchestrator_heartbeats AS h USING (worker_id)
WHERE w.replica_set = $1 ORDER BY w.started_at, w.name`

const sqlSnapshotAssignments = `
WITH latest AS (
    SELECT coalesce(max(global_position), 0) AS position FROM events
), handled AS (
    SELECT projection, worker, generation, count(*) AS events FROM workload_log
    WHERE seq > (SELECT coalesce(max(seq), 0) - 20000 FROM workload_log) AND handled_at > clock_timestamp() - interval '2 s'
    GROUP BY projection, worker, generation
)
SELECT c.worker_id, c.projection, c.partition_key || '/' || c.total_partitions, min(c.position),
    greatest(max(latest.position) - min(c.position), 0),
    coalesce(max(handled.events), 0)::float8 / least(2, greatest(1, max(extract(epoch FROM clock_timestamp() - g.activated_at))))::float8
FROM orchestrator_checkpoints AS c
JOIN orchestrator_workers AS w USING (worker_id)
CROSS JOIN latest
LEFT JOIN orchestrator_generations AS g ON g.replica_set = c.replica_set AND g.number = c.generation
LEFT JOIN handled ON handled.projection = c.projection AND handled.worker = w.name AND handled.generation = c.generation
WHERE c.replica_set = $1
GROUP BY c.worker_id, c.projection, c.partition_key, c.total_partitions
ORDER BY c.projection, c.partition_key`

const sqlLatest = `SELECT coalesce(max(global_position), 0) FROM events`

// Observe reads a snapshot, all of it at one moment. The rates are those of workers with one partition of each projection.
func Observe(ctx context.Context, pool *pgxpool.Pool, replicaSet string) (Snapshot, error) {
	var s Snapshot
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error { return s.read(ctx, tx, replicaSet) })
	if err != nil {
		return Snapshot{}, fmt.Errorf("observing replica set %q: %w", replicaSet, err)
	}
	return s, nil
}

// read reads everything within tx.
func (s *Snapshot) read(ctx context.Context, tx pgx.Tx, replicaSet string) error {
	rows, err := tx.Query(ctx, sqlSnapshotGenerations, replicaSet)
	if err != nil {
		return err
	}
	s.Generations, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (g GenerationStatus, err error) {
		var took float64
		err = row.Scan(&g.Number, &g.State, &g.Cause, &g.Reason, &g.Members, &took, &g.Activated)
		g.Took = seconds(took)
		return g, err
	})
	if err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, sqlSnapshotWorkers, replicaSet); err != nil {
		return err
	}
	s.Workers, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w WorkerStatus, err error) {
		var heartbeat float64
		err = row.Scan(&w.ID, &w.Name, &w.PID, &w.State, &w.Generation, &w.Detail, &heartbeat)
		w.Heartbeat = seconds(heartbeat)
		return w, err
	})
	if err != nil {
		return err
	}
	if err := s.readAssignments(ctx, tx, replicaSet); err != nil {
		return err
	}
	return tx.QueryRow(ctx, sqlLatest).Scan(&s.Latest)
}

// readAssignments adds to each worker what it has.
func (s *Snapshot) readAssignments(ctx context.Context, tx pgx.Tx, replicaSet string) error {
	index := map[uuid.UUID]int{}
	for i, w := range s.Workers {
		index[w.ID] = i
	}
	rows, err := tx.Query(ctx, sqlSnapshotAssignments, replicaSet)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (a Assignment, err error) {
		var id uuid.UUID
		err = row.Scan(&id, &a.Projection, &a.Partition, &a.Position, &a.Lag, &a.Rate)
		if i, known := index[id]; known && err == nil {
			s.Workers[i].Assignments = append(s.Workers[i].Assignments, a)
		}
		return a, err
	})
	return err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// No checkpoints at all means that no worker has come yet.
const sqlDrained = `
SELECT coalesce(bool_and(position >= (SELECT coalesce(max(global_position), 0) FROM events)), false)
FROM orchestrator_checkpoints AS c WHERE replica_set = $1 AND NOT EXISTS (SELECT FROM orchestrator_successions AS s WHERE s.replaced = c.projection AND s.cut_over_at IS NOT NULL)`

// Drained says whether every checkpoint of the replica set, but for projections that were replaced, has reached the latest committed event. It means something only
// after the writers have stopped.
func Drained(ctx context.Context, pool *pgxpool.Pool, replicaSet string) (bool, error) {
	var drained bool
	if err := pool.QueryRow(ctx, sqlDrained, replicaSet).Scan(&drained); err != nil {
		return false, fmt.Errorf("comparing the checkpoints of replica set %q with the events: %w", replicaSet, err)
	}
	return drained, nil
}
