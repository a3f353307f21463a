package pgcoord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// One snapshot shows the checkpoints and the letters, which a batch commits together. So an event below the checkpoint that is no letter was handled.
const sqlStandings = `
WITH projection AS (
    SELECT p.name, min(c.replica_set) AS replica_set, min(c.events_table) AS events_table,
        coalesce(jsonb_agg(jsonb_build_array(c.slot_from, c.slot_to, c.position, coalesce(c.stopped_at, 0), ` + heldColumns + `)) FILTER (WHERE c.projection IS NOT NULL), '[]') AS pieces
    FROM unnest($1::text[]) AS p (name)
    LEFT JOIN {{schema}}orchestrator_checkpoints AS c ON c.projection = p.name
    GROUP BY p.name
), run AS (
    SELECT w.replica_set, w.projections, w.left_out, w.session_key IS NULL AS poll_only
    FROM {{schema}}orchestrator_workers AS w
    JOIN {{schema}}orchestrator_heartbeats AS h USING (worker_id)
    CROSS JOIN LATERAL (SELECT now() - greatest($2::float8 * interval '1 ms', w.stale_timeout) AS since) AS stale
    WHERE w.state IN ('pending', 'ready', 'running', 'stopping') AND NOT w.drained AND w.projections && $1::text[]
      AND (h.last_heartbeat > stale.since - $9::float8 * interval '1 ms' OR $10::boolean AND pg_catalog.pg_postmaster_start_time() > stale.since)
)
SELECT (
    SELECT jsonb_object_agg(p.name, jsonb_build_object('ReplicaSet', coalesce(p.replica_set, ''), 'EventsTable', coalesce(p.events_table, ''), 'Pieces', p.pieces,
        'Running', EXISTS (SELECT FROM run WHERE run.replica_set = coalesce(p.replica_set, $3) AND p.name = ANY (run.projections) AND (p.name = ANY (run.left_out)) IS NOT TRUE),
        'LeftOut', EXISTS (SELECT FROM run WHERE run.replica_set = coalesce(p.replica_set, $3) AND p.name = ANY (run.left_out)),
        'PollOnly', EXISTS (SELECT FROM run WHERE run.replica_set = p.replica_set AND p.name = ANY (run.projections) AND run.poll_only),
        'ReplacedBy', coalesce((SELECT s.projection FROM {{schema}}orchestrator_successions AS s WHERE s.replaced = p.name AND s.cut_over_at IS NOT NULL), ''),
        'CuttingOver', EXISTS (SELECT FROM {{schema}}orchestrator_successions AS s WHERE p.name IN (s.projection, s.replaced) AND s.held_until > now()),
        'Parked', EXISTS (SELECT FROM {{schema}}orchestrator_parked_aggregates AS a WHERE a.projection = p.name)))::text
    FROM projection AS p
), (
    SELECT coalesce(jsonb_agg(jsonb_build_object('Slot', coalesce(hashtextextended(x.id, 0) & 65535, 0),
        'Parked', EXISTS (
            SELECT FROM {{schema}}orchestrator_parked_aggregates AS a
            WHERE a.projection = x.projection AND a.aggregate_id = x.id AND a.aggregate_type = x.type AND a.bounded_context = x.context),
        'PutAside', EXISTS (
            SELECT FROM {{schema}}orchestrator_dead_letters AS d
            WHERE d.projection = x.projection AND d.global_position = x.position AND d.state = 'parked')) ORDER BY x.n), '[]')::text
    FROM ROWS FROM (unnest($4::text[]), unnest($5::bigint[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[])) WITH ORDINALITY
        AS x (projection, position, context, type, id, n)
)
WHERE ` + dbguard.Primary + ` LIMIT least({{one of all rows}}, {{letters 1}})`

// standing is a waiting.Standing as the statement shows it.
type standing struct {
	waiting.Standing
	Pieces [][6]int64
}

