package pgcoord

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Old rows are deleted here: generations, workers that have gone, and dead letters whose events were handled. The leader does it once in each generation that lasts.

const sqlPruneGenerations = `
DELETE FROM {{schema}}orchestrator_generations
WHERE replica_set = $1 AND state = 'superseded' AND number < (
    SELECT max(number) FROM {{schema}}orchestrator_generations WHERE replica_set = $1) - $2`

const sqlPruneWorkers = `
DELETE FROM {{schema}}orchestrator_workers AS w
WHERE w.replica_set = $1 AND w.state IN ('stopped', 'dead')
  AND w.worker_id NOT IN (
    SELECT kept.worker_id FROM {{schema}}orchestrator_workers AS kept
    WHERE kept.replica_set = $1 AND kept.state IN ('stopped', 'dead')
    ORDER BY kept.state_changed_at DESC LIMIT $2)
  AND NOT EXISTS (SELECT 1 FROM {{schema}}orchestrator_checkpoints AS c WHERE c.worker_id = w.worker_id)`

const sqlPruneDeadLetters = `
DELETE FROM {{schema}}orchestrator_dead_letters AS d
WHERE d.replica_set = $1 AND d.state = 'handled'
  AND (d.projection, d.global_position) NOT IN (
    SELECT kept.projection, kept.global_position FROM {{schema}}orchestrator_dead_letters AS kept
    WHERE kept.replica_set = $1 AND kept.state = 'handled'
    ORDER BY kept.handled_at DESC LIMIT $2)`

// What a process that is gone has abandoned is gone with it. A worker that was declared dead and comes back records its own again.
const sqlPruneAbandoned = `
DELETE FROM {{schema}}orchestrator_abandoned_handlers AS a
USING {{schema}}orchestrator_workers AS w
WHERE w.worker_id = a.worker_id AND w.replica_set = $1 AND w.state IN ('stopped', 'dead')`

// PruneAbandoned deletes the abandoned handlers of workers that left or died.
func (s *Store) PruneAbandoned(ctx context.Context, db DB) error {
	if _, err := db.Exec(ctx, s.q(sqlPruneAbandoned), s.replicaSet); err != nil {
		return fmt.Errorf("pruning the abandoned handlers of workers of replica set %q that are gone: %w", s.replicaSet, err)
	}
	return nil
}

// Prune deletes superseded generations, and workers that left or died. It keeps the latest keep of each. A worker that
// was declared dead and is pruned before it comes back joins as a new one.
func (s *Store) Prune(ctx context.Context, db DB, keep int) error {
	for _, sql := range []string{sqlPruneGenerations, sqlPruneWorkers} {
		if _, err := db.Exec(ctx, s.q(sql), s.replicaSet, keep); err != nil {
			return fmt.Errorf("pruning the old rows of replica set %q: %w", s.replicaSet, err)
		}
	}
	return nil
}

// PruneFailures deletes the records of failed events that were handled later, except the latest keep. Records of skipped
// events stay, since nothing else says that no handler has handled them.
func (s *Store) PruneFailures(ctx context.Context, db Conn, keep int) error {
	err := s.record(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.q(sqlPruneDeadLetters), s.replicaSet, keep)
		return err
	})
	if err != nil {
		return fmt.Errorf("pruning the failed events of replica set %q: %w", s.replicaSet, err)
	}
	return nil
}
