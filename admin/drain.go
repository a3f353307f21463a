package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Drain and Undrain write and delete a row of orchestrator_drains. The next generation gives a drained worker no
// partitions (internal/replicaset/member.go). Drain waits until other workers have them.

// ofWorker is the condition for a worker w to be one that is called so: the arguments are $1 and $2.
const ofWorker = `w.replica_set = $1 AND $2 IN (w.name, w.worker_id::text)`

// Two drains at once would each take the other's worker for one that goes on.
const sqlDrainInTurn = `LOCK TABLE {{schema}}orchestrator_drains IN SHARE ROW EXCLUSIVE MODE`

const sqlKnown = `SELECT EXISTS (SELECT FROM {{schema}}orchestrator_workers AS w WHERE ` + ofWorker + `)`

// sqlOnlyThere is the projections that no worker runs but those called so, those that are drained, and those that are silent: they have probably died.
const sqlOnlyThere = `
WITH other AS (
    SELECT w.projections, w.left_out FROM {{schema}}orchestrator_workers AS w JOIN {{schema}}orchestrator_heartbeats AS h USING (worker_id)
    WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead', 'stopping') AND h.last_heartbeat > now() - ` + silenceSQL + ` AND $2 NOT IN (w.name, w.worker_id::text)
      AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_drains AS d WHERE d.replica_set = $1 AND d.worker IN (w.name, w.worker_id::text)))
SELECT DISTINCT p.projection FROM {{schema}}orchestrator_workers AS w CROSS JOIN unnest(w.projections) AS p (projection)
WHERE ` + ofWorker + ` AND w.state NOT IN ('stopped', 'dead') AND NOT EXISTS (
    SELECT FROM other WHERE p.projection = ANY (other.projections) AND (p.projection = ANY (other.left_out)) IS NOT TRUE)
ORDER BY 1`

const sqlDrain = `
INSERT INTO {{schema}}orchestrator_drains (replica_set, worker, actor, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (replica_set, worker) DO UPDATE SET actor = excluded.actor, reason = excluded.reason`

// Drain gives the partitions of a worker to the others. The worker keeps running, and gets no partitions until Undrain.
// worker is its name or its id. A name survives restarts, and applies to all workers that have it. Drain returns when
// the worker has no partitions left. If ctx ends first, the worker stays drained, and the error names the partitions
// that it still has. If somebody ends the drain meanwhile, the error wraps ErrCancelled.
//
// It is an error if no other worker runs all projections of the worker, since they would stand still; pause them
// instead. A worker that is silent (see Worker.SilentFor) does not count. A drained worker never takes partitions. If
// the other workers end later, the projections therefore stand still until another worker starts or somebody calls
// Undrain. The worker must be known: it runs, or its row still exists.
func (a *Admin) Drain(ctx context.Context, worker, reason string) error {
	return a.explain(ctx, drainRights, fmt.Sprintf("draining worker %q", worker), a.drain(ctx, worker, reason))
}

func (a *Admin) drain(ctx context.Context, worker, reason string) error {
	if err := checkDrain(worker, reason); err != nil {
		return err
	}
	err := a.change(ctx, func(c change) error {
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlDrainInTurn)); err != nil {
			return fmt.Errorf("waiting for other drains: %w", err)
		}
		known := false
		if err := c.tx.QueryRow(ctx, c.store.SQL(sqlKnown), a.replicaSet, worker).Scan(&known); err != nil {
			return fmt.Errorf("looking for the worker: %w", err)
		}
		if !known {
			return errors.New("no worker of the replica set has that name or id")
		}
		rows, err := c.tx.Query(ctx, c.store.SQL(sqlOnlyThere), a.replicaSet, worker)
		var only []string
		if err == nil {
			only, err = pgx.CollectRows(rows, pgx.RowTo[string])
		}
		if err != nil {
			return fmt.Errorf("looking for other workers: %w", err)
		}
		if len(only) > 0 {
			return fmt.Errorf("no other worker handles %s: start one first, or pause the projections instead", strings.Join(only, ", "))
		}
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlDrain), a.replicaSet, worker, a.actor, reason); err != nil {
			return err
		}
		_, err = c.record(ctx, operation{kind: "drain", arguments: map[string]any{"worker": worker}, reason: reason}, "done", map[string]any{})
		return err
	})
	if err != nil {
		return err
	}
	return a.awaitDrained(ctx, worker)
}