// Standings reads the positions of projections, and what is asked about single waits. A worker whose last heartbeat is
// older than stale, and than its own stale worker timeout, does not count. Where the question tells of an outage, that is
// its age when the outage began. Where it respects restarts, a worker has that time from the start of the server on.
func (s *Store) Standings(ctx context.Context, db DB, stale time.Duration, q waiting.Question) (waiting.Answer, error) {
	n := len(q.Examine)
	projections, positions := make([]string, n), make([]int64, n)
	contexts, types, ids := make([]*string, n), make([]*string, n), make([]*string, n)
	for i, w := range q.Examine {
		projections[i], positions[i] = w.Projection, w.Position
		if a := w.Aggregate; a != nil {
			contexts[i], types[i], ids[i] = &a.BoundedContext, &a.Type, &a.ID
		}
	}
	var shown, examined string
	err := db.QueryRow(ctx, s.q(sqlStandings), q.Projections, float64(stale)/float64(time.Millisecond), s.replicaSet,
		projections, positions, contexts, types, ids, float64(q.Outage)/float64(time.Millisecond), q.Restarts).Scan(&shown, &examined)
	if err != nil {
		return waiting.Answer{}, err
	}
	answer := waiting.Answer{Events: s.events, Standings: map[string]waiting.Standing{}}
	rows := map[string]standing{}
	if err := json.Unmarshal([]byte(shown), &rows); err != nil {
		return waiting.Answer{}, fmt.Errorf("reading where the projections %q stand: %w", q.Projections, err)
	}
	if err := json.Unmarshal([]byte(examined), &answer.Examined); err != nil {
		return waiting.Answer{}, fmt.Errorf("reading what was examined: %w", err)
	}
	for projection, row := range rows {
		for _, p := range row.Pieces {
			row.Standing.Pieces = append(row.Standing.Pieces, slot.Piece{
				Range: slot.Range{From: int(p[0]), To: int(p[1])}, Position: p[2], Stopped: p[3], Held: p[4], HeldUntil: p[5],
			})
		}
		answer.Standings[projection] = row.Standing
	}
	return answer, nil
}

const (
	sqlWhyPaused = `
SELECT 'by ' || actor || CASE WHEN reason <> '' THEN ': ' || reason ELSE '' END
FROM {{schema}}orchestrator_operations
WHERE kind = 'pause' AND (projection = $1 OR projection = '' AND replica_set = (SELECT min(replica_set) FROM {{schema}}orchestrator_checkpoints WHERE projection = $1))
ORDER BY id DESC LIMIT 1`

	sqlWhyStopped = `
SELECT last_error FROM {{schema}}orchestrator_dead_letters WHERE projection = $1 AND state = 'stopped' AND global_position <= $2 ORDER BY global_position DESC LIMIT 1`

	sqlWhyNotRunning = `
SELECT string_agg(format('worker %s is drained by %s%s', w.name, d.actor, CASE WHEN d.reason <> '' THEN ': ' || d.reason ELSE '' END), '; ' ORDER BY w.name)
FROM {{schema}}orchestrator_workers AS w
JOIN {{schema}}orchestrator_drains AS d ON d.replica_set = w.replica_set AND d.worker IN (w.name, w.worker_id::text)
WHERE w.state IN ('pending', 'ready', 'running', 'stopping') AND w.drained AND $1 = ANY (w.projections)`

	// The letter that failed is the one that was attempted.
	sqlWhyParked = `
SELECT CASE WHEN d.global_position <> $2 THEN format('the event at position %s failed: ', d.global_position) ELSE '' END || last_error FROM {{schema}}orchestrator_dead_letters AS d
JOIN {{schema}}orchestrator_parked_aggregates AS p USING (projection, bounded_context, aggregate_type, aggregate_id)
WHERE projection = $1 AND d.state = 'parked' AND d.attempts > 0
  AND ((bounded_context, aggregate_type, aggregate_id) = ($3::text, $4::text, $5::text)
    OR $5::text IS NULL AND aggregate_id = (SELECT aggregate_id FROM {{schema}}orchestrator_dead_letters WHERE projection = $1 AND global_position = $2))
ORDER BY d.global_position LIMIT 1`
)

