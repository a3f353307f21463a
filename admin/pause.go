package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Pause and Resume write hold_at of a projection's checkpoints. A worker reads it with the checkpoints, and slot.Divide
// respects it. They also raise the revision, so a batch in flight cannot commit beyond the hold.

// Target selects what Pause and Resume apply to.
type Target struct {
	// Projection is the name of a projection. Empty means all projections of the replica set.
	Projection string
}

// targetSQL is the condition for checkpoints of a target: the arguments are $1 and $2.
const targetSQL = `c.replica_set = $1 AND ($2 = '' OR c.projection = $2)`

// notReplacedSQL leaves out projections that were replaced at a cut-over: they stay where they are.
const notReplacedSQL = ` AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_successions AS s WHERE s.replaced = c.projection AND s.cut_over_at IS NOT NULL)`

// Batches, and generations that begin, lock checkpoints in this order too.
const (
	sqlTarget = `
SELECT c.projection, c.slot_from, c.slot_to FROM {{schema}}orchestrator_checkpoints AS c WHERE ` + targetSQL + ` ORDER BY c.projection, c.slot_from`
	sqlForChange  = ` FOR NO KEY UPDATE`
	sqlLockTarget = sqlTarget + sqlForChange
)

const sqlPause = `
UPDATE {{schema}}orchestrator_checkpoints AS c SET hold_at = position, hold_until = $3::timestamptz, revision = revision + 1
WHERE ` + targetSQL + notReplacedSQL + ` RETURNING c.projection, c.slot_from, c.slot_to`

const sqlResume = `
UPDATE {{schema}}orchestrator_checkpoints AS c SET hold_at = NULL, hold_until = NULL, stopped_at = NULL, revision = revision + 1
WHERE ` + targetSQL + notReplacedSQL + ` RETURNING c.projection, c.slot_from, c.slot_to`

// Pause stops the projection until it is resumed, or until the given time unless that is zero. After Pause has returned,
// no batch of the projection can commit, since Pause waits for the batches in flight. A pause survives restarts, crashes
// and changes in the number of workers. Pausing a paused projection changes until.
//
// Pause waits for running handlers until ctx ends. If a handler does not return in time, Pause pauses nothing, and its
// error names the handler's partition and worker. It is also an error if until passes meanwhile.
//
// A projection that was replaced at a cut-over can be neither paused nor resumed. If a cut-over holds the projection,
// pausing it makes the cut-over give up.
func (a *Admin) Pause(ctx context.Context, t Target, reason string, until time.Time) error {
	arguments := map[string]any{}
	if !until.IsZero() {
		arguments["until"] = until.UTC().Format(time.RFC3339Nano)
	}
	err := a.checkPause(until)
	if err == nil {
		err = a.holdBack(ctx, t, operation{kind: "pause", arguments: arguments, reason: reason, until: until}, sqlPause, a.replicaSet, t.Projection, orNull(until))
	}
	return a.explain(ctx, pauseRights, "pausing "+t.String(), err)
}

const sqlIsPast = `SELECT $1::timestamptz <= pg_catalog.clock_timestamp()`

// stillToCome says that a pause has ended already, by the database's clock, which workers go by: nothing is paused then.
func (c change) stillToCome(ctx context.Context, until time.Time) error {
	if until.IsZero() {
		return nil
	}
	var past bool
	if err := c.tx.QueryRow(ctx, sqlIsPast, until).Scan(&past); err != nil {
		return fmt.Errorf("comparing the end of the pause with the database's clock: %w", err)
	}
	if past {
		return fmt.Errorf("until (%s) has passed before anything was paused, by the database's clock", until.UTC().Format(time.RFC3339))
	}
	return nil
}

// lastYear is the last that times may be in: all that read them can.
const lastYear = 9999

func (a *Admin) checkPause(until time.Time) error {
	switch {
	case until.IsZero():
	case !until.After(time.Now()):
		return wrong("until must be in the future, got %s", until.Format(time.RFC3339))
	case until.Year() > lastYear:
		return wrong("until must be before the year %d: the zero time is a pause without an end", lastYear+1)
	}
	return nil
}

// Resume ends a pause. It also ends a stop at an event that could not be handled, and the event is tried again. It does
// nothing to a projection that is neither paused nor stopped. If a cut-over of the projection has begun, the cut-over
// gives up, and the other projection continues too.
func (a *Admin) Resume(ctx context.Context, t Target, reason string) error {
	err := a.holdBack(ctx, t, operation{kind: "resume", arguments: map[string]any{}, reason: reason}, sqlResume, a.replicaSet, t.Projection)
	return a.explain(ctx, pauseRights, "resuming "+t.String(), err)
}

