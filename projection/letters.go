package projection

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// letters are a processor's rows in its tables of events that it could not handle. They change in the transactions that
// advance the checkpoint. If a processor finds the checkpoint at the expected position, its copy of them is therefore
// current. A stop may not move the checkpoint, so every batch includes notStopped.
type letters struct {
	projection string
	slots      slot.Range
	table      pgx.Identifier
	encoding   string // of the database

	unfinishedSQL, setBackSQL, parkedSQL, notStoppedSQL, passedSQL, stateSQL string
	attemptSQL, letterSQL, handledSQL, parkSQL, asideSQL                     string
}

// Parameters that do not exist, which the failures of the statements name.
const (
	tooManyParked    = "pupsourcing.too_many_parked"
	parkedSetChanged = "pupsourcing.parked_set_changed"
)

// errTooManyParked says that as many aggregates of the projection are parked as may be.
var errTooManyParked = errors.New("as many aggregates of the projection are parked as its error policy allows (MaxParked)")

// In the statements, {letters}, {parked} and {checkpoints} are the tables, {slot} is the slot of aggregate_id, and
// {too many} and {set changed} raise an error.
const (
	sqlLettersExist = `SELECT pg_catalog.to_regclass($1::text) IS NOT NULL AND pg_catalog.to_regclass($2::text) IS NOT NULL, ` + dbguard.Encoding +
		` WHERE ` + dbguard.Primary

	sqlUnfinished = `
SELECT global_position, state, event_id, event_type, last_error, coalesce(slot_from, 0), coalesce(slot_to, 0), {slot}::int
FROM {letters} WHERE projection_name = $1 AND state IN ('retrying', 'stopped') AND ` + dbguard.Primary + ` ORDER BY global_position`

	// An event that was skipped is handled after all where the checkpoint was set back.
	sqlSetBackOver = `
SELECT coalesce(max(global_position), 0) FROM {letters}
WHERE projection_name = $1 AND global_position > $2::bigint AND state = 'skipped' AND {slot} >= $3 AND {slot} < $4`

	sqlParkedAggregates = `
SELECT bounded_context, aggregate_type, aggregate_id, letters FROM {parked}
WHERE projection_name = $1 AND {slot} >= $2 AND {slot} < $3 AND ` + dbguard.Primary

	sqlState = `SELECT coalesce((SELECT state FROM {letters} WHERE projection_name = $1 AND global_position = $2), '') WHERE ` + dbguard.Primary

	// It runs when the checkpoint is locked, in a later snapshot, so it sees a stop that had the lock before. It returns a row if there is none.
	sqlNotStopped = `
SELECT WHERE NOT EXISTS (SELECT FROM {letters} WHERE projection_name = $1 AND state = 'stopped' AND slot_from < $3 AND slot_to > $2)`

	// A row that is passed was skipped by a person: one whose event was handled went away with that.
	sqlPassed = `
UPDATE {letters} AS d SET state = 'skipped' FROM {checkpoints} AS c, ` + sqlOwnRows + `
WHERE d.projection_name = $1 AND d.state IN ('retrying', 'stopped') AND c.projection_name = own.name AND d.global_position <= c.last_global_position
    AND {slot} >= own.slot_from AND {slot} < own.slot_to
RETURNING d.global_position`

	// It does nothing once the checkpoint has passed the event, or another processor has stopped at it.
	sqlAttempt = `
INSERT INTO {letters} AS d (projection_name, global_position, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error)
SELECT $1::text, $5::bigint, $6::uuid, $7::text, $8::text, $9::text, $10::text, 'retrying', $11::bigint, $12::text
FROM {checkpoints} AS c, ` + sqlOwnRows + `
WHERE c.projection_name = own.name AND c.last_global_position < $5::bigint
    AND (hashtextextended($10::text, 0) & 65535) >= own.slot_from AND (hashtextextended($10::text, 0) & 65535) < own.slot_to
FOR SHARE OF c
ON CONFLICT (projection_name, global_position) DO UPDATE
SET state = 'retrying', attempts = CASE WHEN d.state = 'retrying' AND d.event_id = excluded.event_id THEN d.attempts + 1 ELSE excluded.attempts END,
    last_error = excluded.last_error, ` + sqlOfEvent + `, last_failed_at = pg_catalog.now()
WHERE d.state IN ('retrying', 'skipped')
RETURNING attempts`

	// A letter says which event it is of, also where there is one of another event at the position, since somebody has emptied the events table.
	sqlOfEvent = `event_id = excluded.event_id, event_type = excluded.event_type, bounded_context = excluded.bounded_context,
    aggregate_type = excluded.aggregate_type, aggregate_id = excluded.aggregate_id`

	sqlOwnRows = `ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::int4[]), pg_catalog.unnest($4::int4[])) AS own (name, slot_from, slot_to)`

	sqlLetter = `
INSERT INTO {letters} AS d (projection_name, global_position, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error,
    slot_from, slot_to)
VALUES ($1::text, $2::bigint, $3::uuid, $4::text, $5::text, $6::text, $7::text, $8::text, $9::bigint, $10::text, $11::int4, $12::int4)
ON CONFLICT (projection_name, global_position) DO UPDATE
SET state = excluded.state, attempts = CASE WHEN d.event_id = excluded.event_id THEN greatest(d.attempts, excluded.attempts) ELSE excluded.attempts END,
    last_error = excluded.last_error, ` + sqlOfEvent + `, slot_from = excluded.slot_from,
    slot_to = excluded.slot_to, last_failed_at = pg_catalog.now()`

	sqlHandled = `DELETE FROM {letters} WHERE projection_name = $1 AND global_position = ANY($2::bigint[])`

	// Parks of a projection count one after the other.
	sqlParkTurn = `SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('pupsourcing park ' || $1::text, 0))`

	sqlPark = `
WITH parked AS (
    INSERT INTO {parked} AS p (projection_name, bounded_context, aggregate_type, aggregate_id, global_position, letters)
    SELECT $1::text, $2::text, $3::text, $4::text, $5::bigint, 1
    WHERE (SELECT pg_catalog.count(*) FROM {parked} WHERE projection_name = $1::text) < $6::bigint
    ON CONFLICT (projection_name, aggregate_id, aggregate_type, bounded_context) DO UPDATE SET letters = p.letters + 1
    RETURNING 1)
SELECT CASE WHEN pg_catalog.count(*) <> 1 THEN {too many} END FROM parked`

	// The number of rows says that each event's aggregate is parked, and was recorded.
	sqlAside = `
WITH event AS (
    SELECT * FROM ROWS FROM (pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]),
        pg_catalog.unnest($6::text[]), pg_catalog.unnest($7::text[])) AS e (position, id, type, context, aggregate_type, aggregate_id)
), letter AS (
    INSERT INTO {letters} AS d (projection_name, global_position, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error)
    SELECT $1::text, position, id::uuid, type, context, aggregate_type, aggregate_id, 'parked', 0, '' FROM event
    ON CONFLICT (projection_name, global_position) DO UPDATE
    SET state = 'parked', ` + sqlOfEvent + `, attempts = CASE WHEN d.event_id = excluded.event_id THEN d.attempts ELSE 0 END,
        last_error = CASE WHEN d.event_id = excluded.event_id THEN d.last_error ELSE '' END
    RETURNING 1
), parked AS (
    UPDATE {parked} AS p SET letters = p.letters + more.n
    FROM (SELECT context, aggregate_type, aggregate_id, pg_catalog.count(*) AS n FROM event GROUP BY 1, 2, 3) AS more
    WHERE p.projection_name = $1::text AND p.bounded_context = more.context AND p.aggregate_type = more.aggregate_type AND p.aggregate_id = more.aggregate_id
    RETURNING more.n
)
SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM letter) <> $8::bigint OR (SELECT pg_catalog.sum(n) FROM parked) IS DISTINCT FROM $8::bigint
    THEN {set changed} END`
)