// WhyWaitFailed returns who paused the projection or drained its workers, or the error of the event that holds up a
// wait. The result is empty if that is not known.
func (s *Store) WhyWaitFailed(ctx context.Context, db DB, w waiting.Wait, failure error) (why string, err error) {
	var row pgx.Row
	switch {
	case errors.Is(failure, waiting.ErrNotRunning):
		row = db.QueryRow(ctx, s.q(sqlWhyNotRunning), w.Projection)
	case errors.Is(failure, waiting.ErrPaused):
		row = db.QueryRow(ctx, s.q(sqlWhyPaused), w.Projection)
	case errors.Is(failure, waiting.ErrStopped):
		row = db.QueryRow(ctx, s.q(sqlWhyStopped), w.Projection, w.Position)
	case errors.Is(failure, waiting.ErrParked) && w.Aggregate != nil:
		row = db.QueryRow(ctx, s.q(sqlWhyParked), w.Projection, w.Position, w.Aggregate.BoundedContext, w.Aggregate.Type, w.Aggregate.ID)
	case errors.Is(failure, waiting.ErrParked):
		row = db.QueryRow(ctx, s.q(sqlWhyParked), w.Projection, w.Position, nil, nil, nil)
	default:
		return "", nil
	}
	var said *string
	if err = row.Scan(&said); errors.Is(err, pgx.ErrNoRows) || err == nil && said == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return *said, nil
}

// AskToFlush asks the workers of a replica set to store their positions for a projection at once.
func (s *Store) AskToFlush(ctx context.Context, db DB, replicaSet, projection string) error {
	other := *s
	other.replicaSet = replicaSet
	_, err := db.Exec(ctx, sqlNotify, other.Channel(), NotifyFlush+" "+projection)
	return err
}

// A time that is far away is one from before the database's clock was set back.
const (
	sqlNoteWait = `
INSERT INTO {{schema}}orchestrator_waits AS w (projection, until) VALUES ($1, now() + $2::float8 * interval '1 ms')
ON CONFLICT (projection) DO UPDATE SET until = excluded.until`

	sqlWaited = `
SELECT projection FROM {{schema}}orchestrator_waits WHERE projection = ANY ($1::text[]) AND until > now() AND until < now() + interval '1 minute'`
)

// NoteWait records that somebody waits for a projection, for the duration d, for workers that get no notifications. If
// it cannot use the table, for example because it is locked, it returns the error once and then does nothing for a
// while, since all waits of a process go through here one after the other.
func (s *Store) NoteWait(ctx context.Context, db Conn, projection string, d time.Duration) error {
	if s.notes.rests() {
		return nil
	}
	err := s.record(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, s.q(sqlNoteWait), projection, float64(d)/float64(time.Millisecond))
		return err
	})
	switch {
	case err == nil:
		s.notes.used()
	case mayDoWithout(err):
		s.notes.rest()
	}
	return err
}

// Waited returns those of the projections for which somebody has recorded a wait with NoteWait.
func (s *Store) Waited(ctx context.Context, db DB, projections []string) ([]string, error) {
	rows, err := db.Query(ctx, s.q(sqlWaited), projections)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// WaitNeeds returns the rights that are needed to wait for a projection. Without a schema, the coordination tables are
// found through the connection's search_path.
func WaitNeeds(schema string) []dbrights.Need {
	needs := []dbrights.Need{}
	for _, name := range []string{"schema_version", "workers", "heartbeats", "checkpoints", "parked_aggregates", "dead_letters", "successions"} {
		needs = append(needs, dbrights.Need{Kind: dbrights.Table, Schema: schema, Name: "orchestrator_" + name, Rights: []string{"SELECT"}})
	}
	return needs
}
