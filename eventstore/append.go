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

// Append stores events of one aggregate inside the caller's transaction, in the order given. Their versions are
// consecutive, and their positions ascend with them. It takes one round trip for any number of events. Others see
// nothing before the caller commits.
//
// Append fills in missing values: it generates a zero EventID (UUID version 7), sets a zero EventVersion to 1 and a zero
// CreatedAt to the database's now(), and stores empty Metadata as NULL. The result's events equal what a later read
// returns: CreatedAt has microseconds and is in UTC, and Metadata is in jsonb's notation. Their Payload is the slice
// that was passed. The limits are MaxNameLength and its neighbours.
//
// Append returns ErrNoEvents or ErrInvalidEvent without asking the database. It returns ErrOptimisticConcurrency if the
// aggregate is not at the expected version, and ErrDuplicateEvent if a given EventID is already stored. It recognises
// both by the columns of the violated index, whatever its name. Other errors are the database's own. If the role lacks a
// right, the error includes the GRANT, which is looked up on a separate connection. It is also an error if a trigger or
// rule removes events or stores them elsewhere, and if an apparent conflict may come from row-level security that hides
// the aggregate from the role. Like a worker, Append refuses a connection whose client_encoding is not UTF8, since the
// server would change the texts.
//
// After ErrOptimisticConcurrency the transaction can usually still be used, since the statement stored nothing and
// raised no error. The exception is a conflict that only the unique index finds, because other code writes events
// without advancing aggregate_heads. After such a conflict, after ErrDuplicateEvent and after every other error, only a
// rollback is possible. To tell the cases apart, use PgConn().TxStatus() of pgx.Tx.Conn ('T' and 'E').
//
// The first append of a store in a database takes an additional round trip, in which it reads the table's unique
// indexes. After a unique violation, it reads them again, at most once a second, on a new connection with the same
// configuration as the transaction's.
//
// If another transaction is appending to the same aggregate, Append waits until it ends. es.Any() then appends after it,
// and never fails because of it. es.Exact and es.NoStream compare with the version that it left. Transactions that
// append to several aggregates should therefore do so in one order. Otherwise PostgreSQL may have to end a deadlock
// (SQLSTATE 40P01). All this applies to READ COMMITTED. At stricter isolation levels, PostgreSQL answers a concurrent
// append with SQLSTATE 40001, as it does for any update.
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
	if conn := tx.Conn(); conn != nil {
		if err := dbguard.CheckConn(conn); err != nil {
			return es.AppendResult{}, 0, err
		}
	}
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
	s.log.DebugContext(ctx, "an append met a version conflict", slog.String("bounded_context", first.BoundedContext),
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
