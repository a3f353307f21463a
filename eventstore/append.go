package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
)

// anyVersion tells the statement that every version will do.
const anyVersion int64 = -1

// Append stores events of one aggregate inside the caller's transaction, in the
// order given: versions are consecutive and positions ascend with them. It takes
// one round trip, whatever their number. Nothing is visible to others before the
// caller commits.
//
// A zero EventID is drawn (UUID version 7), a zero EventVersion becomes 1, a zero
// CreatedAt becomes the database's now(), and empty Metadata is stored as NULL.
// The result's events are what a later read returns, CreatedAt in microseconds
// and UTC and Metadata in jsonb's notation included; their Payload is the slice
// that was given. The limits are MaxNameLength and its neighbours.
//
// Errors: ErrNoEvents and ErrInvalidEvent before the database is asked;
// ErrOptimisticConcurrency if the aggregate is not at the expected version;
// ErrDuplicateEvent if a given EventID is stored already. Both are told from other
// unique violations by the columns of the violated index, whatever its name. The rest
// is the database's own error, with the GRANT where the role lacks a right, which is looked up on a connection of its own. A trigger or rule that takes events away, or
// stores them elsewhere, is an error too, and so is row-level security that may hide
// the aggregate from the role where that looks like a conflict.
//
// After ErrOptimisticConcurrency the transaction is usable still: the statement
// stored nothing and raised nothing. The exception is a conflict that only the
// unique index finds, because other code writes events without advancing
// aggregate_heads. That, ErrDuplicateEvent and every other error leave the
// transaction fit for a rollback only. [pgx.Tx.Conn] and its
// PgConn().TxStatus() tell the two apart ('T' and 'E').
//
// The first append of a store in a database takes another round trip, in which it
// learns the table's unique indexes. A unique violation is looked up again, on a
// connection that is opened for it with the configuration of the transaction's, at most once a second.
//
// A concurrent append to the same aggregate makes this one wait for the other's
// end. Then es.Any() appends after it and never fails because of it, while
// es.Exact and es.NoStream compare with what it left. So transactions that
// append to several aggregates should do it in one order, or PostgreSQL may have
// to end a deadlock (SQLSTATE 40P01). All this speaks of READ COMMITTED;
// stricter isolation levels answer a concurrent append with SQLSTATE 40001, as
// they do to any update.
func (s *Store) Append(ctx context.Context, tx pgx.Tx, expected es.ExpectedVersion, events []es.Event) (es.AppendResult, error) {
	if err := s.Validate(); err != nil {
		return es.AppendResult{}, err
	}
	if err := validate(events); err != nil {
		return es.AppendResult{}, fmt.Errorf("appending events: %w", err)
	}
	if err := refuseNil("appending events", "tx", tx); err != nil {
		return es.AppendResult{}, err
	}
	if s.traces && tracing.In(ctx) {
		events = traced(ctx, events)
	}
	batch, err := newBatch(expected, events)
	if err != nil {
		return es.AppendResult{}, fmt.Errorf("appending %s: %w", describe(events), err)
	}
	result, actual, err := s.insert(ctx, tx, batch)
	if err != nil {
		return es.AppendResult{}, fmt.Errorf("appending %s, expecting %s: %w", describe(events), expected, s.explain(ctx, tx, err))
	}
	if len(result.Events) == 0 {
		return es.AppendResult{}, s.conflict(ctx, expected, events, actual)
	}
	return result, nil
}

// traced is the events with the trace context in their metadata.
func traced(ctx context.Context, events []es.Event) []es.Event {
	events = slices.Clone(events)
	for i := range events {
		events[i].Metadata = tracing.Inject(ctx, events[i].Metadata)
	}
	return events
}

// describe names what is being appended, for errors.
func describe(events []es.Event) string {
	return fmt.Sprintf("%d events to %s", len(events), aggregate(events[0].BoundedContext, events[0].AggregateType, events[0].AggregateID))
}

// aggregate names an aggregate, for errors.
func aggregate(boundedContext, aggregateType, aggregateID string) string {
	return fmt.Sprintf("aggregate %q of type %q in context %q", aggregateID, aggregateType, boundedContext)
}

