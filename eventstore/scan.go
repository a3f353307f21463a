package eventstore

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// A read that finds nothing allocates nothing. Its first row makes room for
// firstCapacity events, and one more than these for a page of the usual size, from
// where on it doubles: pages are mostly short, at the stream's head, or full.
const (
	firstCapacity  = 64
	secondCapacity = 1024
)

// collect scans all rows of a query over eventColumns, at most limit, or any
// number if limit is 0, and closes it.
func collect(rows pgx.Rows, limit int) ([]es.PersistedEvent, error) {
	defer rows.Close()
	var events []es.PersistedEvent
	var scanner eventScanner
	for rows.Next() {
		events = withRoom(events, limit)
		if err := scanner.scan(rows, &events[len(events)-1], false); err != nil {
			return nil, fmt.Errorf("scanning an event: %w", err)
		}
	}
	return events, rows.Err()
}

// collectPage scans the rows of a filtered read and closes it. Where the page
// has its bytes before the rows end it calls abandon, which must end the query:
// closing it would fetch the rest.
func collectPage(rows pgx.Rows, q Query, abandon func()) (Page, error) {
	defer rows.Close()
	page := Page{UpTo: q.UpTo}
	var scan eventScanner
	for rows.Next() {
		page.Events = withRoom(page.Events, q.Limit)
		e := &page.Events[len(page.Events)-1]
		if err := scan.scan(rows, e, q.WithSlots); err != nil {
			return Page{}, fmt.Errorf("scanning an event: %w", err)
		}
		if q.WithSlots {
			page.Slots = append(page.Slots, uint16(scan.slot))
		}
		page.Bytes += sizeOf(e)
		if q.MaxBytes > 0 && page.Bytes >= q.MaxBytes && len(page.Events) < q.Limit {
			page.UpTo = e.GlobalPosition
			abandon()
			return page, nil
		}
	}
	if len(page.Events) == q.Limit {
		page.UpTo = page.Events[q.Limit-1].GlobalPosition
	}
	return page, rows.Err()
}

// sizeOf is about the memory that an event takes.
func sizeOf(e *es.PersistedEvent) int64 {
	return int64(unsafe.Sizeof(*e)) + int64(len(e.Payload)+len(e.Metadata)+len(e.AggregateID)+
		len(e.TraceID.String)+len(e.CorrelationID.String)+len(e.CausationID.String))
}

// withRoom appends an empty event. The list will have at most limit, or any number
// if limit is 0.
func withRoom(events []es.PersistedEvent, limit int) []es.PersistedEvent {
	if limit == 0 {
		limit = math.MaxInt
	}
	switch {
	case events == nil:
		events = make([]es.PersistedEvent, 0, min(limit, firstCapacity))
	case len(events) == firstCapacity && cap(events) == firstCapacity && limit > firstCapacity:
		events = append(make([]es.PersistedEvent, 0, min(limit, secondCapacity)), events...)
	}
	return append(events, es.PersistedEvent{})
}

// eventScanner reads rows straight into events' fields: by decode where it can,
// else by rows.Scan. It keeps its list of destinations, and the few names that
// repeat in row after row.
type eventScanner struct {
	known, decodable                         bool // known: it has looked whether the columns are decodable
	memory                                   arena
	dst                                      [15]any
	slot                                     int32
	boundedContext, aggregateType, eventType sharedText
}

// scan reads the current row of a query over eventColumns, and the slot if that
// is the last column.
func (s *eventScanner) scan(rows pgx.Rows, e *es.PersistedEvent, withSlot bool) error {
	if !s.known {
		s.known, s.decodable = true, decodable(rows.FieldDescriptions())
	}
	if s.decodable && s.decode(rows, e) {
		return nil
	}
	s.dst = [...]any{
		&e.GlobalPosition, &s.boundedContext, &s.aggregateType, &e.AggregateID, &e.AggregateVersion,
		(*[16]byte)(&e.EventID), &s.eventType, &e.EventVersion, &e.Payload,
		(*pgtype.Text)(&e.TraceID), (*pgtype.Text)(&e.CorrelationID), (*pgtype.Text)(&e.CausationID),
		&e.Metadata, &e.CreatedAt, &s.slot,
	}
	columns := len(s.dst)
	if !withSlot {
		columns--
	}
	if err := rows.Scan(s.dst[:columns]...); err != nil {
		return err
	}
	e.BoundedContext, e.AggregateType, e.EventType = s.boundedContext.value, s.aggregateType.value, s.eventType.value
	e.CreatedAt = e.CreatedAt.UTC()
	return nil
}

// sharedText scans a text of which few different values are expected, and allocates
// each of them once.
type sharedText struct {
	value string
	known map[string]string
}

// maxKnown bounds the values that a sharedText remembers.
const maxKnown = 256

// ScanBytes implements [pgtype.BytesScanner]: b is valid during the call only.
func (t *sharedText) ScanBytes(b []byte) error {
	if b == nil {
		return errors.New("it must not be NULL")
	}
	t.of(b)
	return nil
}

// of is b as text.
func (t *sharedText) of(b []byte) string {
	if string(b) == t.value {
		return t.value
	}
	value, ok := t.known[string(b)]
	if !ok {
		value = string(b)
		if t.known == nil {
			t.known = make(map[string]string)
		}
		if len(t.known) < maxKnown {
			t.known[value] = value
		}
	}
	t.value = value
	return value
}
