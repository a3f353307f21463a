package eventstore

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// generated is what pupsourcing's generator makes of its default configuration.
const generated = `
	CREATE TABLE IF NOT EXISTS events (
		global_position BIGSERIAL PRIMARY KEY,
		bounded_context TEXT NOT NULL,
		aggregate_type TEXT NOT NULL,
		aggregate_id TEXT NOT NULL,
		aggregate_version BIGINT NOT NULL,
		event_id UUID NOT NULL UNIQUE,
		event_type TEXT NOT NULL,
		event_version INT NOT NULL DEFAULT 1,
		payload BYTEA NOT NULL,
		trace_id TEXT,
		correlation_id TEXT,
		causation_id TEXT,
		metadata JSONB,
		created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
		UNIQUE (bounded_context, aggregate_type, aggregate_id, aggregate_version)
	);
	CREATE INDEX IF NOT EXISTS idx_events_aggregate ON events (bounded_context, aggregate_type, aggregate_id, aggregate_version);
	CREATE INDEX IF NOT EXISTS idx_events_event_type ON events (event_type, global_position);
	CREATE INDEX IF NOT EXISTS idx_events_correlation ON events (correlation_id) WHERE correlation_id IS NOT NULL;
	CREATE TABLE IF NOT EXISTS aggregate_heads (
		bounded_context TEXT NOT NULL,
		aggregate_type TEXT NOT NULL,
		aggregate_id TEXT NOT NULL,
		aggregate_version BIGINT NOT NULL,
		updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
		PRIMARY KEY (bounded_context, aggregate_type, aggregate_id)
	);
	CREATE INDEX IF NOT EXISTS idx_aggregate_heads_updated ON aggregate_heads (updated_at);
	CREATE TABLE IF NOT EXISTS projection_checkpoints (
		projection_name TEXT PRIMARY KEY,
		last_global_position BIGINT NOT NULL DEFAULT 0,
		updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW()
	);
	CREATE INDEX IF NOT EXISTS idx_projection_checkpoints_updated ON projection_checkpoints (updated_at);`

// describeTables lists the columns and indexes of the store's tables.
func describeTables(t *testing.T, pool *pgxpool.Pool) (columns, indexes []string) {
	t.Helper()
	list := func(sql string) []string {
		rows, err := pool.Query(t.Context(), sql)
		require.NoError(t, err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return lines
	}
	columns = list(`
		SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
		FROM information_schema.columns
		WHERE table_schema = 'public' AND table_name IN ('events', 'aggregate_heads', 'projection_checkpoints')
		ORDER BY table_name, ordinal_position`)
	indexes = list(`
		SELECT regexp_replace(indexdef, 'INDEX \S+ ON', 'INDEX ON')
		FROM pg_indexes
		WHERE schemaname = 'public' AND tablename IN ('events', 'aggregate_heads', 'projection_checkpoints')
		ORDER BY 1`)
	return columns, indexes
}

func TestTheTablesAreThoseOfPupsourcingsGenerator(t *testing.T) {
	t.Parallel()
	_, ours := newStore(t)
	theirs := pgtest.NewDatabase(t)
	_, err := theirs.Exec(t.Context(), generated)
	require.NoError(t, err)

	ourColumns, ourIndexes := describeTables(t, ours)
	theirColumns, theirIndexes := describeTables(t, theirs)

	assert.Equal(t, theirColumns, ourColumns)
	assert.Subset(t, theirIndexes, ourIndexes)
	leftOut := []string{
		"CREATE INDEX ON public.aggregate_heads USING btree (updated_at)",
		"CREATE INDEX ON public.events USING btree (bounded_context, aggregate_type, aggregate_id, aggregate_version)",
		"CREATE INDEX ON public.projection_checkpoints USING btree (updated_at)",
	}
	assert.ElementsMatch(t, theirIndexes, append(leftOut, ourIndexes...))
}

func TestGeneratedTablesAreAdoptedUnchanged(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	_, err := pool.Exec(t.Context(), generated)
	require.NoError(t, err)
	columns, indexes := describeTables(t, pool)

	s := New(WithLogger(nil))
	first := mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...) // without any migration
	require.NoError(t, RunMigrations(pool, WithLogger(nil)))
	second := mustAppend(t, s, pool, es.Exact(2), eventsOf("order-1", 2)...)

	columnsAfter, indexesAfter := describeTables(t, pool)
	assert.Equal(t, columns, columnsAfter)
	assert.Equal(t, indexes, indexesAfter)
	all, err := s.ReadEvents(t.Context(), pool, 0, 10)
	require.NoError(t, err)
	assert.Equal(t, append(first.Events, second.Events...), all)
}

