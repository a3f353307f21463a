package pgcoord

import (
	"context"
	"fmt"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// A worker sets a projection back here: it locks all of its checkpoints, has the handler empty the read model, and lowers the checkpoints, in one transaction. Package admin
// asks for it by a request, see requests.go.

// sqlLockAll locks all checkpoints of a projection, in the order in which batches lock them. It returns one row if they are of one generation and cover all
// slots, and the worker owns a slot in it.
const sqlLockAll = `
WITH locked AS MATERIALIZED (
    SELECT slot_from, slot_to, generation, worker_id FROM {{schema}}orchestrator_checkpoints WHERE projection = $1 ORDER BY slot_from FOR NO KEY UPDATE)
SELECT FROM locked
HAVING coalesce(pg_catalog.sum(slot_to - slot_from), 0) = 65536 AND pg_catalog.bool_and(generation = $2::bigint)
    AND pg_catalog.bool_or(worker_id = $3::uuid AND slot_from <= $4::int AND $4::int < slot_to)`

// BeginReset opens a batch that locks all checkpoints of the request's projection, on all workers. No batch of the
// projection is in flight then, and none begins. It returns ErrMoved if the fence's worker no longer owns the request's
// slot.
func (s *Store) BeginReset(ctx context.Context, pool Pool, f Fence, r replicaset.Request, settings BatchSettings) (*Batch, error) {
	settings.Turn = false // it is alone
	lock := batchtx.Statement{SQL: s.q(sqlLockAll), Args: []any{f.Projection, f.Generation, f.Worker, r.Slot}}
	return (&Batch{store: s, fence: f}).open(ctx, pool, settings, 1, lock)
}

// Statements that set a projection back, in order. $1 is the projection, and $2 the position.
const (
	sqlNoteReset = `
UPDATE {{schema}}orchestrator_operations SET result = result || pg_catalog.jsonb_build_object('position', $2::bigint, 'until', (
    SELECT greatest(coalesce(pg_catalog.max(position), 0), (
        SELECT pg_catalog.max((b.result ->> 'until')::bigint) FROM {{schema}}orchestrator_operations AS b
        WHERE b.projection = $1 AND b.kind = 'reset' AND b.state = 'done')) -- a rebuild may not have come to its end
    FROM {{schema}}orchestrator_checkpoints WHERE projection = $1))
WHERE id = $3`

	// A projection that is paused is paused at its new position. One that is stopped tries its event again.
	sqlSetBack = `
UPDATE {{schema}}orchestrator_checkpoints
SET position = least(position, $2::bigint), hold_at = CASE WHEN hold_at <= position THEN least(position, $2::bigint) ELSE hold_at END,
    stopped_at = NULL, revision = revision + 1, updated_at = pg_catalog.now()
WHERE projection = $1`

	sqlResetLetters = `
DELETE FROM {{schema}}orchestrator_dead_letters
WHERE projection = $1 AND global_position > $2::bigint AND state IN ('parked', 'stopped', 'retrying')`

	lettersOfParked = `
    FROM {{schema}}orchestrator_dead_letters AS d WHERE d.projection = p.projection AND d.aggregate_id = p.aggregate_id
      AND d.aggregate_type = p.aggregate_type AND d.bounded_context = p.bounded_context AND d.state = 'parked' LIMIT {{letters 1}}`

	sqlResetParked = `
DELETE FROM {{schema}}orchestrator_parked_aggregates AS p WHERE projection = $1 AND NOT EXISTS (SELECT` + lettersOfParked + `)`

	// Aggregates with letters that are not handled again stay parked.
	sqlResetKept = `
UPDATE {{schema}}orchestrator_parked_aggregates AS p SET letters = (SELECT pg_catalog.count(*)` + lettersOfParked + `) WHERE projection = $1`

	sqlResetRequests = `
UPDATE {{schema}}orchestrator_requests AS r SET state = 'cancelled', finished_at = pg_catalog.now(), error = 'the projection was reset'
WHERE projection = $1 AND state = 'waiting' AND kind <> 'reset' AND NOT EXISTS (
    SELECT FROM {{schema}}orchestrator_parked_aggregates AS p WHERE p.projection = r.projection AND p.aggregate_id = r.aggregate_id
      AND p.aggregate_type = r.aggregate_type AND p.bounded_context = r.bounded_context LIMIT {{letters 1}})`

	// sqlEndAllInTurn is sqlEndInTurn for all that may end.
	sqlEndAllInTurn = `SELECT FROM {{schema}}orchestrator_operations WHERE state = 'waiting' AND kind <> 'cut-over' ORDER BY id FOR NO KEY UPDATE`

	// sqlEndOperations ends operations that wait for nothing any more.
	sqlEndOperations = `
UPDATE {{schema}}orchestrator_operations AS o SET state = 'done', finished_at = pg_catalog.now(), result = o.result || (
    SELECT pg_catalog.jsonb_build_object('succeeded', pg_catalog.count(*) FILTER (WHERE state = 'succeeded'), 'failed', pg_catalog.count(*) FILTER (WHERE state = 'failed'),
        'discarded', pg_catalog.count(*) FILTER (WHERE state = 'cancelled'), 'events', coalesce(pg_catalog.sum(handled), 0))
    FROM {{schema}}orchestrator_requests WHERE operation = o.id)
WHERE o.state = 'waiting' AND o.kind <> 'cut-over' AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_requests AS r WHERE r.operation = o.id AND r.state = 'waiting')`
)

// setBack is the statements that set a projection back to a position, for an operation. No checkpoint is advanced. What is put aside above the position is discarded,
// since it is handled again; an aggregate with a letter at the position or below stays parked with that.
func (s *Store) setBack(projection string, position, operation int64) []batchtx.Statement {
	statements := []batchtx.Statement{
		{SQL: s.q(sqlNoteReset), Args: []any{projection, position, operation}},
		{SQL: s.q(sqlSetBack), Args: []any{projection, position}},
		{SQL: s.q(sqlResetLetters), Args: []any{projection, position}},
	}
	for _, sql := range []string{sqlResetParked, sqlResetKept, sqlResetRequests} {
		statements = append(statements, batchtx.Statement{SQL: s.q(sql), Args: []any{projection}})
	}
	return append(statements, s.endOperations()...)
}

// endOperations is the statements that end the operations none of whose requests is waiting. Those of other replica sets may have asked for something of a projection
// that was moved since.
func (s *Store) endOperations() []batchtx.Statement {
	return []batchtx.Statement{{SQL: s.q(sqlEndAllInTurn)}, {SQL: s.q(sqlEndOperations)}}
}

// SetBack moves all checkpoints of a projection that are above a position back to it, and discards parked events above
// it. The caller has locked the checkpoints.
func (s *Store) SetBack(ctx context.Context, tx DB, projection string, position, operation int64) error {
	for _, statement := range s.setBack(projection, position, operation) {
		if _, err := tx.Exec(ctx, statement.SQL, statement.Args...); err != nil {
			return fmt.Errorf("setting projection %q back to position %d: %w", projection, position, err)
		}
	}
	return nil
}

// EndOperations ends the operations that have no waiting request left.
func (s *Store) EndOperations(ctx context.Context, tx DB) error {
	for _, statement := range s.endOperations() {
		if _, err := tx.Exec(ctx, statement.SQL, statement.Args...); err != nil {
			return err
		}
	}
	return nil
}

// SetBack makes Commit move the request's projection back, and answer the request. The batch must come from BeginReset.
// If the request is no longer waiting, Commit returns ErrMoved.
func (b *Batch) SetBack(r replicaset.Request) {
	b.more = append(b.more, b.store.setBack(r.Projection, r.Target, r.Operation)...)
	b.Tried(r, 0, 0, "")
}

// ResetFailed makes Commit record that the read model could not be emptied. The batch must have no handlers.
func (b *Batch) ResetFailed(r replicaset.Request, text string) { b.answer(r, 0, &r.Target, text) }

const sqlLowest = `
SELECT coalesce(min(position), 0) FROM {{schema}}orchestrator_checkpoints WHERE projection = $1`

// Lowest returns the lowest position of a projection's checkpoints.
func (s *Store) Lowest(ctx context.Context, db DB, projection string) (position int64, err error) {
	err = db.QueryRow(ctx, s.q(sqlLowest), projection).Scan(&position)
	return position, err
}

const sqlLastAllocated = `
SELECT max(CASE WHEN has_sequence_privilege(oid, 'SELECT') THEN coalesce(pg_sequence_last_value(oid), -1) END) FROM pg_class WHERE oid = to_regclass(nullif($1, ''))`

// sqlBeforeNext is the position before the next one of a sequence that was set with setval(…, false), or restarted, and has given none since.
const sqlBeforeNext = `SELECT CASE WHEN is_called THEN 0 ELSE greatest(last_value - 1, 0) END FROM %s`

// LastAllocated returns the highest position that the events table has allocated. known is false if the role may not see
// it, or if not exactly one sequence feeds the positions.
func (s *Store) LastAllocated(ctx context.Context, db DB) (position int64, known bool, err error) {
	var last *int64
	if err = db.QueryRow(ctx, sqlLastAllocated, s.sequence).Scan(&last); err != nil || last == nil {
		return 0, false, err
	}
	if *last < 0 {
		err = db.QueryRow(ctx, fmt.Sprintf(sqlBeforeNext, s.sequence)).Scan(last)
	}
	return *last, err == nil, err
}
