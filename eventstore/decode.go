package eventstore

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"
	"unsafe"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// The decoder reads rows in PostgreSQL's binary format, without rows.Scan, which looks at each column's type in each row and
// allocates each value by itself. That is most of what reading an event costs besides the driver's own work. It does so only where every
// column has the type and format that it knows: other query exec modes, and tables with other types, are left to
// rows.Scan, and so is each row that it cannot decode, for the error.

// encoding is how a column's value is encoded.
type encoding uint8

const (
	encodedInt8 encoding = iota
	encodedInt4
	encodedText
	encodedUUID
	encodedBytes
	encodedJSON
	encodedTime
)

// encodings are those of eventColumns, in their order, and the slot's.
var encodings = [...]encoding{
	encodedInt8, encodedText, encodedText, encodedText, encodedInt8,
	encodedUUID, encodedText, encodedInt4, encodedBytes, encodedText, encodedText, encodedText,
	encodedJSON, encodedTime, encodedInt4,
}

// is says whether a column is encoded like that. Text is the same in both formats, and so is JSON in text.
func (e encoding) is(f *pgconn.FieldDescription) bool {
	inBinary := f.Format == pgtype.BinaryFormatCode
	switch e {
	case encodedInt8:
		return inBinary && f.DataTypeOID == pgtype.Int8OID
	case encodedInt4:
		return inBinary && f.DataTypeOID == pgtype.Int4OID
	case encodedText:
		return f.DataTypeOID == pgtype.TextOID || f.DataTypeOID == pgtype.VarcharOID
	case encodedUUID:
		return inBinary && f.DataTypeOID == pgtype.UUIDOID
	case encodedBytes:
		return inBinary && f.DataTypeOID == pgtype.ByteaOID
	case encodedJSON:
		return !inBinary && (f.DataTypeOID == pgtype.JSONBOID || f.DataTypeOID == pgtype.JSONOID)
	case encodedTime:
		return inBinary && f.DataTypeOID == pgtype.TimestamptzOID
	}
	return false
}

// decodable says whether the decoder knows all columns of a result.
func decodable(fields []pgconn.FieldDescription) bool {
	if len(fields) != len(encodings) && len(fields) != len(encodings)-1 {
		return false
	}
	for i := range fields {
		if !encodings[i].is(&fields[i]) {
			return false
		}
	}
	return true
}

// decode decodes the current row. It returns false where a value is not as it must be; what it has
// written to e until then is to be overwritten.
func (s *eventScanner) decode(rows pgx.Rows, e *es.PersistedEvent) bool {
	v := rows.RawValues()
	if len(v) > len(encodings) || len(v) < len(encodings)-1 ||
		len(v[0]) != 8 || v[1] == nil || v[2] == nil || v[3] == nil || len(v[4]) != 8 ||
		len(v[5]) != 16 || v[6] == nil || len(v[7]) != 4 || len(v[13]) != 8 {
		return false
	}
	micros := int64(binary.BigEndian.Uint64(v[13]))
	if micros == math.MaxInt64 || micros == math.MinInt64 {
		return false // infinity
	}
	e.GlobalPosition = int64(binary.BigEndian.Uint64(v[0]))
	e.BoundedContext, e.AggregateType = s.boundedContext.of(v[1]), s.aggregateType.of(v[2])
	e.AggregateID = s.memory.text(v[3])
	e.AggregateVersion = int64(binary.BigEndian.Uint64(v[4]))
	copy(e.EventID[:], v[5])
	e.EventType = s.eventType.of(v[6])
	e.EventVersion = int(int32(binary.BigEndian.Uint32(v[7])))
	e.Payload = s.memory.bytes(v[8])
	e.TraceID, e.CorrelationID, e.CausationID = s.memory.nullText(v[9]), s.memory.nullText(v[10]), s.memory.nullText(v[11])
	e.Metadata = s.memory.bytes(v[12])
	e.CreatedAt = time.Unix(epoch2000+micros/1e6, micros%1e6*1e3).UTC()
	if len(v) == len(encodings) {
		if len(v[14]) != 4 {
			return false
		}
		s.slot = int32(binary.BigEndian.Uint32(v[14]))
	}
	return true
}

// epoch2000 is where PostgreSQL's times begin, in Unix seconds.
const epoch2000 = 946_684_800

// arena is memory for what the events of one page refer to: a few large pieces in place of some for each event. A
// piece lives as long as anything in it, so who keeps an event keeps its neighbours' memory, up to maxPiece bytes.
type arena struct {
	free []byte
	size int // of the last piece
}

const (
	minPiece = 1 << 10
	maxPiece = 64 << 10
)

// bytes is a copy of b; nil of nil.
func (a *arena) bytes(b []byte) []byte {
	switch {
	case len(b) > maxPiece/4 || len(b) == 0:
		return bytes.Clone(b) // which is nil for nil, and not for what is empty
	case len(b) > len(a.free):
		a.size = max(minPiece, min(4*a.size, maxPiece), len(b))
		a.free = make([]byte, a.size)
	}
	own := a.free[:len(b):len(b)]
	a.free = a.free[len(b):]
	copy(own, b)
	return own
}

// text is a copy of b.
func (a *arena) text(b []byte) string {
	own := a.bytes(b)
	return unsafe.String(unsafe.SliceData(own), len(own)) //nolint:gosec // nobody else has own, so it never changes
}

// nullText is a copy of b, not valid if that is nil.
func (a *arena) nullText(b []byte) es.NullString {
	return es.NullString{String: a.text(b), Valid: b != nil}
}