// newLetters makes the statements for the tables.
func newLetters(table, parked, checkpoints pgx.Identifier, projection string, slots slot.Range, encoding string) *letters {
	names := strings.NewReplacer("{letters}", table.Sanitize(), "{parked}", parked.Sanitize(), "{checkpoints}", checkpoints.Sanitize(),
		"{slot}", "(hashtextextended(aggregate_id, 0) & 65535)", "{too many}", dbguard.Raise(tooManyParked), "{set changed}", dbguard.Raise(parkedSetChanged))
	return &letters{
		projection: projection, slots: slots, table: table, encoding: encoding,
		unfinishedSQL: names.Replace(sqlUnfinished), setBackSQL: names.Replace(sqlSetBackOver), parkedSQL: names.Replace(sqlParkedAggregates),
		stateSQL: names.Replace(sqlState), notStoppedSQL: names.Replace(sqlNotStopped), passedSQL: names.Replace(sqlPassed), attemptSQL: names.Replace(sqlAttempt),
		letterSQL: batchtx.ExactlyOne(names.Replace(sqlLetter)), handledSQL: names.Replace(sqlHandled), parkSQL: names.Replace(sqlPark),
		asideSQL: names.Replace(sqlAside),
	}
}

// aggregate identifies an aggregate.
type aggregate struct{ context, kind, id string }

