package pgcoord

import (
	"context"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
)

// Regressions gives probers of the horizon the checkpoints of an events table, of all replica sets, its regressions and
// its stored horizon. It is safe for concurrent use.
type Regressions struct {
	store *Store
	db    DB
}

var _ horizon.Checkpoints = Regressions{}

// Regressions returns the Regressions of the replica set's events table. db should be a dbguard.Pool, whose reads fail
// on a standby.
func (s *Store) Regressions(db DB) Regressions { return Regressions{store: s, db: db} }

// sqlKnown reads all in one snapshot: so a regression that stands in it was not
// settled when the checkpoints were so high. %s is the highest checkpoint.
const sqlKnown = `
SELECT %s,
       coalesce(r.number, 0), coalesce(r.last_position, 0), coalesce(r.settled, false),
       coalesce(h.term, 1), coalesce(h.position, 0), coalesce(h.sequence, 0), coalesce(h.filenode, 0),
       coalesce(h.table_oid, 0), coalesce(h.last_event_position, 0), coalesce(h.last_event_id::pg_catalog.text, ''),
       coalesce(h.updated_at BETWEEN pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => 1) AND pg_catalog.clock_timestamp(), false)
FROM (VALUES (1)) AS one
LEFT JOIN (
    SELECT number, last_position, settled_at IS NOT NULL AS settled FROM {{schema}}orchestrator_sequence_regressions
    WHERE events_table = $1 ORDER BY number DESC LIMIT 1
) AS r ON true
LEFT JOIN {{schema}}orchestrator_horizons AS h ON h.events_table = $1
WHERE ` + dbguard.Primary

const sqlHighest = `coalesce((SELECT pg_catalog.max(position) FROM {{schema}}orchestrator_checkpoints WHERE events_table = $1), 0)`

// Known returns the highest position that any checkpoint of the events table has
// reached, the latest regression and the stored horizon.
func (r Regressions) Known(ctx context.Context) (horizon.Known, error) {
	return r.read(ctx, sqlHighest)
}

// Latest returns the latest regression and the stored horizon.
func (r Regressions) Latest(ctx context.Context) (horizon.Regression, horizon.Stored, error) {
	known, err := r.read(ctx, "0::pg_catalog.int8")
	return known.Regression, known.Stored, err
}

func (r Regressions) read(ctx context.Context, highest string) (k horizon.Known, err error) {
	err = r.db.QueryRow(ctx, r.store.q(fmt.Sprintf(sqlKnown, highest)), r.store.events).Scan(&k.Checkpoint,
		&k.Regression.Number, &k.Regression.Low, &k.Regression.Settled,
		&k.Stored.Term, &k.Stored.Position, &k.Stored.Sequence, &k.Stored.Filenode,
		&k.Stored.Table, &k.Stored.Event.Position, &k.Stored.Event.ID, &k.Stored.Fresh)
	if err != nil {
		return horizon.Known{}, fmt.Errorf("reading the checkpoints, the latest regression and the stored horizon of %s: %w", r.store.events, err)
	}
	return k, nil
}

// A worker that comes late with what another has recorded adds to it. If that is
// settled it changes nothing, because a checkpoint may rightly have passed the low since.
const sqlRegressed = `
WITH void AS (
    UPDATE {{schema}}orchestrator_horizons SET position = 0, term = term + 1,
        last_event_id = CASE WHEN last_event_position <= $3::bigint THEN last_event_id END,
        last_event_position = CASE WHEN last_event_position <= $3::bigint THEN last_event_position END
    WHERE events_table = $1::text AND term = $4::bigint AND greatest(position, last_event_position) > $3::bigint
)
INSERT INTO {{schema}}orchestrator_sequence_regressions AS r (events_table, number, last_position, checkpoint)
SELECT $1::text, $2::bigint, $3::bigint, max(position) FROM {{schema}}orchestrator_checkpoints
WHERE events_table = $1::text HAVING max(position) > $3::bigint
ON CONFLICT (events_table, number) DO UPDATE
SET last_position = least(r.last_position, excluded.last_position), checkpoint = greatest(r.checkpoint, excluded.checkpoint)
WHERE r.settled_at IS NULL`

