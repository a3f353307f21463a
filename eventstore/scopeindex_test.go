package eventstore

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func hasScopeIndex(t *testing.T, s *Store, pool *pgxpool.Pool) bool {
	t.Helper()
	has, err := s.HasScopeIndex(t.Context(), pool)
	require.NoError(t, err)
	return has
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// indexes is how many indexes the events table has.
func indexes(t *testing.T, pool *pgxpool.Pool, events string) (n int) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_index WHERE indrelid = to_regclass($1)`, events).Scan(&n))
	return n
}

func TestScopeIndexIsInstalledAndRemoved(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]Option{
		"the defaults": nil, "other names": {WithSchema("of-sales"), WithEventsTable(`the-events-2`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.NewDatabase(t)
			exec(t, pool, `CREATE SCHEMA "of-sales"`)
			opts = append(opts, WithLogger(nil))
			require.NoError(t, RunMigrations(pool, opts...))
			s := New(opts...)
			events := s.EventsTable().Sanitize()
			before := indexes(t, pool, events)
			assert.False(t, hasScopeIndex(t, s, pool))
			for range 2 {
				require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
				assert.True(t, hasScopeIndex(t, s, pool))
				assert.Equal(t, before+1, indexes(t, pool, events))
			}
			for range 2 {
				require.NoError(t, s.RemoveScopeIndex(t.Context(), pool))
				assert.False(t, hasScopeIndex(t, s, pool))
				assert.Equal(t, before, indexes(t, pool, events))
			}
		})
	}
}

func TestScopeIndexIsRecognisedByWhatItServes(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	for definition, serves := range map[string]bool{
		"INDEX other ON events (aggregate_type, global_position)":                                    true,
		"UNIQUE INDEX other ON events (aggregate_type, global_position)":                             true,
		"INDEX other ON events (aggregate_type, global_position, event_type) INCLUDE (aggregate_id)": true,
		"INDEX other ON events (aggregate_type) INCLUDE (global_position)":                           false,
		"INDEX other ON events (global_position, aggregate_type)":                                    false,
		"INDEX other ON events (event_type, aggregate_type, global_position)":                        false,
		"INDEX other ON events (aggregate_type DESC, global_position)":                               false,
		"INDEX other ON events (aggregate_type, global_position DESC)":                               false,
		"INDEX other ON events (aggregate_type NULLS FIRST, global_position)":                        false,
		`INDEX other ON events (aggregate_type COLLATE "POSIX", global_position)`:                    false,
		"INDEX other ON events (aggregate_type text_pattern_ops, global_position)":                   false,
		"INDEX other ON events (lower(aggregate_type), global_position)":                             false,
		"INDEX other ON events (aggregate_type, global_position, lower(event_type))":                 false,
		"INDEX other ON events (aggregate_type, global_position) WHERE event_type <> ''":             false,
		"INDEX other ON events USING brin (aggregate_type, global_position)":                         false,
		"INDEX other ON aggregate_heads (aggregate_type, aggregate_version)":                         false,
	} {
		exec(t, pool, "CREATE "+definition)
		assert.Equal(t, serves, hasScopeIndex(t, s, pool), definition)
		if serves {
			before := indexes(t, pool, "events")
			require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
			assert.Equal(t, before, indexes(t, pool, "events"), "it serves as it is")
			require.NoError(t, s.RemoveScopeIndex(t.Context(), pool))
			assert.True(t, hasScopeIndex(t, s, pool), "it is not InstallScopeIndex's")
		}
		exec(t, pool, "DROP INDEX other")
	}
}

func TestScopeIndexNeedsADeterministicCollation(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	exec(t, pool, `CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	exec(t, pool, `ALTER TABLE events ALTER COLUMN aggregate_type TYPE text COLLATE careless`)
	exec(t, pool, `CREATE INDEX other ON events (aggregate_type, global_position)`)
	assert.False(t, hasScopeIndex(t, s, pool), "types that are equal would be read twice")
	refused := func(why string) {
		t.Helper()
		require.EqualError(t, s.InstallScopeIndex(t.Context(), pool), `installing the scope index on "public"."events": `+why)
	}
	refused("the collation of aggregate_type must be deterministic")
	exec(t, pool, `ALTER TABLE events RENAME COLUMN aggregate_type TO type`)
	refused("the table must have the columns aggregate_type and global_position")
	exec(t, pool, `DROP TABLE events`)
	_, err := s.HasScopeIndex(t.Context(), pool)
	require.ErrorContains(t, err, "does not exist", "a table that cannot be looked at is not one without an index")
	require.ErrorContains(t, s.InstallScopeIndex(t.Context(), pool), "does not exist")
}

func TestWhatAnInterruptedBuildLeftBehindIsBuiltAgain(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.Any(), eventsOf("a", 2)...)
	_, err := pool.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY "+s.indexName(scopeIndex)+" ON events (aggregate_type)")
	require.ErrorContains(t, err, "could not create unique index")
	before := indexes(t, pool, "events")
	assert.False(t, hasScopeIndex(t, s, pool))
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	assert.True(t, hasScopeIndex(t, s, pool))
	assert.Equal(t, before, indexes(t, pool, "events"))
}

func TestScopeIndexOfAPartitionedTableIsLeftToItsOwner(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	exec(t, pool, `ALTER TABLE events RENAME TO old; CREATE TABLE events (LIKE old) PARTITION BY RANGE (global_position);
		CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (1000)`)
	require.ErrorContains(t, s.InstallScopeIndex(t.Context(), pool), "the table is partitioned")
	exec(t, pool, "CREATE INDEX other ON events (aggregate_type, global_position)")
	assert.True(t, hasScopeIndex(t, s, pool))
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	require.NoError(t, s.RemoveScopeIndex(t.Context(), pool))
	for range 2 {
		require.NoError(t, s.InstallWakeUp(t.Context(), pool))
		assert.True(t, hasWakeUp(t, s, pool))
	}
	require.NoError(t, s.RemoveWakeUp(t.Context(), pool))
	assert.False(t, hasWakeUp(t, s, pool))
}

func TestScopeIndexIsRefusedWithinATransaction(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	const reason = "db must not be in a transaction"
	tx := begin(t, pool, pgx.TxOptions{})
	require.ErrorContains(t, s.InstallScopeIndex(t.Context(), tx), reason)
	require.ErrorContains(t, s.RemoveScopeIndex(t.Context(), tx), reason)
	require.NoError(t, tx.Commit(t.Context()), "it was not spoilt")

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	require.ErrorContains(t, s.InstallScopeIndex(t.Context(), conn), reason)
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	assert.False(t, hasScopeIndex(t, s, pool))
}

func TestScopeIndexThatIsBeingBuiltIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	open := begin(t, pool, pgx.TxOptions{})
	_, err := s.Append(t.Context(), open, es.Any(), eventsOf("a", 1))
	require.NoError(t, err)
	built := background(func() error { return s.InstallScopeIndex(t.Context(), pool) })
	awaitBuild(t, pool)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	removed := background(func() error { return s.RemoveScopeIndex(ctx, pool) })
	require.ErrorIs(t, s.InstallScopeIndex(ctx, pool), context.DeadlineExceeded)
	require.ErrorIs(t, await(t, removed), context.DeadlineExceeded)
	assert.False(t, hasScopeIndex(t, s, pool))
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, built))
	assert.True(t, hasScopeIndex(t, s, pool))
}
