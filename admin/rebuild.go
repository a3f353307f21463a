package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rebuild is how far a projection is since it was reset.
type Rebuild struct {
	// Operation is the number of the reset's row in orchestrator_operations. Began is when the reset committed.
	Operation int64
	Began     time.Time
	// From is the position to which the reset moved the projection. Until is its highest checkpoint before the reset.
	From, Until int64
	// Position is the projection's lowest checkpoint. The rebuild is complete when it reaches Until.
	Position int64
	Complete bool
	// Handled is how many positions up to Until each slot has passed since From, as the mean over all slots. Not every
	// position has an event that the projection wants.
	Handled int64
	// Rate is Handled per second since the reset, including pauses. Left is how long the rest takes at that rate. Both
	// are 0 when the rebuild is complete, and before anything was handled.
	Rate float64
	Left time.Duration
}

const sqlRebuild = `
SELECT o.id, o.finished_at, (o.result ->> 'position')::bigint, (o.result ->> 'until')::bigint, extract(epoch FROM clock_timestamp() - o.finished_at), c.lowest,
    greatest(0, c.mean - (o.result ->> 'position')::bigint)::bigint
FROM {{schema}}orchestrator_operations AS o CROSS JOIN LATERAL (
    SELECT min(position) AS lowest, sum(least(position, (o.result ->> 'until')::bigint)::numeric * (slot_to - slot_from)) / sum(slot_to - slot_from) AS mean
    FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1 AND projection = $2) AS c
WHERE o.replica_set = $1 AND o.projection = $2 AND o.kind = 'reset' AND o.state = 'done' AND o.result ? 'until' AND c.lowest IS NOT NULL
ORDER BY o.finished_at DESC, o.id DESC LIMIT 1`

// longestLeft bounds Rebuild.Left.
const longestLeft = 100 * 365 * 24 * time.Hour

// ErrNotReset means that no reset of the projection is on record.
var ErrNotReset = errors.New("no reset of the projection is on record")

// Rebuild returns how far a projection is since its last reset, from rows alone. If it was never reset, the error wraps
// ErrNotReset.
func (a *Admin) Rebuild(ctx context.Context, projection string) (Rebuild, error) {
	r, err := a.rebuild(ctx, projection)
	return r, a.explain(ctx, readRights, fmt.Sprintf("looking how far the rebuild of projection %q is", projection), err)
}

func (a *Admin) rebuild(ctx context.Context, projection string) (r Rebuild, err error) {
	if err := checkText("the projection's name", projection, 1, mostText); err != nil {
		return r, err
	}
	store, err := a.open(ctx)
	if err != nil {
		return r, err
	}
	var seconds float64
	err = a.db.QueryRow(ctx, store.SQL(sqlRebuild), a.replicaSet, projection).Scan(&r.Operation, &r.Began, &r.From, &r.Until, &seconds, &r.Position, &r.Handled)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return r, ErrNotReset
	case err != nil:
		return r, err
	}
	r.Complete = r.Position >= r.Until
	if !r.Complete && r.Handled > 0 && seconds > 0 {
		r.Rate = float64(r.Handled) / seconds
		r.Left = time.Duration(min(float64(r.Until-r.From-r.Handled)/r.Rate, longestLeft.Seconds()) * float64(time.Second))
	}
	return r, nil
}
