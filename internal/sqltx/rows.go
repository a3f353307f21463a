package sqltx

import (
	"database/sql/driver"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows is a result as database/sql reads it.
type rows struct {
	rows        pgx.Rows
	types       *pgtype.Map
	ahead, more bool // a row was read ahead, or found not to be there
}

var (
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
)

// Columns are the columns' names.
func (r *rows) Columns() []string {
	fields := r.rows.FieldDescriptions()
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].Name
	}
	return names
}

// Close ends the result.
func (r *rows) Close() error {
	r.rows.Close()
	return r.rows.Err()
}

// Next reads a row.
func (r *rows) Next(dest []driver.Value) error {
	more := r.more
	if !r.ahead {
		more = r.rows.Next()
	}
	r.ahead = false
	if !more {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return io.EOF
	}
	fields := r.rows.FieldDescriptions()
	for i, raw := range r.rows.RawValues() {
		var err error
		if dest[i], err = r.value(&fields[i], raw); err != nil {
			return fmt.Errorf("reading column %q: %w", fields[i].Name, err)
		}
	}
	return nil
}

// value is what a column holds, as a type that database/sql knows.
func (r *rows) value(field *pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	if raw == nil {
		return nil, nil //nolint:nilnil // this is NULL
	}
	switch field.DataTypeOID {
	case pgtype.BoolOID:
		return scanned[bool](r, field, raw)
	case pgtype.ByteaOID, pgtype.JSONOID, pgtype.JSONBOID, pgtype.XMLOID:
		return scanned[[]byte](r, field, raw)
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return scanned[int64](r, field, raw)
	case pgtype.Float4OID, pgtype.Float8OID:
		return scanned[float64](r, field, raw)
	case pgtype.CIDOID, pgtype.OIDOID, pgtype.XIDOID:
		return valued[pgtype.Uint32](r, field, raw)
	case pgtype.DateOID:
		return valued[pgtype.Date](r, field, raw)
	case pgtype.TimestampOID:
		return valued[pgtype.Timestamp](r, field, raw)
	case pgtype.TimestamptzOID:
		return valued[pgtype.Timestamptz](r, field, raw)
	default:
		return scanned[string](r, field, raw)
	}
}

// scanned reads a column as a T.
func scanned[T any](r *rows, field *pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	var value T
	err := r.types.Scan(field.DataTypeOID, field.Format, raw, &value)
	return value, err
}

// valued reads a column as a T, and returns the value of that.
func valued[T driver.Valuer](r *rows, field *pgconn.FieldDescription, raw []byte) (driver.Value, error) {
	var value T
	if err := r.types.Scan(field.DataTypeOID, field.Format, raw, &value); err != nil {
		return nil, err
	}
	return value.Value()
}

// ColumnTypeDatabaseTypeName is the name of a column's type in capital letters, or its oid where pgx does not know it.
func (r *rows) ColumnTypeDatabaseTypeName(index int) string {
	oid := r.rows.FieldDescriptions()[index].DataTypeOID
	if t, known := r.types.TypeForOID(oid); known {
		return strings.ToUpper(t.Name)
	}
	return strconv.FormatUint(uint64(oid), 10)
}

// ColumnTypeScanType is a type that a column can be scanned into.
func (r *rows) ColumnTypeScanType(index int) reflect.Type {
	switch r.rows.FieldDescriptions()[index].DataTypeOID {
	case pgtype.BoolOID:
		return reflect.TypeFor[bool]()
	case pgtype.ByteaOID:
		return reflect.TypeFor[[]byte]()
	case pgtype.Int2OID:
		return reflect.TypeFor[int16]()
	case pgtype.Int4OID:
		return reflect.TypeFor[int32]()
	case pgtype.Int8OID:
		return reflect.TypeFor[int64]()
	case pgtype.Float4OID:
		return reflect.TypeFor[float32]()
	case pgtype.Float8OID, pgtype.NumericOID:
		return reflect.TypeFor[float64]()
	case pgtype.DateOID, pgtype.TimestampOID, pgtype.TimestamptzOID:
		return reflect.TypeFor[time.Time]()
	default:
		return reflect.TypeFor[string]()
	}
}
