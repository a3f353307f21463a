package eventstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

const sqlStateUniqueViolation = "23505"

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
// ErrDuplicateEvent if a given EventID is stored already.
//
// After ErrOptimisticConcurrency the transaction is usable still: the statement
// stored nothing and raised nothing. The exception is a conflict that only the
// unique constraint finds, because other code writes events without lifting
// aggregate_heads; like ErrDuplicateEvent and every other database error it
// leaves the transaction fit for a rollback only. [pgx.Tx.Conn] and its
// PgConn().TxStatus() tell the two apart ('T' and 'E').
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
	batch, err := newBatch(expected, events)
	if err != nil {
		return es.AppendResult{}, fmt.Errorf("appending %s: %w", describe(events), err)
	}
	result, err := s.insert(ctx, tx, batch)
	if err != nil {
		return es.AppendResult{}, fmt.Errorf("appending %s, expecting %s: %w", describe(events), expected, err)
	}
	if len(result.Events) == 0 {
		return es.AppendResult{}, s.conflict(ctx, tx, expected, events)
	}
	return result, nil
}

// describe names what is being appended, for errors.
func describe(events []es.Event) string {
	return fmt.Sprintf("%d events to %s", len(events), aggregate(events[0].BoundedContext, events[0].AggregateType, events[0].AggregateID))
}

// aggregate names an aggregate, for errors.
func aggregate(boundedContext, aggregateType, aggregateID string) string {
	return fmt.Sprintf("aggregate %q of type %q in context %q", aggregateID, aggregateType, boundedContext)
}

// insert executes the statement. A result without events is a version conflict.
func (s *Store) insert(ctx context.Context, tx pgx.Tx, b *batch) (es.AppendResult, error) {
	rows, err := tx.Query(ctx, s.sql.append, b.args()...)
	if err != nil {
		return es.AppendResult{}, b.classify(err)
	}
	defer rows.Close()
	stored := 0
	for rows.Next() {
		if stored == len(b.events) {
			return es.AppendResult{}, fmt.Errorf("the database stored more than the %d events given", len(b.events))
		}
		e := &b.events[stored]
		if err := rows.Scan(&e.GlobalPosition, &e.AggregateVersion, &e.Metadata, &e.CreatedAt); err != nil {
			return es.AppendResult{}, fmt.Errorf("scanning a stored event: %w", err)
		}
		e.CreatedAt = e.CreatedAt.UTC()
		b.positions[stored] = e.GlobalPosition
		stored++
	}
	if err := rows.Err(); err != nil {
		return es.AppendResult{}, b.classify(err)
	}
	switch stored {
	case 0:
		return es.AppendResult{}, nil
	case len(b.events):
		return es.AppendResult{Events: b.events, GlobalPositions: b.positions}, nil
	}
	return es.AppendResult{}, fmt.Errorf("the database stored %d of the %d events given: roll back, and look for triggers or rules on the table",
		stored, len(b.events))
}

// conflict is the error for an aggregate that is not at the expected version,
// with the version that it is at if that can be found out.
func (s *Store) conflict(ctx context.Context, tx pgx.Tx, expected es.ExpectedVersion, events []es.Event) error {
	first := &events[0]
	s.log.DebugContext(ctx, "An append met a version conflict", slog.String("bounded_context", first.BoundedContext),
		slog.String("aggregate_type", first.AggregateType), slog.String("aggregate_id", first.AggregateID),
		slog.String("expected", expected.String()))
	var actual int64
	err := tx.QueryRow(ctx, s.sql.version, first.BoundedContext, first.AggregateType, first.AggregateID).Scan(&actual)
	if err != nil {
		return fmt.Errorf("appending %s: %w: expected %s (reading the actual one: %w)", describe(events), ErrOptimisticConcurrency, expected, err)
	}
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
	traces, correlations, causes, metadata []pgtype.Text
	createdAt                              []pgtype.Timestamptz
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
		traces:       make([]pgtype.Text, n),
		correlations: make([]pgtype.Text, n),
		causes:       make([]pgtype.Text, n),
		metadata:     make([]pgtype.Text, n),
		createdAt:    make([]pgtype.Timestamptz, n),
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
		b.createdAt[i] = pgtype.Timestamptz{Time: e.CreatedAt, Valid: !e.CreatedAt.IsZero()}
		b.types[i] = e.EventType
		b.versions[i] = int32(e.EventVersion)
		b.payloads[i] = e.Payload
		b.traces[i] = pgtype.Text(e.TraceID)
		b.correlations[i] = pgtype.Text(e.CorrelationID)
		b.causes[i] = pgtype.Text(e.CausationID)
		b.metadata[i] = pgtype.Text{String: string(e.Metadata), Valid: len(e.Metadata) > 0}
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
		b.ids, b.types, b.versions, b.payloads, b.traces, b.correlations, b.causes, b.metadata, b.createdAt,
	}
}

// classify adds the sentinel that a unique violation stands for. PostgreSQL names
// constraints after their columns: the one of event_id by that column alone.
// Ids drawn here are not repeated, so the rest is a version that was taken.
func (b *batch) classify(err error) error {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pgErr.Code != sqlStateUniqueViolation {
		return err
	}
	ofID := strings.Contains(pgErr.ConstraintName, "event_id") && !strings.Contains(pgErr.ConstraintName, "bounded_context")
	if b.givenID && ofID {
		return fmt.Errorf("%w: %w", ErrDuplicateEvent, err)
	}
	return fmt.Errorf("%w: %w", ErrOptimisticConcurrency, err)
}