// insert executes the statement. A result without events is a version conflict, of an aggregate that is at version actual, or at an
// unknown one below 0.
func (s *Store) insert(ctx context.Context, tx pgx.Tx, b *batch) (result es.AppendResult, actual int64, err error) {
	keys, err := s.keys.of(ctx, tx, s.EventsTable())
	if err != nil {
		return es.AppendResult{}, 0, err
	}
	out, err := b.store(ctx, tx, s.sql.append)
	switch {
	case dbguard.HidesRows(err):
		return es.AppendResult{}, 0, fmt.Errorf("row-level security on %s or %s may hide the aggregate: append with a role that sees all their rows: %w",
			s.AggregateHeadsTable().Sanitize(), s.EventsTable().Sanitize(), err)
	case err != nil:
		return es.AppendResult{}, 0, s.violation(ctx, tx, keys, b.givenID, err)
	}
	if out.events == 0 && !out.advanced {
		actual, err := s.actual(ctx, tx, b, out.seen)
		return es.AppendResult{}, actual, err
	}
	if err := b.check(out); err != nil {
		return es.AppendResult{}, 0, errors.Join(err, spoil(ctx, tx))
	}
	return es.AppendResult{Events: b.events, GlobalPositions: b.positions}, 0, nil
}

// stored is what the statement did.
type stored struct {
	events   int   // how many it stored
	advanced bool  // whether it advanced the head
	seen     int64 // the version that it saw, if it stored nothing
}

// store executes the statement and takes over what it stored.
func (b *batch) store(ctx context.Context, tx pgx.Tx, sql string) (out stored, err error) {
	rows, err := tx.Query(ctx, sql, b.args()...)
	if err != nil {
		return out, err
	}
	defer rows.Close()
	var none es.PersistedEvent
	var nothing bool
	var position pgtype.Int8
	var created pgtype.Timestamptz
	for rows.Next() {
		e := &none
		if out.events < len(b.events) {
			e = &b.events[out.events]
		}
		if err := rows.Scan(&nothing, &position, &e.AggregateVersion, &e.Metadata, &created); err != nil {
			return out, fmt.Errorf("scanning a stored event: %w", err)
		}
		if nothing {
			out.advanced, out.seen = position.Valid, e.AggregateVersion
			continue
		}
		if e != &none {
			e.GlobalPosition, e.CreatedAt = position.Int64, created.Time.UTC()
			b.positions[out.events] = e.GlobalPosition
		}
		out.events++
		out.advanced = true
	}
	return out, rows.Err()
}

// check says what is wrong with the events as they were stored, if triggers or rules have changed them.
func (b *batch) check(out stored) error {
	const look = "roll back, and look for triggers and rules on the table"
	if out.events != len(b.events) {
		return fmt.Errorf("the database stored %d of the %d events given, or stored them elsewhere: %s", out.events, len(b.events), look)
	}
	for i := range b.events {
		e := &b.events[i]
		if i == 0 {
			if e.GlobalPosition < 1 {
				return fmt.Errorf("an event got the position %d, which projections never handle since it is below 1: %s", e.GlobalPosition, look)
			}
			continue
		}
		before := &b.events[i-1]
		if e.AggregateVersion != before.AggregateVersion+1 || e.GlobalPosition <= before.GlobalPosition {
			return fmt.Errorf("events were stored in another order: version %d at position %d, then version %d at position %d: %s",
				before.AggregateVersion, before.GlobalPosition, e.AggregateVersion, e.GlobalPosition, look)
		}
	}
	return nil
}

// spoilSQL fails.
const spoilSQL = `SELECT pg_catalog.current_setting('pupsourcing.the_append_is_not_complete')`

// spoil makes the transaction fit for a rollback only, so that nobody commits an aggregate's head without its events.
func spoil(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, spoilSQL)
	if err == nil || dbfault.Code(err) == "42704" {
		return nil
	}
	return fmt.Errorf("ending the transaction: %w", err)
}

// actual returns the version that the aggregate of a conflict is at. An aggregate that is at the expected version is no conflict: its
// head was not written for another reason.
func (s *Store) actual(ctx context.Context, tx pgx.Tx, b *batch, seen int64) (int64, error) {
	if b.expected != anyVersion && seen != b.expected {
		return seen, nil
	}
	first := &b.events[0]
	var actual int64
	err := tx.QueryRow(ctx, s.sql.version, first.BoundedContext, first.AggregateType, first.AggregateID).Scan(&actual)
	if err != nil {
		return 0, fmt.Errorf("reading the aggregate's version after a conflict: %w", err)
	}
	if b.expected == anyVersion || actual == b.expected {
		return 0, errors.Join(fmt.Errorf("the database did not advance the aggregate's version in %s from %d: look for triggers and rules on the table",
			s.AggregateHeadsTable().Sanitize(), actual), spoil(ctx, tx))
	}
	return actual, nil
}

