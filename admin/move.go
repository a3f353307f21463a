package admin

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Move gives a projection, with its checkpoints and letters, to another replica set of the same tables.

// sqlStillRun is the workers of other replica sets than $2 that run a projection. A worker without a heartbeat for a minute, or for its
// stale worker timeout if that is longer, does not count: it has crashed.
const sqlStillRun = `
SELECT w.name || ' of ' || w.replica_set FROM {{schema}}orchestrator_workers AS w JOIN {{schema}}orchestrator_heartbeats AS h USING (worker_id)
WHERE $1 = ANY (w.projections) AND w.replica_set <> $2 AND w.state NOT IN ('stopped', 'dead') AND h.last_heartbeat > now() - greatest(interval '1 minute', w.stale_timeout)
ORDER BY 1`

// sqlOtherEvents is the events tables of a replica set's checkpoints, if they are not the projection's.
const sqlOtherEvents = `
SELECT coalesce(string_agg(DISTINCT events_table, ', '), '') FROM {{schema}}orchestrator_checkpoints
WHERE replica_set = $2 AND events_table <> (SELECT min(events_table) FROM {{schema}}orchestrator_checkpoints WHERE projection = $1)`

// The rows keep their generation, and the first one of the other replica set that divides them has a higher number.
const sqlMove = `
UPDATE {{schema}}orchestrator_checkpoints SET replica_set = $2, worker_id = NULL, partition_key = NULL, total_partitions = NULL, revision = revision + 1, updated_at = now()
WHERE projection = $1`

// sqlMoveAlong is what else belongs to the projection. The record of moves stays where it is.
var sqlMoveAlong = []string{
	`UPDATE {{schema}}orchestrator_dead_letters SET replica_set = $2 WHERE projection = $1`,
	`UPDATE {{schema}}orchestrator_parked_aggregates SET replica_set = $2 WHERE projection = $1`,
	`UPDATE {{schema}}orchestrator_turns SET replica_set = $2 WHERE projection = $1`,
	`UPDATE {{schema}}orchestrator_operations SET replica_set = $2 WHERE projection = $1 AND kind <> 'move'`,
}

// Move gives a projection to another replica set, which need not exist yet. It moves the checkpoints with all holds and
// stops, the letters and parked aggregates, and waiting operations. Start workers of that replica set with the
// projection afterwards, not before: Run returns an error for a projection of another replica set. They continue at the
// projection's position. Their fencing token is higher than any that the projection had.
//
// It is an error if a running worker of this replica set, or of a third one, has the projection; restart that worker
// without it. A worker that starts at the same moment is fenced: it handles nothing of the projection, and its log names
// the replica set that has it.
func (a *Admin) Move(ctx context.Context, projection, to, reason string) error {
	return a.explainMove(ctx, projection, to, a.move(ctx, projection, to, reason))
}

// explainMove is [Admin.explain] for a move.
func (a *Admin) explainMove(ctx context.Context, projection, to string, err error) error {
	return a.explain(ctx, moveRights, fmt.Sprintf("moving projection %q to replica set %q", projection, to), err)
}

func (a *Admin) validateMove(projection, to, reason string) error {
	for what, text := range map[string]string{"the projection's name": projection, "the other replica set's name": to} {
		if err := checkText(what, text, 1, mostText); err != nil {
			return err
		}
	}
	if err := checkText("the reason", reason, 0, mostReason); err != nil {
		return err
	}
	if to == a.replicaSet {
		return wrong("the other replica set must be another one than %q", to)
	}
	return nil
}

func (a *Admin) move(ctx context.Context, projection, to, reason string) error {
	if err := a.validateMove(projection, to, reason); err != nil {
		return err
	}
	return a.orBusy(ctx, Target{Projection: projection}, a.change(ctx, func(c change) error {
		if err := c.mayMove(ctx, projection, to); err != nil {
			return err
		}
		for _, sql := range append([]string{sqlMove}, sqlMoveAlong...) {
			if _, err := c.tx.Exec(ctx, c.store.SQL(sql), projection, to); err != nil {
				return err
			}
		}
		_, err := c.record(ctx, operation{kind: "move", projection: projection, arguments: map[string]any{"to": to}, reason: reason}, "done", map[string]any{})
		return err
	}))
}

// mayMove locks the projection's checkpoints, if it is no preview, and says why it cannot be moved.
func (c change) mayMove(ctx context.Context, projection, to string) error {
	if err := c.lockAll(ctx, projection); err != nil {
		return err
	}
	if err := c.notCuttingOver(ctx, projection); err != nil {
		return err
	}
	return c.checkMove(ctx, projection, to)
}

// checkMove says who would contradict a move.
func (c change) checkMove(ctx context.Context, projection, to string) error {
	rows, err := c.tx.Query(ctx, c.store.SQL(sqlStillRun), projection, to)
	var still []string
	if err == nil {
		still, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return fmt.Errorf("looking for workers that run it: %w", err)
	}
	if len(still) > 0 {
		return fmt.Errorf("the workers %s still run it: restart them without it", strings.Join(still, ", "))
	}
	var other string
	if err := c.tx.QueryRow(ctx, c.store.SQL(sqlOtherEvents), projection, to).Scan(&other); err != nil {
		return fmt.Errorf("looking for the other replica set's events table: %w", err)
	}
	if other != "" {
		return fmt.Errorf("that replica set reads the events of %s, which are others than the projection's", other)
	}
	return nil
}
