package pgcoord

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// Blocker is a backend of a worker of this replica set.
type Blocker struct {
	PID    int
	Worker uuid.UUID
	State  WorkerState
}

// Only backends whose application_name names a worker of this replica set are
// found: nothing of the application's is ever ended.
const sqlBlockers = `
SELECT a.pid, w.worker_id, w.state
FROM unnest(pg_blocking_pids($1)) AS blocking (pid)
JOIN pg_stat_activity AS a ON a.pid = blocking.pid
JOIN {{schema}}orchestrator_workers AS w
  ON w.replica_set = $2 AND a.application_name = $3 || w.worker_id::text`

// Blockers finds the workers' backends that the backend pid waits for.
func (s *Store) Blockers(ctx context.Context, db DB, pid int) ([]Blocker, error) {
	rows, err := db.Query(ctx, s.q(sqlBlockers), pid, s.replicaSet, applicationPrefix)
	if err != nil {
		return nil, fmt.Errorf("looking for the backends that block %d: %w", pid, err)
	}
	blockers, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Blocker, err error) {
		return b, row.Scan(&b.PID, &b.Worker, &b.State)
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the backends that block %d: %w", pid, err)
	}
	return blockers, nil
}

const sqlEnd = `
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
JOIN {{schema}}orchestrator_workers AS w
  ON w.replica_set = $2 AND a.application_name = $3 || w.worker_id::text
WHERE a.pid = $1 AND w.worker_id = $4`

// EndBackend ends a worker's backend. It does nothing if the backend has gone,
// or works for somebody else by now. Roles may end their own backends.
func (s *Store) EndBackend(ctx context.Context, db DB, pid int, worker uuid.UUID) error {
	if _, err := db.Exec(ctx, s.q(sqlEnd), pid, s.replicaSet, applicationPrefix, worker); err != nil {
		return fmt.Errorf("ending backend %d of worker %s: %w", pid, worker, err)
	}
	return nil
}