// String describes the target for messages.
func (t Target) String() string {
	if t.Projection == "" {
		return "all projections"
	}
	return fmt.Sprintf("projection %q", t.Projection)
}

// holdBack changes all checkpoints of the target.
func (a *Admin) holdBack(ctx context.Context, t Target, o operation, sql string, args ...any) error {
	if err := checkText("Target.Projection", t.Projection, 0, mostText); err != nil {
		return err
	}
	if err := checkText("the reason", o.reason, 0, mostReason); err != nil {
		return err
	}
	o.projection = t.Projection
	return a.orBusy(ctx, t, a.change(ctx, func(c change) error {
		if err := c.notReplaced(ctx, t.Projection); err != nil {
			return err
		}
		if o.kind == "resume" {
			if _, err := c.endCutOvers(ctx, waitingCutOvers{involving: t.Projection}, "resumed"); err != nil {
				return err
			}
		}
		if err := c.all(ctx, t, sql, args...); err != nil {
			return err
		}
		if err := c.stillToCome(ctx, o.until); err != nil {
			return err
		}
		_, err := c.record(ctx, o, "done", map[string]any{})
		return err
	}))
}

// orBusy adds to the error of a change that ctx has ended which handlers it waited for.
func (a *Admin) orBusy(ctx context.Context, t Target, err error) error {
	if err != nil && ctx.Err() != nil {
		if busy := a.busy(ctx, t); busy != "" {
			return fmt.Errorf("waiting for the handlers of %s: %w", busy, err)
		}
	}
	return err
}

var errNoCheckpoints = errors.New("it has no checkpoints: no worker has run it in this replica set")

// recutsMost is how often a change is repeated because a new generation has made other checkpoints meanwhile.
const recutsMost = 10

// all changes every checkpoint of the target, by an UPDATE that returns the projections and ranges that it has changed. A generation that began
// meanwhile has replaced rows by others, which the UPDATE has not seen.
func (c change) all(ctx context.Context, t Target, sql string, args ...any) error {
	var incomplete string
	for range recutsMost {
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlLockTarget), c.admin.replicaSet, t.Projection); err != nil {
			return err
		}
		rows, err := c.tx.Query(ctx, c.store.SQL(sql), args...)
		if err != nil {
			return err
		}
		changed, err := collectRanges(rows)
		if err != nil {
			return err
		}
		incomplete = ""
		for projection, pieces := range changed {
			if gaps := slot.Gaps(pieces); len(gaps) > 0 {
				incomplete = fmt.Sprintf("the checkpoints of projection %q do not cover the slots %v", projection, gaps)
			}
		}
		if len(changed) == 0 {
			if err := c.notReplaced(ctx, t.Projection); err != nil {
				return err // at a cut-over that was done while this has waited for its locks
			}
			incomplete = errNoCheckpoints.Error()
		}
		if incomplete == "" {
			return nil
		}
	}
	return errors.New(incomplete)
}

// sqlBusy is the checkpoints of a target that somebody has locked.
const sqlBusy = `
SELECT c.projection, coalesce(c.partition_key, 0), coalesce(c.total_partitions, 1), coalesce(w.name, 'nobody')
FROM {{schema}}orchestrator_checkpoints AS c
LEFT JOIN {{schema}}orchestrator_workers AS w ON w.worker_id = c.worker_id
WHERE ` + targetSQL + ` AND (c.projection, c.slot_from) NOT IN (
    SELECT c.projection, c.slot_from FROM {{schema}}orchestrator_checkpoints AS c WHERE ` + targetSQL + ` FOR NO KEY UPDATE SKIP LOCKED)
ORDER BY c.projection, c.slot_from LIMIT 10`

// busy says which partitions of the target are being handled, after ctx has ended; empty if none is, or it could not be found out.
func (a *Admin) busy(ctx context.Context, t Target) string {
	ctx, end := lastLook(ctx)
	defer end()
	store, err := a.open(ctx)
	if err != nil {
		return ""
	}
	rows, err := a.db.Query(ctx, store.SQL(sqlBusy), a.replicaSet, t.Projection)
	if err != nil {
		return ""
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var projection, worker string
		var p slot.Partition
		err := row.Scan(&projection, &p.Key, &p.Total, &worker)
		return fmt.Sprintf("projection %q in partition %s on worker %q", projection, p, worker), err
	})
	if err != nil {
		return ""
	}
	return strings.Join(names, ", ")
}