// conflict is the error for an aggregate that is not at the expected version.
func (s *Store) conflict(ctx context.Context, expected es.ExpectedVersion, events []es.Event, actual int64) error {
	first := &events[0]
	s.log.DebugContext(ctx, "An append met a version conflict", slog.String("bounded_context", first.BoundedContext),
		slog.String("aggregate_type", first.AggregateType), slog.String("aggregate_id", first.AggregateID),
		slog.String("expected", expected.String()))
	return fmt.Errorf("appending %s: %w: expected %s, it is at version %d", describe(events), ErrOptimisticConcurrency, expected, actual)
}

// batch is one append on its way: the statement's arguments, column by column,
// and the events as they will have been stored.
type batch struct {
	expected  int64
	givenID   bool // the caller set an EventID
	events    []es.PersistedEvent
	positions []int64

	ids                                    []pgtype.UUID
	types                                  []string
	versions                               []int32
	payloads                               [][]byte
	traces, correlations, causes, metadata []string
	createdAt                              []pgtype.Timestamptz
	given                                  []int32 // which of these five an event has, see appendSQL
}

// newBatch fills in defaults and turns the events into columns.
func newBatch(expected es.ExpectedVersion, events []es.Event) (*batch, error) {
	n := len(events)
	b := &batch{
		expected:     expected.Value(),
		events:       make([]es.PersistedEvent, n),
		positions:    make([]int64, n),
		ids:          make([]pgtype.UUID, n),
		types:        make([]string, n),
		versions:     make([]int32, n),
		payloads:     make([][]byte, n),
		traces:       make([]string, n),
		correlations: make([]string, n),
		causes:       make([]string, n),
		metadata:     make([]string, n),
		createdAt:    make([]pgtype.Timestamptz, n),
		given:        make([]int32, n),
	}
	if expected.IsAny() {
		b.expected = anyVersion
	}
	for i := range events {
		e, err := b.persist(&events[i])
		if err != nil {
			return nil, err
		}
		b.events[i] = e
		b.ids[i] = pgtype.UUID{Bytes: e.EventID, Valid: true}
		b.types[i] = e.EventType
		b.versions[i] = int32(e.EventVersion)
		b.payloads[i] = e.Payload
		b.traces[i], b.correlations[i], b.causes[i] = e.TraceID.String, e.CorrelationID.String, e.CausationID.String
		b.metadata[i] = string(e.Metadata)
		b.createdAt[i] = pgtype.Timestamptz{Time: e.CreatedAt, Valid: true}
		for bit, given := range []bool{e.TraceID.Valid, e.CorrelationID.Valid, e.CausationID.Valid, len(e.Metadata) > 0, !e.CreatedAt.IsZero()} {
			if given {
				b.given[i] |= 1 << bit
			}
		}
	}
	return b, nil
}

// persist is the event with the defaults that need no database.
func (b *batch) persist(e *es.Event) (es.PersistedEvent, error) {
	id := e.EventID
	if id == uuid.Nil {
		drawn, err := uuid.NewV7()
		if err != nil {
			return es.PersistedEvent{}, fmt.Errorf("drawing an event id: %w", err)
		}
		id = drawn
	} else {
		b.givenID = true
	}
	payload := e.Payload
	if payload == nil {
		payload = []byte{}
	}
	return es.PersistedEvent{
		CreatedAt:      e.CreatedAt.Truncate(time.Microsecond),
		BoundedContext: e.BoundedContext,
		AggregateType:  e.AggregateType,
		AggregateID:    e.AggregateID,
		EventType:      e.EventType,
		EventVersion:   max(e.EventVersion, 1),
		Payload:        payload,
		Metadata:       e.Metadata,
		CausationID:    e.CausationID,
		CorrelationID:  e.CorrelationID,
		TraceID:        e.TraceID,
		EventID:        id,
	}, nil
}

// args are the arguments of appendSQL.
func (b *batch) args() []any {
	first := &b.events[0]
	return []any{
		first.BoundedContext, first.AggregateType, first.AggregateID, b.expected, int64(len(b.events)),
		b.ids, b.types, b.versions, b.payloads, b.traces, b.correlations, b.causes, b.metadata, b.createdAt, b.given,
	}
}
