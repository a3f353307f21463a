package eventrow

import (
	"encoding/binary"
	"math"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
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

// encodings are those of Columns, in their order, and the slot's.
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

// PostgreSQL's latest and earliest times, in microseconds since 2000: what 'infinity'
// and '-infinity' become, which time.Time does not have. (The bounds are those of
// src/include/datatype/timestamp.h.)
const (
	latest   = 9_223_371_331_199_999_999
	earliest = -211_813_488_000_000_000
)

// decode decodes a row's values. It returns false where one is not as it must be.
//
// It returns the row, in place of writing to one, since what is written to a local variable needs no write barriers: these took a tenth
// of a worker's time that catches up.
func decode(v [][]byte) (packed.Row, bool) {
	if len(v) > len(encodings) || len(v) < len(encodings)-1 ||
		len(v[0]) != 8 || v[1] == nil || v[2] == nil || v[3] == nil || len(v[4]) != 8 ||
		len(v[5]) != 16 || v[6] == nil || len(v[7]) != 4 || len(v[13]) != 8 {
		return packed.Row{}, false
	}
	row := packed.Row{
		Position:       int64(binary.BigEndian.Uint64(v[0])),
		BoundedContext: v[1], AggregateType: v[2], AggregateID: v[3],
		AggregateVersion: int64(binary.BigEndian.Uint64(v[4])),
		EventID:          [16]byte(v[5]),
		EventType:        v[6],
		EventVersion:     int64(int32(binary.BigEndian.Uint32(v[7]))),
		Payload:          v[8], TraceID: v[9], CorrelationID: v[10], CausationID: v[11], Metadata: v[12],
		Created: int64(binary.BigEndian.Uint64(v[13])),
	}
	switch row.Created {
	case math.MaxInt64:
		row.Created = latest
	case math.MinInt64:
		row.Created = earliest
	}
	if len(v) == len(encodings) {
		if len(v[14]) != 4 {
			return packed.Row{}, false
		}
		row.Slot = uint16(binary.BigEndian.Uint32(v[14]))
	}
	return row, true
}
