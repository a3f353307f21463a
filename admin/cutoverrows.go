package admin

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// This file has the rows of a cut-over. It locks them in this order: checkpoints, operations, successions. Batches that
// end operations also lock them after their checkpoints.

// pair is where the two projections of a cut-over stand.
type pair struct{ from, to waiting.Standing }

// highest is the position of the part of either that is furthest ahead, and lowest of the one that is furthest behind.
func (p pair) highest() int64 { return max(slot.Highest(p.from.Pieces), slot.Highest(p.to.Pieces)) }
func (p pair) lowest() int64  { return min(slot.Lowest(p.from.Pieces), slot.Lowest(p.to.Pieces)) }

// standing is where a projection stands.
type standing struct {
	waiting.Standing
	name string
}

// each is both with their names.
func (p pair) each(from, to string) []standing { return []standing{{p.from, from}, {p.to, to}} }

// text says how far both are.
func (p pair) text(from, to string) string {
	return fmt.Sprintf("%q is at %d to %d, and %q at %d to %d",
		from, slot.Lowest(p.from.Pieces), slot.Highest(p.from.Pieces), to, slot.Lowest(p.to.Pieces), slot.Highest(p.to.Pieces))
}

const (
	sqlPair = `
SELECT c.projection, c.slot_from, c.slot_to FROM {{schema}}orchestrator_checkpoints AS c
WHERE c.replica_set = $1 AND c.projection IN ($2, $3) ORDER BY c.projection, c.slot_from`
	sqlLockPair = sqlPair + sqlForChange
)

// lockPair locks all checkpoints of both projections, if it is no preview. No batch of either is in flight then, and no generation can begin.
func (c change) lockPair(ctx context.Context, from, to string) error {
	var incomplete error
	for range recutsMost {
		rows, err := c.tx.Query(ctx, c.store.SQL(c.locking(sqlPair, sqlForChange)), c.admin.replicaSet, from, to)
		if err != nil {
			return fmt.Errorf("locking the checkpoints: %w", err)
		}
		locked, err := collectRanges(rows)
		if err != nil {
			return fmt.Errorf("locking the checkpoints: %w", err)
		}
		if incomplete = cmp.Or(complete(from, locked[from]), complete(to, locked[to])); incomplete == nil {
			return nil
		} // a generation that began meanwhile has replaced rows by others
	}
	return incomplete
}

// complete says which slots of a projection have no checkpoint in the replica set.
func complete(projection string, pieces []slot.Piece) error {
	switch gaps := slot.Gaps(pieces); {
	case len(pieces) == 0:
		return refuse("projection %q: %w", projection, errNoCheckpoints)
	case len(gaps) > 0:
		return refuse("the checkpoints of projection %q do not cover the slots %v", projection, gaps)
	}
	return nil
}

// standsStill is how long a worker that has sent no heartbeat counts.
const standsStill = time.Minute

// standingsOf reads where both stand.
func standingsOf(ctx context.Context, store *pgcoord.Store, db pgcoord.DB, from, to string) (pair, error) {
	answer, err := store.Standings(ctx, db, standsStill, waiting.Question{Projections: []string{from, to}})
	if err != nil {
		return pair{}, fmt.Errorf("reading where the projections stand: %w", err)
	}
	return pair{from: answer.Standings[from], to: answer.Standings[to]}, nil
}

const (
	sqlNowPlus = `SELECT pg_catalog.now() + $1::float8 * interval '1 ms'`

	sqlHoldAt = `
UPDATE {{schema}}orchestrator_checkpoints SET hold_at = $4::bigint, hold_until = $5::timestamptz, revision = revision + 1
WHERE replica_set = $1 AND projection IN ($2, $3)`

	// What replaces another projection goes on, and its owners learn that they do not replay any more.
	sqlGoOn = `
UPDATE {{schema}}orchestrator_checkpoints SET hold_at = NULL, hold_until = NULL, revision = revision + 1
WHERE replica_set = $1 AND projection = $2`

	// What was replaced stays where it is. A worker that does not know of successions heeds the hold.
	sqlRetire = `
UPDATE {{schema}}orchestrator_checkpoints SET hold_at = position, hold_until = NULL, revision = revision + 1
WHERE replica_set = $1 AND projection = $2`

	sqlSucceed = `
INSERT INTO {{schema}}orchestrator_successions (projection, replaced, cut_over_at) VALUES ($1, $2, pg_catalog.now())
ON CONFLICT (projection) DO UPDATE SET cut_over_at = excluded.cut_over_at, held_until = NULL`

	// sqlForgetBegun deletes what cut-overs have left that came to no end.
	sqlForgetBegun = `
DELETE FROM {{schema}}orchestrator_successions WHERE cut_over_at IS NULL AND (projection IN ($1, $2) OR replaced IN ($1, $2))`

	// sqlForgetOne deletes what one of them has left, and nothing of a later one.
	sqlForgetOne = `
DELETE FROM {{schema}}orchestrator_successions WHERE cut_over_at IS NULL AND replaced = $1 AND projection = $2 AND held_until = $3::timestamptz`

	sqlBegin = `INSERT INTO {{schema}}orchestrator_successions (projection, replaced, held_until) VALUES ($1, $2, $3)`

	sqlCutOverDone = `
UPDATE {{schema}}orchestrator_operations SET state = 'done', finished_at = pg_catalog.now() WHERE id = $1 AND state = 'waiting'`
)

