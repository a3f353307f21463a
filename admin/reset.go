package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Reset makes a [projection.Resettable] start again at an earlier point. A worker empties the read model and moves all
// checkpoints of the projection back, in one transaction, so either both happen or neither does. Then the workers that
// run the projection rebuild it together. [Admin.Rebuild] says how far they are. Reset returns when the transaction has
// committed.
//
// Parked events after the point are discarded, since they will be handled again. An aggregate that is parked with an
// earlier event stays parked. A stop ends. A paused projection stays paused, at its new position.
//
// Reset refuses a projection that was replaced at a cut-over, or that a cut-over holds. A projection that has replaced
// another one handles the events again without Replay.
//
// It is an error if the point is above any checkpoint of the projection, since events would be skipped. It is also an
// error if a running worker has the projection without a Reset method, or if no worker has the projection: use
// [Admin.ResetWith] or [Admin.ResetCheckpoints]. If ctx ends before a worker has done the reset, the request remains;
// [Admin.Cancel] removes it.
func (a *Admin) Reset(ctx context.Context, projection string, to Point, reason string) error {
	return a.explainReset(ctx, askRights, projection, to, a.resetByWorker(ctx, projection, to, reason))
}

// ResetWith is [Admin.Reset] with a function that empties the read model instead of a worker. No worker needs to run the
// projection. ResetWith calls empty in the transaction that moves the checkpoints back, while no batch of the projection
// runs. After a conflict with another transaction it may call empty again. empty must not end the transaction. An error
// from it undoes everything. If a worker joins or leaves meanwhile, the replica set waits until empty has returned and the
// transaction has ended, so empty should be quick, and ctx should have a deadline.
func (a *Admin) ResetWith(ctx context.Context, projection string, to Point, reason string, empty func(ctx context.Context, tx pgx.Tx) error) error {
	err := errors.New("the function must not be nil: ResetCheckpoints leaves the read model as it is")
	if empty != nil {
		err = a.resetHere(ctx, projection, to, reason, "caller", empty)
	}
	return a.explainReset(ctx, resetRights, projection, to, err)
}

// ResetCheckpoints is [Admin.Reset] for the checkpoints only. The read model stays as it is, so the handler must be able
// to handle the events again.
func (a *Admin) ResetCheckpoints(ctx context.Context, projection string, to Point, reason string) error {
	return a.explainReset(ctx, resetRights, projection, to, a.resetHere(ctx, projection, to, reason, "nobody", func(context.Context, pgx.Tx) error { return nil }))
}

// explainReset is [Admin.explain] for a reset.
func (a *Admin) explainReset(ctx context.Context, needs rights, projection string, to Point, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("resetting projection %q of replica set %q to %s: %w", projection, a.replicaSet, to, a.withGrant(ctx, needs, err))
}

func checkReset(projection string, to Point, reason string) error {
	if err := checkText("the projection's name", projection, 1, mostText); err != nil {
		return err
	}
	if err := checkText("the reason", reason, 0, mostReason); err != nil {
		return err
	}
	return to.check()
}

// recordReset makes the operation's row, and returns the position that the point is.
func (c change) recordReset(ctx context.Context, projection string, to Point, reason, emptiedBy, state string) (id, position int64, err error) {
	if position, err = c.resolve(ctx, projection, to); err != nil {
		return 0, 0, err
	}
	arguments := to.described(position)
	arguments["emptied_by"] = emptiedBy
	id, err = c.record(ctx, operation{kind: replicaset.Reset, projection: projection, arguments: arguments, reason: reason}, state, map[string]any{})
	if err != nil {
		return 0, 0, fmt.Errorf("recording the operation: %w", err)
	}
	return id, position, nil
}

// resetHere sets the checkpoints back, and has empty do the rest.
func (a *Admin) resetHere(ctx context.Context, projection string, to Point, reason, emptiedBy string, empty func(context.Context, pgx.Tx) error) error {
	if err := checkReset(projection, to, reason); err != nil {
		return err
	}
	return a.orBusy(ctx, Target{Projection: projection}, a.change(ctx, func(c change) error {
		if err := c.lockAll(ctx, projection); err != nil {
			return err
		}
		if err := c.mayReset(ctx, projection); err != nil {
			return err
		}
		id, position, err := c.recordReset(ctx, projection, to, reason, emptiedBy, "done")
		if err != nil {
			return err
		}
		if err := c.store.SetBack(ctx, c.tx, projection, position, id); err != nil {
			return err
		}
		return c.run(ctx, empty)
	}))
}

// mayReset says why a projection cannot be reset, whoever empties its read model. Its checkpoints are locked.
func (c change) mayReset(ctx context.Context, projection string) error {
	return errors.Join(c.notReplaced(ctx, projection), c.notCuttingOver(ctx, projection))
}

const sqlTransaction = `SELECT coalesce(pg_catalog.pg_current_xact_id_if_assigned()::text, '')`

