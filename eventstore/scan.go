package eventstore

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// collect scans all rows of a query over eventColumns, at most limit, or any
// number if limit is 0, and closes it.
func collect(rows pgx.Rows, limit int) ([]es.PersistedEvent, error) {
	defer rows.Close()
	scan := eventScanner{list: packed.Builder{Expected: min(limit, mostExpected)}}
	for rows.Next() {
		if err := scan.scan(rows); err != nil {
			return nil, fmt.Errorf("scanning an event: %w", err)
		}
	}
	return scan.list.Cut().All(), rows.Err()
}

// mostExpected bounds the room that is made at once for a query's events.
const mostExpected = 4096

// collectParts scans the rows of a filtered read, hands them over in parts, and
// closes it. Where they have the query's bytes before they end it calls abandon,
// which must end the query: closing it would fetch the rest. With fewer rows than complete, none that is wanted is missing.
func collectParts(rows pgx.Rows, q Query, complete, size int, take func(Part), abandon context.CancelFunc) error {
	defer rows.Close()
	scan := eventScanner{withSlot: q.WithSlots, list: packed.Builder{Expected: min(size, q.Limit, mostExpected)}}
	events, bytes := 0, int64(0) // of the parts before
	for rows.Next() {
		if err := scan.scan(rows); err != nil {
			return fmt.Errorf("scanning an event: %w", err)
		}
		n := scan.list.Len()
		switch {
		case events+n == q.Limit:
			take(scan.part(scan.list.LastPosition()))
			rows.Close()
			return rows.Err()
		case q.MaxBytes > 0 && bytes+scan.list.Bytes() >= q.MaxBytes:
			take(scan.part(scan.list.LastPosition()))
			abandon()
			return nil
		case n == size:
			events, bytes = events+n, bytes+scan.list.Bytes()
			take(scan.part(scan.list.LastPosition()))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	switch n := scan.list.Len(); {
	case events+n < complete:
		take(scan.part(q.UpTo))
	case n > 0: // else the part before has ended there
		take(scan.part(scan.list.LastPosition()))
	}
	return nil
}

// eventScanner packs rows: by decode where it can, else by rows.Scan. It belongs
// to one query.
type eventScanner struct {
	withSlot         bool // the last column is the slot
	list             packed.Builder
	known, decodable bool // known: it has looked whether the columns are decodable
}

// scan packs the current row of a query over eventColumns, and the slot if that
// is the last column.
func (s *eventScanner) scan(rows pgx.Rows) error {
	if !s.known {
		s.known, s.decodable = true, decodable(rows.FieldDescriptions())
	}
	var row packed.Row
	decoded := false
	if s.decodable {
		row, decoded = decode(rows.RawValues())
	}
	if !decoded {
		var err error
		if row, err = s.scanSlowly(rows); err != nil {
			return err
		}
	}
	s.list.Add(&row)
	return nil
}

// scanSlowly is for rows that are not decodable, and for the error of one that is wrong.
func (s *eventScanner) scanSlowly(rows pgx.Rows) (packed.Row, error) {
	var e es.PersistedEvent
	var slot int32
	var created pgtype.Timestamptz
	destinations := []any{
		&e.GlobalPosition, &e.BoundedContext, &e.AggregateType, &e.AggregateID, &e.AggregateVersion,
		(*[16]byte)(&e.EventID), &e.EventType, &e.EventVersion, &e.Payload,
		(*pgtype.Text)(&e.TraceID), (*pgtype.Text)(&e.CorrelationID), (*pgtype.Text)(&e.CausationID),
		&e.Metadata, &created, &slot,
	}
	if !s.withSlot {
		destinations = destinations[:len(destinations)-1]
	}
	if err := rows.Scan(destinations...); err != nil {
		return packed.Row{}, err
	}
	e.CreatedAt = created.Time
	row := packed.RowOf(&e)
	switch created.InfinityModifier {
	case pgtype.Infinity:
		row.Created = latest
	case pgtype.NegativeInfinity:
		row.Created = earliest
	case pgtype.Finite:
	}
	row.Slot = uint16(slot)
	return row, nil
}

// part is the events since the part before, which reach upTo.
func (s *eventScanner) part(upTo int64) Part {
	size := s.list.Bytes()
	list := s.list.Cut()
	return Part{Events: list, UpTo: upTo, Bytes: list.Bytes(), size: size}
}