// holdUntil holds both projections for a cut-over, and records it.
func (c change) holdUntil(ctx context.Context, o *cutting) error {
	if err := c.tx.QueryRow(ctx, sqlNowPlus, float64(o.pause)/float64(time.Millisecond)).Scan(&o.until); err != nil {
		return err
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlHoldAt), c.admin.replicaSet, o.from, o.to, o.at, o.until); err != nil {
		return fmt.Errorf("holding the projections: %w", err)
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlBegin), o.to, o.from, o.until); err != nil {
		return fmt.Errorf("noting that the projections are held: %w", err)
	}
	return c.recordCutOver(ctx, o, "waiting", map[string]any{"until": o.until.UTC().Format(time.RFC3339Nano)})
}

// recordCutOver makes the operation's row.
func (c change) recordCutOver(ctx context.Context, o *cutting, state string, arguments map[string]any) (err error) {
	arguments["from"], arguments["to"], arguments["position"], arguments["key"] = o.from, o.to, o.at, o.key
	o.id, err = c.record(ctx, operation{kind: replicaset.CutOver, projection: o.to, arguments: arguments, reason: o.reason}, state, map[string]any{})
	return err
}

// switchOver has the new projection take over. Both are locked, at the same positions, and held by nobody but this cut-over. held says that it has begun before.
func (c change) switchOver(ctx context.Context, o *cutting, held bool) error {
	if !held {
		if err := c.recordCutOver(ctx, o, "done", map[string]any{}); err != nil {
			return err
		}
	} else {
		tag, err := c.tx.Exec(ctx, c.store.SQL(sqlCutOverDone), o.id)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return errNotWaiting // the next look says why
		}
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlRetire), c.admin.replicaSet, o.from); err != nil {
		return fmt.Errorf("ending projection %q: %w", o.from, err)
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlGoOn), c.admin.replicaSet, o.to); err != nil {
		return fmt.Errorf("releasing projection %q: %w", o.to, err)
	}
	_, err := c.tx.Exec(ctx, c.store.SQL(sqlSucceed), o.to, o.from)
	return err
}

// forgetBegun ends cut-overs with one of the projections whose time is over, and deletes what they have left. The projections are locked, and no cut-over holds them.
func (c change) forgetBegun(ctx context.Context, from, to string) error {
	for _, projection := range []string{from, to} {
		begun, err := c.waitingCutOvers(ctx, waitingCutOvers{involving: projection})
		if err != nil {
			return err
		}
		for _, one := range begun { // the other projection's holds have ended too, so its checkpoints need not be locked
			if _, err := c.tx.Exec(ctx, c.store.SQL(sqlCancel), one.ID, c.admin.replicaSet, c.admin.actor, "its time was over"); err != nil {
				return fmt.Errorf("ending cut-over %d: %w", one.ID, err)
			}
		}
	}
	if _, err := c.tx.Exec(ctx, c.store.SQL(sqlForgetBegun), from, to); err != nil {
		return fmt.Errorf("forgetting cut-overs that have come to no end: %w", err)
	}
	return nil
}

// waitingCutOvers selects cut-overs that have begun. What is empty does not count.
type waitingCutOvers struct {
	id        int64
	key       string
	from, to  string // those of this pair
	involving string // those with this projection
}

const (
	sqlWaitingCutOvers = `
SELECT id, arguments ->> 'from', arguments ->> 'to', (arguments ->> 'until')::timestamptz FROM {{schema}}orchestrator_operations
WHERE replica_set = $1 AND kind = 'cut-over' AND state = 'waiting' AND ($2::bigint = 0 OR id = $2::bigint) AND ($3 = '' OR arguments ->> 'key' = $3)
  AND ($4 = '' OR arguments ->> 'from' = $4 AND arguments ->> 'to' = $5) AND ($6 = '' OR $6 IN (arguments ->> 'from', arguments ->> 'to'))
ORDER BY id`

	sqlRelease = `
UPDATE {{schema}}orchestrator_checkpoints SET hold_at = NULL, hold_until = NULL, revision = revision + 1
WHERE replica_set = $1 AND projection IN ($2, $3) AND hold_until = $4::timestamptz`
)

// waitingCutOver is a cut-over that has begun.
type waitingCutOver struct {
	ID       int64
	From, To string
	Until    *time.Time
}

func (c change) waitingCutOvers(ctx context.Context, w waitingCutOvers) ([]waitingCutOver, error) {
	rows, err := c.tx.Query(ctx, c.store.SQL(sqlWaitingCutOvers), c.admin.replicaSet, w.id, w.key, w.from, w.to, w.involving)
	if err != nil {
		return nil, fmt.Errorf("looking for cut-overs that have begun: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[waitingCutOver])
}

// endCutOvers takes back the holds of cut-overs that have begun, and ends them. ended is how many: one may have come to its end meanwhile.
func (c change) endCutOvers(ctx context.Context, w waitingCutOvers, because string) (ended int, err error) {
	begun, err := c.waitingCutOvers(ctx, w)
	if err != nil {
		return 0, err
	}
	for _, one := range begun {
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlLockPair), c.admin.replicaSet, one.From, one.To); err != nil {
			return 0, fmt.Errorf("locking the checkpoints: %w", err)
		}
		tag, err := c.tx.Exec(ctx, c.store.SQL(sqlCancel), one.ID, c.admin.replicaSet, c.admin.actor, because)
		if err != nil {
			return 0, fmt.Errorf("ending cut-over %d: %w", one.ID, err)
		}
		if tag.RowsAffected() == 0 {
			continue // it has ended
		}
		ended++
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlRelease), c.admin.replicaSet, one.From, one.To, one.Until); err != nil {
			return 0, fmt.Errorf("releasing the projections of cut-over %d: %w", one.ID, err)
		}
		if _, err := c.tx.Exec(ctx, c.store.SQL(sqlForgetOne), one.From, one.To, one.Until); err != nil {
			return 0, fmt.Errorf("forgetting cut-over %d: %w", one.ID, err)
		}
	}
	return ended, nil
}