func TestMigrationsCanBeRunByManyAtOnceAndAgain(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { assert.NoError(t, RunMigrations(pool, WithSchema("app"), WithLogger(nil))) })
	}
	wg.Wait()
	require.NoError(t, RunMigrations(pool, WithSchema("app"), WithLogger(nil)))
	mustAppend(t, New(WithSchema("app"), WithLogger(nil)), pool, es.NoStream(), event("order-1"))
}

func TestSchemaAndTableNamesAreUsedAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	opts := []Option{
		WithSchema("Mixed-Case"), WithEventsTable("Événements"), WithAggregateHeadsTable("select"),
		WithCheckpointsTable("Check-Points"), WithLogger(nil),
	}
	s, pool := newStore(t, opts...)
	assert.Equal(t, pgx.Identifier{"Mixed-Case", "Événements"}, s.EventsTable())
	assert.Equal(t, pgx.Identifier{"Mixed-Case", "select"}, s.AggregateHeadsTable())
	assert.Equal(t, pgx.Identifier{"Mixed-Case", "Check-Points"}, s.CheckpointsTable())

	result := mustAppend(t, s, pool, es.NoStream(), eventsOf("order-1", 2)...)
	all, err := s.ReadEvents(t.Context(), pool, 0, 10)
	require.NoError(t, err)
	assert.Equal(t, result.Events, all)

	var outside int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").Scan(&outside))
	assert.Zero(t, outside, "nothing may be made outside the schema")
}

func TestSeveralStoresCanShareASchema(t *testing.T) {
	t.Parallel()
	_, pool := newStore(t)
	other := []Option{WithEventsTable("audit"), WithAggregateHeadsTable("audit_heads"), WithCheckpointsTable("audit_checkpoints"), WithLogger(nil)}
	require.NoError(t, RunMigrations(pool, other...))
	s := New(other...)
	mustAppend(t, s, pool, es.NoStream(), event("order-1"))
	position, err := New().LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	assert.Zero(t, position)
}

func TestATableThatIsMissingAfterTheMigrationsIsNamed(t *testing.T) {
	t.Parallel()
	_, pool := newStore(t)
	err := RunMigrations(pool, WithAggregateHeadsTable("other_heads"), WithLogger(nil))
	require.ErrorContains(t, err, `"public"."other_heads": the table is missing: other names were configured when the tables were made, or it was dropped`)
	require.ErrorContains(t, err, "eventstore_schema_version")
}

func TestMigrationsAreLogged(t *testing.T) {
	t.Parallel()
	book := logbook.New(slog.LevelInfo, deadline)
	require.NoError(t, RunMigrations(pgtest.NewDatabase(t), WithLogger(book.Logger())))
	book.AwaitLine(t, "file=000001_events.up.sql", "component=eventstore")
}

func TestABadOptionIsReturnedByEveryOperation(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		opt  Option
		want string
	}{
		{"a schema with a dot", WithSchema("a.b"), "Schema must consist of letters, digits, underscores and hyphens"},
		{"no events table", WithEventsTable(""), "EventsTable must not be empty"},
		{"a long name", WithAggregateHeadsTable(string(bytes.Repeat([]byte("x"), 64))), "AggregateHeadsTable must be at most 63 bytes long, got 64"},
		{"a quote", WithCheckpointsTable(`a"b`), "CheckpointsTable must consist of"},
		{"a name twice", WithCheckpointsTable("events"), "must differ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := New(tt.opt)
			require.ErrorContains(t, s.Validate(), tt.want)
			_, err := s.Append(t.Context(), nil, es.Any(), eventsOf("order-1", 1))
			require.ErrorContains(t, err, tt.want)
			_, err = s.ReadEvents(t.Context(), nil, 0, 1)
			require.ErrorContains(t, err, tt.want)
			_, err = s.ReadAggregateStream(t.Context(), nil, "a", "b", "c", nil, nil)
			require.ErrorContains(t, err, tt.want)
			_, err = s.LatestPosition(t.Context(), nil)
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, RunMigrations(nil, tt.opt), tt.want)
		})
	}
	require.NoError(t, New().Validate())
}