// Regressed records the regression with that number, or how low the sequence was in it, if a checkpoint is above. It
// voids the horizon that is stored above it under the term.
func (r Regressions) Regressed(ctx context.Context, number, low, term int64) error {
	if _, err := r.db.Exec(ctx, r.store.q(sqlRegressed), r.store.events, number, low, term); err != nil {
		return fmt.Errorf("recording regression %d of %s: %w", number, r.store.events, err)
	}
	return nil
}

const sqlSettle = `
UPDATE {{schema}}orchestrator_sequence_regressions SET settled_at = now()
WHERE events_table = $1 AND number = $2 AND last_position = $3 AND settled_at IS NULL`

// Settle ends a regression, unless it was settled or found to be deeper in the meantime.
func (r Regressions) Settle(ctx context.Context, w horizon.Regression) error {
	if _, err := r.db.Exec(ctx, r.store.q(sqlSettle), r.store.events, w.Number, w.Low); err != nil {
		return fmt.Errorf("settling regression %d of %s: %w", w.Number, r.store.events, err)
	}
	return nil
}

// sqlStoreHorizon advances the stored horizon. A row that somebody else has locked is left to them. The row of an events table is
// made by sqlFirstHorizon.
const sqlStoreHorizon = `
UPDATE {{schema}}orchestrator_horizons AS h SET position = $6::bigint, sequence = $7::bigint, filenode = $8::bigint, table_oid = $9::bigint,
    last_event_position = coalesce(nullif($10::bigint, 0), h.last_event_position),
    last_event_id = coalesce(nullif($11::text, '')::uuid, h.last_event_id), updated_at = clock_timestamp()
WHERE events_table = (
    SELECT events_table FROM {{schema}}orchestrator_horizons
    WHERE events_table = $4 AND term = $5 AND position < $6::bigint AND (position = 0 OR sequence = $7::bigint AND filenode = $8::bigint AND table_oid = $9::bigint)
      AND NOT updated_at BETWEEN clock_timestamp() - interval '1 second' AND clock_timestamp() AND ` + horizon.SQLSameRun + `
    FOR NO KEY UPDATE SKIP LOCKED)`

const sqlFirstHorizon = `
INSERT INTO {{schema}}orchestrator_horizons (events_table, term, position, sequence, filenode, table_oid, last_event_position, last_event_id)
SELECT $4::text, $5::bigint, $6::bigint, $7::bigint, $8::bigint, $9::bigint, nullif($10::bigint, 0), nullif($11::text, '')::uuid WHERE $5::bigint = 1 AND ` + horizon.SQLSameRun + `
ON CONFLICT DO NOTHING`

// Store stores a horizon, as [horizon.Checkpoints] says.
func (r Regressions) Store(ctx context.Context, s horizon.Stored, run horizon.Run) (bool, error) {
	for _, sql := range []string{sqlStoreHorizon, sqlFirstHorizon} {
		tag, err := r.db.Exec(ctx, r.store.q(sql), run.Started, run.At, run.Statistics,
			r.store.events, s.Term, s.Position, int64(s.Sequence), int64(s.Filenode), int64(s.Table), s.Event.Position, s.Event.ID)
		if err != nil {
			return false, fmt.Errorf("storing the horizon %d of %s: %w", s.Position, r.store.events, err)
		}
		if tag.RowsAffected() > 0 {
			return true, nil
		}
	}
	return false, nil
}

const sqlVoid = `
UPDATE {{schema}}orchestrator_horizons SET position = 0, term = term + 1, sequence = $3, filenode = $4, table_oid = $5
WHERE events_table = $1 AND term = $2`

// Void voids the stored horizon of the term.
func (r Regressions) Void(ctx context.Context, s horizon.Stored) error {
	if _, err := r.db.Exec(ctx, r.store.q(sqlVoid), r.store.events, s.Term, int64(s.Sequence), int64(s.Filenode), int64(s.Table)); err != nil {
		return fmt.Errorf("voiding the stored horizon of %s: %w", r.store.events, err)
	}
	return nil
}
