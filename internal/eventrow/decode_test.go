package eventrow_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.MainTwice(m) }

// newStore is a store with its tables in a database of its own.
func newStore(t *testing.T) (*eventstore.Store, *pgxpool.Pool) {
	t.Helper()
	return eventstore.New(eventstore.WithLogger(nil)), pgtest.NewDatabaseFrom(t, "events", func(pool *pgxpool.Pool) error {
		return eventstore.RunMigrations(pool, eventstore.WithLogger(nil))
	})
}

// mustAppend appends in a transaction of its own.
func mustAppend(t *testing.T, s *eventstore.Store, pool *pgxpool.Pool, expected es.ExpectedVersion, events ...es.Event) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := s.Append(t.Context(), tx, expected, events)
		return err
	}))
}

// readWith reads all events, with each row decoded or scanned.
func readWith(t *testing.T, pool *pgxpool.Pool, decoded bool) []es.PersistedEvent {
	t.Helper()
	rows, err := pool.Query(t.Context(), "SELECT "+eventrow.Columns+" FROM events ORDER BY global_position")
	require.NoError(t, err)
	defer rows.Close()
	require.True(t, eventrow.Decodable(rows.FieldDescriptions()))
	scanner := eventrow.NewScanner(decoded)
	for rows.Next() {
		_, ok := eventrow.Decode(rows.RawValues())
		require.True(t, ok)
		require.NoError(t, scanner.Scan(rows))
	}
	require.NoError(t, rows.Err())
	return scanner.List.Cut().All()
}

func TestWhatIsDecodedIsWhatWouldBeScanned(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "rows are decoded where they come in binary, and the exec mode gets text")
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventtest.Awkward()...)
	for _, size := range []int{0, 1, 1 << 10, 16<<10 - 1, 16 << 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		e := eventtest.Event(fmt.Sprintf("of %d bytes", size))
		e.Payload = bytes.Repeat([]byte{byte(size)}, size)
		mustAppend(t, s, pool, es.NoStream(), e)
	}
	_, err := pool.Exec(t.Context(), `UPDATE events SET created_at = '4713-01-01 00:00:00.000001+00 BC' WHERE aggregate_id = 'of 1 bytes'`)
	require.NoError(t, err)

	decoded := readWith(t, pool, true)
	assert.Equal(t, readWith(t, pool, false), decoded)
	assert.Len(t, decoded, 11)
}

func TestTablesOfOtherTypesAreScanned(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventtest.Event("a"))
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
			mustAppend(t, s, pool, es.NoStream(), eventtest.Event("a"))
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
	mustAppend(t, s, pool, es.NoStream(), eventtest.Numbered("a", 4)...)
	_, err := pool.Exec(t.Context(), `UPDATE events SET created_at = CASE aggregate_version
		WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity'
		WHEN 3 THEN '294276-12-31 23:59:59.999999 UTC' ELSE '4714-11-24 00:00:00 BC UTC' END::timestamptz`)
	require.NoError(t, err)
	for _, decoded := range []bool{true, false} {
		events := readWith(t, pool, decoded)
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
	assert.True(t, eventrow.Decodable(known()), "with the slot")
	assert.True(t, eventrow.Decodable(known()[:14]), "without it")
	assert.False(t, eventrow.Decodable(known()[:13]))
	for i := range known() {
		fields := known()
		fields[i].DataTypeOID = pgtype.Float8OID
		assert.False(t, eventrow.Decodable(fields), "column %d of another type", i)
		fields = known()
		fields[i].Format = pgtype.TextFormatCode - fields[i].Format + pgtype.BinaryFormatCode
		inBoth := fields[i].DataTypeOID == pgtype.TextOID
		assert.Equal(t, inBoth, eventrow.Decodable(fields), "column %d in the other format", i)
	}
}

// Whoever had the connection before may have set bytea_output.
func TestPayloadsComeInEitherForm(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	payloads := [][]byte{every, {}, []byte(`\x00`), []byte(`\\`), []byte("text")}
	events := make([]es.Event, len(payloads))
	for i, payload := range payloads {
		events[i] = es.Event{BoundedContext: "sales", AggregateType: "Order", AggregateID: "1", EventType: "Placed", Payload: payload}
	}
	mustAppend(t, s, pool, es.NoStream(), events...)
	for _, form := range []string{"hex", "escape"} {
		for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
			require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
				_, err := tx.Exec(t.Context(), "SET LOCAL bytea_output = "+form)
				require.NoError(t, err)
				rows, err := tx.Query(t.Context(), "SELECT "+eventrow.Columns+" FROM events ORDER BY global_position", mode)
				require.NoError(t, err)
				defer rows.Close()
				var scanner eventrow.Scanner
				for rows.Next() {
					require.NoError(t, scanner.Scan(rows), "%s in mode %s", form, mode)
				}
				found := scanner.List.Cut().All()
				require.Len(t, found, len(payloads))
				for i, payload := range payloads {
					assert.Equal(t, payload, found[i].Payload, "%s in mode %s", form, mode)
				}
				return rows.Err()
			}))
		}
	}
}

func TestAPayloadInNeitherFormIsAnError(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`\x0`, `\x0g`, `\`, `a\`, `\40`, `\400`, `\q`} {
		_, err := eventrow.ParseBytes([]byte(text))
		require.Error(t, err, text)
	}
	parsed, err := eventrow.ParseBytes(nil)
	require.NoError(t, err)
	assert.Nil(t, parsed)
}
