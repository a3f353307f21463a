package eventrow

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// Columns are the columns that a Scanner reads, in its order. They are not cast: that would cost the server up to a third of what a row does.
const Columns = `global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version,
	event_id, event_type, event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at`

// MostExpected bounds the room that is made at once for a query's events.
const MostExpected = 4096

// Scanner packs rows: by decode where it can, else by rows.Scan. It belongs
// to one query.
type Scanner struct {
	WithSlot         bool           // the last column is the slot
	List             packed.Builder // the rows that were scanned
	known, decodable bool           // known: it has looked at the columns
	filled           []int          // those whose values are filled up with spaces
	payloadAsText    bool           // see asText
}

// Scan packs the current row of a query over Columns, and the slot if that
// is the last column.
func (s *Scanner) Scan(rows pgx.Rows) error {
	row, err := s.Row(rows)
	if err != nil {
		return err
	}
	s.List.Add(&row)
	return nil
}

// Row is the row that Scan packs. It is valid until the next one is read.
func (s *Scanner) Row(rows pgx.Rows) (packed.Row, error) {
	if !s.known {
		fields := rows.FieldDescriptions()
		s.known, s.decodable, s.filled, s.payloadAsText = true, decodable(fields), filled(fields), asText(fields)
	}
	if s.decodable {
		if row, ok := decode(rows.RawValues()); ok {
			return row, nil
		}
	}
	return s.scanSlowly(rows)
}

// filled returns which columns of names have the type char(n). The server compares and hashes their values without the spaces at the end, but sends
// these.
func filled(fields []pgconn.FieldDescription) (columns []int) {
	for _, column := range []int{1, 2, 3, 6} { // as in Columns
		if column < len(fields) && fields[column].DataTypeOID == pgtype.BPCharOID {
			columns = append(columns, column)
		}
	}
	return columns
}

// scanSlowly is for rows that are not decodable, and for the error of one that is wrong.
func (s *Scanner) scanSlowly(rows pgx.Rows) (packed.Row, error) {
	var e es.PersistedEvent
	var slot int32
	var created pgtype.Timestamptz
	destinations := []any{
		&e.GlobalPosition, &e.BoundedContext, &e.AggregateType, &e.AggregateID, &e.AggregateVersion,
		(*[16]byte)(&e.EventID), &e.EventType, &e.EventVersion, &e.Payload,
		(*pgtype.Text)(&e.TraceID), (*pgtype.Text)(&e.CorrelationID), (*pgtype.Text)(&e.CausationID),
		&e.Metadata, &created, &slot,
	}
	if !s.WithSlot {
		destinations = destinations[:len(destinations)-1]
	}
	var err error
	if s.payloadAsText {
		destinations[payloadColumn] = nil
		e.Payload, err = parseBytes(rows.RawValues()[payloadColumn])
	}
	if err = errors.Join(err, rows.Scan(destinations...)); err != nil {
		return packed.Row{}, err
	}
	for _, column := range s.filled {
		if name, ok := destinations[column].(*string); ok {
			*name = strings.TrimRight(*name, " ")
		}
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