// run calls the caller's function, last of all.
func (c change) run(ctx context.Context, empty func(context.Context, pgx.Tx) error) (err error) {
	var before, after string
	if err := c.tx.QueryRow(ctx, sqlTransaction).Scan(&before); err != nil {
		return err
	}
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("the function that empties the read model panicked: %v", value)
		}
	}()
	if err := empty(ctx, batchtx.Guard(c.tx)); err != nil {
		return fmt.Errorf("emptying the read model: %w", err)
	}
	if err := c.tx.QueryRow(ctx, sqlTransaction).Scan(&after); err != nil {
		return fmt.Errorf("after the read model was emptied: %w", err)
	}
	if before != after {
		return errors.New("the function that empties the read model has ended the transaction")
	}
	return nil
}

// lockAll locks all checkpoints of the projection, if it is no preview. No batch of it is in flight then, and no generation can begin.
func (c change) lockAll(ctx context.Context, projection string) error {
	var gaps []slot.Range
	for range recutsMost {
		rows, err := c.tx.Query(ctx, c.store.SQL(c.locking(sqlTarget, sqlForChange)), c.admin.replicaSet, projection)
		if err != nil {
			return fmt.Errorf("locking the checkpoints: %w", err)
		}
		locked, err := collectRanges(rows)
		if err != nil {
			return fmt.Errorf("locking the checkpoints: %w", err)
		}
		if gaps = slot.Gaps(locked[projection]); len(gaps) == 0 {
			return nil
		} // a generation that began meanwhile has replaced rows by others
	}
	if len(gaps) == 1 && gaps[0] == slot.All() {
		return errNoCheckpoints
	}
	return fmt.Errorf("the checkpoints do not cover the slots %v", gaps)
}

const sqlResettable = `
SELECT coalesce(array_agg(name ORDER BY name) FILTER (WHERE $2 = ANY (resettable)), '{}'), coalesce(array_agg(name ORDER BY name) FILTER (WHERE ($2 = ANY (resettable)) IS NOT TRUE), '{}')
FROM {{schema}}orchestrator_workers WHERE replica_set = $1 AND $2 = ANY (projections) AND state NOT IN ('stopped', 'dead')`

const sqlRequestReset = `
INSERT INTO {{schema}}orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind, target)
VALUES ($1, $2, '', '', '', 'reset', $3) RETURNING (hashtextextended(aggregate_id, 0) & 65535)::int`

// withoutReset is the advice for a projection that no worker can reset, in Go and on the command line.
const withoutReset = "reset only its checkpoints (--checkpoints-only on the command line), and empty the read model yourself if the handler cannot bear to see events again"

// mayResetByWorker says why no worker can reset a projection.
func (c change) mayResetByWorker(ctx context.Context, projection string) error {
	var able, others []string
	if err := c.tx.QueryRow(ctx, c.store.SQL(sqlResettable), c.admin.replicaSet, projection).Scan(&able, &others); err != nil {
		return fmt.Errorf("looking for workers that run the projection: %w", err)
	}
	switch {
	case len(able)+len(others) == 0:
		return errors.New("no worker runs it: start one whose projection has a method Reset (projection.Resettable), or " + withoutReset)
	case len(able) == 0:
		return errors.New("no worker runs it with a method Reset (projection.Resettable): " + withoutReset)
	case len(others) > 0:
		return fmt.Errorf("the workers %s run it without a method Reset (projection.Resettable): wait until they run the same version as %s", strings.Join(others, ", "), able[0])
	}
	return nil
}

// resetByWorker asks for a reset, and waits for it.
func (a *Admin) resetByWorker(ctx context.Context, projection string, to Point, reason string) error {
	if err := checkReset(projection, to, reason); err != nil {
		return err
	}
	var id int64
	err := a.change(ctx, func(c change) error {
		if err := c.mayResetByWorker(ctx, projection); err != nil {
			return err
		}
		var position int64
		var err error
		if id, position, err = c.recordReset(ctx, projection, to, reason, "worker", "waiting"); err != nil {
			return err
		}
		var at int32
		if err := c.tx.QueryRow(ctx, c.store.SQL(sqlRequestReset), id, projection, position).Scan(&at); err != nil {
			return fmt.Errorf("asking for it: %w", err)
		}
		if err := c.raise(ctx, parkedAggregates{projections: []string{projection}, slotOf: []int32{at}}); err != nil {
			return err
		}
		// The checkpoint is locked. A cut-over that begins later sees the request, and does not.
		return c.mayReset(ctx, projection)
	})
	if err != nil {
		return a.orBusy(ctx, Target{Projection: projection}, err)
	}
	result, err := a.await(ctx, asked{id: id, parts: 1, what: "resets"})
	if err == nil && result.Failed > 0 {
		err = errors.New("the worker could not empty the read model")
		if len(result.Failures) > 0 {
			err = fmt.Errorf("the worker could not empty the read model: %s", result.Failures[0].Error)
		}
	}
	return err
}
