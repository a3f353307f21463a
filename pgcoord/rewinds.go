package pgcoord

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
)

// Rewinds is the checkpoints of an events table, of all replica sets, and its
// rewinds, as horizons need them. It is safe for concurrent use.
type Rewinds struct {
	store *Store
	db    DB
}

var _ horizon.Checkpoints = Rewinds{}

// Rewinds are those of the replica set's events table.
func (s *Store) Rewinds(db DB) Rewinds { return Rewinds{store: s, db: db} }

const sqlLatestRewind = `
SELECT number, last_position, settled_at IS NOT NULL FROM {{schema}}orchestrator_rewinds
WHERE events_table = $1 ORDER BY number DESC LIMIT 1`

// sqlHighest reads both in one snapshot: so a rewind that stands in it was not
// settled when the checkpoints were so high.
const sqlHighest = `
SELECT coalesce((SELECT max(position) FROM {{schema}}orchestrator_checkpoints WHERE events_table = $1), 0),
       coalesce(r.number, 0), coalesce(r.last_position, 0), coalesce(r.settled, false)
FROM (VALUES (1)) AS one LEFT JOIN (
    SELECT number, last_position, settled_at IS NOT NULL AS settled FROM {{schema}}orchestrator_rewinds
    WHERE events_table = $1 ORDER BY number DESC LIMIT 1
) AS r ON true`

// Highest returns the highest position that any checkpoint of the events table has
// reached, and the latest rewind. No checkpoint passes a horizon, so all below it is
// settled, unless the rewind stands.
func (r Rewinds) Highest(ctx context.Context) (position int64, latest horizon.Rewind, err error) {
	err = r.db.QueryRow(ctx, r.store.q(sqlHighest), r.store.events).Scan(&position, &latest.Number, &latest.Low, &latest.Settled)
	if err != nil {
		return 0, horizon.Rewind{}, fmt.Errorf("reading the highest checkpoint of %s: %w", r.store.events, err)
	}
	return position, latest, nil
}

// Latest returns the latest rewind.
func (r Rewinds) Latest(ctx context.Context) (horizon.Rewind, error) {
	rows, err := r.db.Query(ctx, r.store.q(sqlLatestRewind), r.store.events)
	var latest []horizon.Rewind
	if err == nil {
		latest, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w horizon.Rewind, err error) {
			return w, row.Scan(&w.Number, &w.Low, &w.Settled)
		})
	}
	if err != nil {
		return horizon.Rewind{}, fmt.Errorf("reading the latest rewind of %s: %w", r.store.events, err)
	}
	if len(latest) == 0 {
		return horizon.Rewind{}, nil
	}
	return latest[0], nil
}

// Whoever comes late with what another has taken down adds to it, and changes
// nothing if that is settled: a checkpoint may have passed the low since, rightly.
const sqlRewound = `
INSERT INTO {{schema}}orchestrator_rewinds AS r (events_table, number, last_position, checkpoint)
SELECT $1::text, $2::bigint, $3::bigint, max(position) FROM {{schema}}orchestrator_checkpoints
WHERE events_table = $1::text HAVING max(position) > $3::bigint
ON CONFLICT (events_table, number) DO UPDATE
SET last_position = least(r.last_position, excluded.last_position), checkpoint = greatest(r.checkpoint, excluded.checkpoint)
WHERE r.settled_at IS NULL`

// Rewound takes down the rewind of that number, or how low the sequence stood in
// it, if a checkpoint is above.
func (r Rewinds) Rewound(ctx context.Context, number, low int64) error {
	if _, err := r.db.Exec(ctx, r.store.q(sqlRewound), r.store.events, number, low); err != nil {
		return fmt.Errorf("recording rewind %d of %s: %w", number, r.store.events, err)
	}
	return nil
}

const sqlSettle = `
UPDATE {{schema}}orchestrator_rewinds SET settled_at = now()
WHERE events_table = $1 AND number = $2 AND last_position = $3 AND settled_at IS NULL`

// Settle ends a rewind, unless it was settled or found to be deeper meanwhile.
func (r Rewinds) Settle(ctx context.Context, w horizon.Rewind) error {
	if _, err := r.db.Exec(ctx, r.store.q(sqlSettle), r.store.events, w.Number, w.Low); err != nil {
		return fmt.Errorf("settling rewind %d of %s: %w", w.Number, r.store.events, err)
	}
	return nil
}
