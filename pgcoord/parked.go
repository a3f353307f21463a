package pgcoord

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// ErrTooManyParked means that the projection has reached its limit of parked aggregates. Nothing was committed.
var ErrTooManyParked = errors.New("as many aggregates of the projection are parked as its error policy allows (MaxParked)")

// Parameters that do not exist, which the failures of the statements name.
const (
	tooManyParked    = "pupsourcing.too_many_parked"
	parkedSetChanged = "pupsourcing.parked_set_changed"
)

const sqlParked = `
SELECT projection, bounded_context, aggregate_type, aggregate_id, (hashtextextended(aggregate_id, 0) & 65535)::int, letters
FROM {{schema}}orchestrator_parked_aggregates
WHERE projection = ANY($1) AND ` + dbguard.Primary + ` LIMIT {{all rows}}`

// Parked reads the aggregates that are parked for the projections. If the worker has read the checkpoints of their slots
// before, their revisions fence what the worker does with the aggregates.
func (s *Store) Parked(ctx context.Context, db DB, projections ...string) ([]replicaset.Parked, error) {
	var parked []replicaset.Parked
	err := s.parked(&parked, projections).alone(ctx, db)
	return parked, err
}

func (s *Store) parked(into *[]replicaset.Parked, projections []string) read {
	return read{
		sql: s.q(sqlParked), args: []any{projections},
		take: func(rows pgx.Rows) (err error) {
			*into, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p replicaset.Parked, err error) {
				return p, row.Scan(&p.Projection, &p.BoundedContext, &p.Type, &p.ID, &p.Slot, &p.Letters)
			})
			return err
		},
		doing: fmt.Sprintf("reading the parked aggregates of %q", projections),
	}
}

// sqlParkTurn has parks of a projection count one after the other.
const sqlParkTurn = `SELECT pg_catalog.pg_advisory_xact_lock($1)`

var sqlPark = `
WITH parked AS (
    INSERT INTO {{schema}}orchestrator_parked_aggregates AS p (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::text, $6::bigint, 1
    WHERE (SELECT pg_catalog.count(*) FROM {{schema}}orchestrator_parked_aggregates WHERE projection = $1::text) < $7::bigint
    ON CONFLICT (projection, aggregate_id, aggregate_type, bounded_context) DO UPDATE SET letters = p.letters + 1
    RETURNING 1)
SELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(tooManyParked) + ` END FROM parked`

// Park makes Commit park the event's aggregate and record the event. If the projection has reached its limit of parked
// aggregates, Commit returns ErrTooManyParked. The batch must pass the event and have no handlers.
func (b *Batch) Park(letter Letter, most int) {
	e := letter.Event
	b.more = append(b.more,
		batchtx.Statement{SQL: sqlParkTurn, Args: []any{lockKey("park", b.store.schema, b.fence.Projection)}},
		batchtx.Statement{SQL: b.store.q(sqlPark), Args: []any{
			b.fence.Projection, e.BoundedContext, e.AggregateType, e.AggregateID, b.store.replicaSet, e.GlobalPosition, most,
		}})
	b.record(letter, "parked")
}

// The number of rows says that each event's aggregate is parked, and was recorded.
var sqlPutAside = `
WITH event AS (
    SELECT * FROM ROWS FROM (pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]),
        pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[])) AS e (position, id, type, context, aggregate_type, aggregate_id)
), letter AS (
    INSERT INTO {{schema}}orchestrator_dead_letters AS d (projection, global_position, replica_set, event_id, event_type,
        bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation)
    SELECT $1::text, position, $8::text, id::uuid, type, context, aggregate_type, aggregate_id, 'parked', 0, '', $9::uuid, $10::bigint FROM event
    ON CONFLICT (projection, global_position) DO UPDATE
    SET state = 'parked', worker_id = excluded.worker_id, generation = excluded.generation, ` + sqlOfEvent + `,
        attempts = CASE WHEN d.event_id = excluded.event_id THEN d.attempts ELSE 0 END,
        last_error = CASE WHEN d.event_id = excluded.event_id THEN d.last_error ELSE '' END,
        error_kind = CASE WHEN d.event_id = excluded.event_id THEN d.error_kind ELSE '' END,
        error_frame = CASE WHEN d.event_id = excluded.event_id THEN d.error_frame ELSE '' END
    RETURNING 1
), parked AS (
    UPDATE {{schema}}orchestrator_parked_aggregates AS p SET letters = p.letters + more.n
    FROM (SELECT context, aggregate_type, aggregate_id, pg_catalog.count(*) AS n FROM event GROUP BY 1, 2, 3) AS more
    WHERE p.projection = $1::text AND p.bounded_context = more.context AND p.aggregate_type = more.aggregate_type AND p.aggregate_id = more.aggregate_id
    RETURNING more.n
)
SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM letter) <> $11::bigint OR (SELECT pg_catalog.sum(n) FROM parked) IS DISTINCT FROM $11::bigint
    THEN ` + dbguard.Raise(parkedSetChanged) + ` END`

// PutAside makes Commit record the events instead of handling them. Their aggregates must be parked. If one of them is
// no longer parked, Commit returns ErrMoved.
func (b *Batch) PutAside(events packed.Events) {
	n := events.Len()
	if n == 0 {
		return
	}
	positions := make([]int64, n)
	ids, types, contexts := make([]string, n), make([]string, n), make([]string, n)
	aggregateTypes, aggregateIDs := make([]string, n), make([]string, n)
	for i := range n {
		e := events.At(i)
		positions[i], ids[i], types[i], contexts[i] = e.GlobalPosition, e.EventID.String(), e.EventType, e.BoundedContext
		aggregateTypes[i], aggregateIDs[i] = e.AggregateType, e.AggregateID
	}
	b.more = append(b.more, batchtx.Statement{SQL: b.store.q(sqlPutAside), Args: []any{
		b.fence.Projection, positions, ids, types, contexts, aggregateTypes, aggregateIDs, b.store.replicaSet, b.fence.Worker, b.fence.Generation, n,
	}})
}

// explainParked says what a failure of the own conditions means.
func explainParked(err error) error {
	switch {
	case dbguard.Raised(err, tooManyParked):
		return ErrTooManyParked
	case dbguard.Raised(err, parkedSetChanged):
		return fmt.Errorf("an aggregate is not parked any more: %w", ErrMoved)
	}
	return err
}