// sqlHas is the partitions that the worker has, whether no generation can give it any, since the last one took it for drained, and whether it is drained still.
const sqlHas = `
SELECT coalesce(string_agg(DISTINCT c.projection || ' ' || c.partition_key || '/' || c.total_partitions, ', '), ''), NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_workers AS w WHERE ` + ofWorker + ` AND w.state NOT IN ('stopped', 'dead') AND NOT w.drained),
    EXISTS (SELECT FROM {{schema}}orchestrator_drains AS d WHERE d.replica_set = $1 AND d.worker = $2)
FROM {{schema}}orchestrator_checkpoints AS c JOIN {{schema}}orchestrator_workers AS w USING (worker_id)
WHERE c.replica_set = $1 AND ` + ofWorker + ` AND w.state NOT IN ('stopped', 'dead')`

// awaitDrained waits until the worker has no partitions.
func (a *Admin) awaitDrained(ctx context.Context, worker string) error {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	for wait := firstWait; ; wait = min(2*wait, mostWait) {
		look, end := lastLook(ctx)
		has, noticed, drained, err := a.has(look, store, worker)
		end()
		switch {
		case err != nil && ctx.Err() != nil && look == ctx:
			continue // what it has is looked up once more
		case err != nil:
			return fmt.Errorf("it is drained; looking for what it still has: %w", err)
		case !drained:
			return fmt.Errorf("somebody has ended the drain: %w", ErrCancelled)
		case has == "" && noticed:
			return nil
		}
		select {
		case <-ctx.Done():
			if has == "" {
				return fmt.Errorf("it is drained, but no generation has begun with that yet: %w", context.Cause(ctx))
			}
			return fmt.Errorf("it is drained, but still has the partitions %s: %w", has, context.Cause(ctx))
		case <-time.After(wait):
		}
	}
}

func (a *Admin) has(ctx context.Context, store *pgcoord.Store, worker string) (partitions string, noticed, drained bool, err error) {
	err = a.db.QueryRow(ctx, store.SQL(sqlHas), a.replicaSet, worker).Scan(&partitions, &noticed, &drained)
	return partitions, noticed, drained, err
}

const sqlUndrain = `DELETE FROM {{schema}}orchestrator_drains WHERE replica_set = $1 AND worker = $2`

const sqlDrains = `SELECT coalesce(string_agg(worker, ', ' ORDER BY worker), '') FROM {{schema}}orchestrator_drains WHERE replica_set = $1`

// Undrain ends a drain, and the worker gets partitions again. worker is the argument that Drain was called with. It is
// an error if that is not drained.
func (a *Admin) Undrain(ctx context.Context, worker, reason string) error {
	err := checkDrain(worker, reason)
	if err == nil {
		err = a.change(ctx, func(c change) error {
			tag, err := c.tx.Exec(ctx, c.store.SQL(sqlUndrain), a.replicaSet, worker)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return c.notDrained(ctx)
			}
			_, err = c.record(ctx, operation{kind: "undrain", arguments: map[string]any{"worker": worker}, reason: reason}, "done", map[string]any{})
			return err
		})
	}
	return a.explain(ctx, undrainRights, fmt.Sprintf("ending the drain of worker %q", worker), err)
}

// notDrained says what is drained.
func (c change) notDrained(ctx context.Context) error {
	var drained string
	if err := c.tx.QueryRow(ctx, c.store.SQL(sqlDrains), c.admin.replicaSet).Scan(&drained); err != nil {
		return err
	}
	if drained == "" {
		return errors.New("no worker is drained")
	}
	return fmt.Errorf("it is not drained; these are: %s", drained)
}

func checkDrain(worker, reason string) error {
	if err := checkText("the worker's name or id", worker, 1, mostText); err != nil {
		return err
	}
	return checkText("the reason", reason, 0, mostReason)
}