// aggregateOf is the event's aggregate.
func aggregateOf(e es.PersistedEvent) aggregate {
	return aggregate{context: e.BoundedContext, kind: e.AggregateType, id: e.AggregateID}
}

// unfinished is an event that failed and was neither handled nor left out.
type unfinished struct {
	position  int64
	state     string
	eventID   uuid.UUID
	eventType string
	lastError string
	stopped   slot.Range // of slots that wait at it; empty if none
	slot      int
}

// unfinished reads the projection's events that are retried or stopped at, in order.
func (l *letters) unfinished(ctx context.Context, db dbguard.Transactions) ([]unfinished, error) {
	rows, err := db.Query(ctx, l.unfinishedSQL, l.projection)
	var found []unfinished
	if err == nil {
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (u unfinished, err error) {
			return u, row.Scan(&u.position, &u.state, &u.eventID, &u.eventType, &u.lastError, &u.stopped.From, &u.stopped.To, &u.slot)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reading the failed events of %q in %s: %w", l.projection, l.table.Sanitize(), err)
	}
	return found, nil
}

// setBackOver is the highest position of an event that was skipped and is above the lowest checkpoint; 0 if there is none.
func (l *letters) setBackOver(ctx context.Context, db dbguard.Transactions, lowest int64) (position int64, err error) {
	if err = db.QueryRow(ctx, l.setBackSQL, l.projection, lowest, l.slots.From, l.slots.To).Scan(&position); err != nil {
		return 0, fmt.Errorf("reading the skipped events of %q in %s: %w", l.projection, l.table.Sanitize(), err)
	}
	return position, nil
}

// state is the state of the letter of an event; empty if it has none.
func (l *letters) state(ctx context.Context, db dbguard.Transactions, position int64) (state string, err error) {
	if err = db.QueryRow(ctx, l.stateSQL, l.projection, position).Scan(&state); err != nil {
		return "", fmt.Errorf("reading what became of the event of %q at position %d in %s: %w", l.projection, position, l.table.Sanitize(), err)
	}
	return state, nil
}

// parked reads how many letters each parked aggregate of the slots has; nil if none is.
func (l *letters) parked(ctx context.Context, db dbguard.Transactions) (map[aggregate]int, error) {
	rows, err := db.Query(ctx, l.parkedSQL, l.projection, l.slots.From, l.slots.To) //nolint:rowserrcheck // ForEachRow checks it
	var parked map[aggregate]int
	if err == nil {
		var of aggregate
		var n int
		_, err = pgx.ForEachRow(rows, []any{&of.context, &of.kind, &of.id, &n}, func() error {
			if parked == nil {
				parked = map[aggregate]int{}
			}
			parked[of] = n
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("reading the parked aggregates of %q: %w", l.projection, err)
	}
	return parked, nil
}

// passed records which failed events a person has skipped by moving the rows of the checkpoint, and returns their positions.
func (l *letters) passed(ctx context.Context, db dbguard.Transactions, own []manual.Piece) ([]int64, error) {
	names, from, to := rowsOf(own)
	rows, err := db.Waiting(recordPatience).Query(ctx, l.passedSQL, l.projection, names, from, to)
	var skipped []int64
	if err == nil {
		skipped, err = pgx.CollectRows(rows, pgx.RowTo[int64])
	}
	if err != nil {
		return nil, fmt.Errorf("recording which failed events of %q were skipped: %w", l.projection, err)
	}
	return skipped, nil
}

// rowsOf is the rows of a checkpoint as arguments.
func rowsOf(own []manual.Piece) (names []string, from, to []int32) {
	for _, p := range own {
		names, from, to = append(names, p.Name), append(from, int32(p.From)), append(to, int32(p.To))
	}
	return names, from, to
}

// recordPatience is how long what only records something waits for a lock.
const recordPatience = 250 * time.Millisecond

// attempt records a failed attempt at an event, and returns how many there have been in a row, over restarts.
func (l *letters) attempt(ctx context.Context, db dbguard.Transactions, own []manual.Piece, e handling.FailedEvent, attempts int, text string) (int, error) {
	names, from, to := rowsOf(own)
	err := db.Waiting(recordPatience).QueryRow(ctx, l.attemptSQL, l.projection, names, from, to, e.GlobalPosition, e.EventID, e.EventType,
		e.BoundedContext, e.AggregateType, e.AggregateID, attempts, dbguard.Storable(text, l.encoding)).Scan(&attempts)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return attempts, fmt.Errorf("recording the failure of %q at position %d: %w", l.projection, e.GlobalPosition, err)
	}
	return attempts, nil
}

// notStopped returns a row unless slots of the partition are stopped.
func (l *letters) notStopped() batchtx.Statement {
	return batchtx.Statement{SQL: l.notStoppedSQL, Args: []any{l.projection, l.slots.From, l.slots.To}}
}

// letter records an event with its outcome.
func (l *letters) letter(e handling.FailedEvent, state string, attempts int, text string) batchtx.Statement {
	var from, to *int
	if state == "stopped" {
		from, to = &l.slots.From, &l.slots.To
	}
	return batchtx.Statement{SQL: l.letterSQL, Args: []any{
		l.projection, e.GlobalPosition, e.EventID, e.EventType, e.BoundedContext, e.AggregateType, e.AggregateID, state, attempts, dbguard.Storable(text, l.encoding), from, to,
	}}
}

// handled records that events that had failed were handled.
func (l *letters) handled(positions []int64) batchtx.Statement {
	return batchtx.Statement{SQL: l.handledSQL, Args: []any{l.projection, positions}}
}

// park parks the event's aggregate, unless as many are parked as may be.
func (l *letters) park(e handling.FailedEvent, most int) []batchtx.Statement {
	return []batchtx.Statement{
		{SQL: sqlParkTurn, Args: []any{l.table.Sanitize() + " " + l.projection}},
		{SQL: l.parkSQL, Args: []any{l.projection, e.BoundedContext, e.AggregateType, e.AggregateID, e.GlobalPosition, most}},
	}
}

// putAside records the events, whose aggregates must be parked, instead of handling them.
func (l *letters) putAside(events []es.PersistedEvent) batchtx.Statement {
	n := len(events)
	positions := make([]int64, n)
	ids, types, contexts := make([]string, n), make([]string, n), make([]string, n)
	aggregateTypes, aggregateIDs := make([]string, n), make([]string, n)
	for i, e := range events {
		positions[i], ids[i], types[i], contexts[i] = e.GlobalPosition, e.EventID.String(), e.EventType, e.BoundedContext
		aggregateTypes[i], aggregateIDs[i] = e.AggregateType, e.AggregateID
	}
	return batchtx.Statement{SQL: l.asideSQL, Args: []any{l.projection, positions, ids, types, contexts, aggregateTypes, aggregateIDs, n}}
}

// explainLetters says what a failure of the own conditions means.
func explainLetters(err error) error {
	switch {
	case dbguard.Raised(err, tooManyParked):
		return errTooManyParked
	case dbguard.Raised(err, parkedSetChanged):
		return fmt.Errorf("an aggregate is not parked any more: %w", errCheckpointMoved)
	}
	return err
}
