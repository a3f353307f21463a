package eventstore

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// readWith reads all events, with each row decoded or scanned.
func readWith(t *testing.T, s *Store, db DB, decoded bool) []es.PersistedEvent {
	t.Helper()
	rows, err := db.Query(t.Context(), s.sql.readAll, int64(0), int64(1000))
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, decodable(rows.FieldDescriptions()))
	scanner := eventScanner{known: true, decodable: decoded}
	for rows.Next() {
		_, ok := decode(rows.RawValues())
		require.True(t, ok)
		require.NoError(t, scanner.scan(rows))
	}
	require.NoError(t, rows.Err())
	return scanner.list.Cut().All()
}

func TestWhatIsDecodedIsWhatWouldBeScanned(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "rows are decoded where they come in binary, and the exec mode gets text")
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), awkward()...)
	for _, size := range []int{0, 1, 1 << 10, 16<<10 - 1, 16 << 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		e := event(fmt.Sprintf("of %d bytes", size))
		e.Payload = bytes.Repeat([]byte{byte(size)}, size)
		mustAppend(t, s, pool, es.NoStream(), e)
	}
	_, err := pool.Exec(t.Context(), `UPDATE events SET created_at = '4713-01-01 00:00:00.000001+00 BC' WHERE aggregate_id = 'of 1 bytes'`)
	require.NoError(t, err)

	decoded := readWith(t, s, pool, true)
	assert.Equal(t, readWith(t, s, pool, false), decoded)
	assert.Len(t, decoded, 11)
}

func TestTablesOfOtherTypesAreScanned(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), event("a"))
	before, err := s.ReadEvents(t.Context(), pool, 0, 10)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `
		ALTER TABLE events ALTER event_version TYPE smallint, ALTER metadata TYPE text, ALTER aggregate_type TYPE char(5), ALTER event_type TYPE varchar(20)`)
	require.NoError(t, err)
	pool.Reset() // of what connections have prepared
	after, err := s.ReadEvents(t.Context(), pool, 0, 10)
	require.NoError(t, err)
	assert.Equal(t, before, after)
}

func TestARowThatCannotBeDecodedIsAnError(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ sql, says string }{
		"a name that is missing": {`ALTER TABLE events ALTER event_type DROP NOT NULL; UPDATE events SET event_type = NULL`, "event_type"},
		"an id that is missing":  {`ALTER TABLE events ALTER aggregate_id DROP NOT NULL; UPDATE events SET aggregate_id = NULL`, "aggregate_id"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool := newStore(t)
			mustAppend(t, s, pool, es.NoStream(), event("a"))
			_, err := pool.Exec(t.Context(), tt.sql)
			require.NoError(t, err)
			_, err = s.ReadEvents(t.Context(), pool, 0, 10)
			var scanned pgx.ScanArgError
			require.ErrorAs(t, err, &scanned)
			assert.Equal(t, tt.says, scanned.FieldName)
		})
	}
}

// A time that Go does not have stops nobody: it becomes the latest, or the earliest, that PostgreSQL has beside it.
func TestInfiniteTimesAreTheOutermost(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "rows are decoded where they come in binary, and the exec mode gets text")
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("a", 4)...)
	_, err := pool.Exec(t.Context(), `UPDATE events SET created_at = CASE aggregate_version
		WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity'
		WHEN 3 THEN '294276-12-31 23:59:59.999999 UTC' ELSE '4714-11-24 00:00:00 BC UTC' END::timestamptz`)
	require.NoError(t, err)
	for _, decoded := range []bool{true, false} {
		events := readWith(t, s, pool, decoded)
		require.Len(t, events, 4)
		assert.Equal(t, events[2].CreatedAt, events[0].CreatedAt)
		assert.Equal(t, events[3].CreatedAt, events[1].CreatedAt)
		assert.Equal(t, 294276, events[0].CreatedAt.Year())
		assert.Equal(t, -4713, events[1].CreatedAt.Year())
	}
}

func TestOnlyKnownColumnsAreDecodable(t *testing.T) {
	t.Parallel()
	known := func() []pgconn.FieldDescription {
		oids := []uint32{
			pgtype.Int8OID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.Int8OID, pgtype.UUIDOID, pgtype.TextOID, pgtype.Int4OID,
			pgtype.ByteaOID, pgtype.TextOID, pgtype.TextOID, pgtype.TextOID, pgtype.JSONBOID, pgtype.TimestamptzOID, pgtype.Int4OID,
		}
		fields := make([]pgconn.FieldDescription, len(oids))
		for i, oid := range oids {
			fields[i] = pgconn.FieldDescription{DataTypeOID: oid, Format: pgtype.BinaryFormatCode}
		}
		fields[12].Format = pgtype.TextFormatCode
		return fields
	}
	assert.True(t, decodable(known()), "with the slot")
	assert.True(t, decodable(known()[:14]), "without it")
	assert.False(t, decodable(known()[:13]))
	for i := range known() {
		fields := known()
		fields[i].DataTypeOID = pgtype.Float8OID
		assert.False(t, decodable(fields), "column %d of another type", i)
		fields = known()
		fields[i].Format = pgtype.TextFormatCode - fields[i].Format + pgtype.BinaryFormatCode
		inBoth := fields[i].DataTypeOID == pgtype.TextOID
		assert.Equal(t, inBoth, decodable(fields), "column %d in the other format", i)
	}
}
