package eventstore

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// optionalIndex is an index that an application may install on the events table.
type optionalIndex struct {
	name            string // in errors
	install, remove func(*Store, context.Context, Execer) error
	has             func(*Store, context.Context, DB) (bool, error)
	needs, renamed  string // columns, in errors, and one of them
	expression      string // what it is on
	definitions     map[string]bool
}

const slotOfEvent = "(hashtextextended(aggregate_id, 0) & 65535)"

// byScope and bySlot are the optional indexes. Each has definitions of an index other, and whether reads can use it instead.
var (
	byScope = optionalIndex{
		name: "scope", install: (*Store).InstallScopeIndex, remove: (*Store).RemoveScopeIndex, has: (*Store).HasScopeIndex,
		needs: "aggregate_type and global_position", renamed: "aggregate_type", expression: "aggregate_type, global_position",
		definitions: map[string]bool{
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
		},
	}
	bySlot = optionalIndex{
		name: "slot", install: (*Store).InstallSlotIndex, remove: (*Store).RemoveSlotIndex, has: (*Store).HasSlotIndex,
		needs: "global_position and aggregate_id", renamed: "aggregate_id", expression: "(" + slot.KeySQL + ")",
		definitions: map[string]bool{
			"INDEX other ON events ((" + slot.KeySQL + "))":                                                   true,
			"UNIQUE INDEX other ON events ((" + slot.KeySQL + "), global_position)":                           true,
			"INDEX other ON events (((global_position >> 10) << 16 | " + slotOfEvent + "))":                   true,
			"INDEX other ON events (global_position, (" + slot.KeySQL + "))":                                  false,
			"INDEX other ON events ((" + slot.KeySQL + ") DESC)":                                              false,
			"INDEX other ON events ((" + slot.KeySQL + ") NULLS FIRST)":                                       false,
			"INDEX other ON events ((" + slot.KeySQL + ")) WHERE event_type <> ''":                            false,
			"INDEX other ON events USING brin ((" + slot.KeySQL + "))":                                        false,
			"INDEX other ON events (((global_position >> 12) << 16 | " + slotOfEvent + "))":                   false,
			"INDEX other ON events (((global_position >> 10) << 16 | (aggregate_version & 65535)))":           false,
			"INDEX other ON events (((global_position >> 10) << 16 | " + slotOfEvent + ")) INCLUDE (payload)": true,
			"INDEX other ON events (global_position)":                                                         false,
		},
	}
)

// isThere says whether the events table has the index.
func (i optionalIndex) isThere(t *testing.T, s *Store, pool *pgxpool.Pool) bool {
	t.Helper()
	has, err := i.has(s, t.Context(), pool)
	require.NoError(t, err)
	return has
}

// eachIndex runs a test of each optional index, which gets the other one too.
func eachIndex(t *testing.T, test func(t *testing.T, index, other optionalIndex)) {
	t.Helper()
	t.Parallel()
	for _, indexes := range [][2]optionalIndex{{byScope, bySlot}, {bySlot, byScope}} {
		t.Run(indexes[0].name, func(t *testing.T) {
			t.Parallel()
			test(t, indexes[0], indexes[1])
		})
	}
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

func TestOptionalIndexesAreInstalledAndRemoved(t *testing.T) {
	eachIndex(t, func(t *testing.T, index, other optionalIndex) {
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
				require.NoError(t, other.install(s, t.Context(), pool))
				before := indexes(t, pool, events)
				assert.False(t, index.isThere(t, s, pool))
				for range 2 {
					require.NoError(t, index.install(s, t.Context(), pool))
					assert.True(t, index.isThere(t, s, pool))
					assert.Equal(t, before+1, indexes(t, pool, events))
				}
				for range 2 {
					require.NoError(t, index.remove(s, t.Context(), pool))
					assert.False(t, index.isThere(t, s, pool))
					assert.Equal(t, before, indexes(t, pool, events))
				}
				assert.True(t, other.isThere(t, s, pool), "the other index stays")
			})
		}
	})
}

func TestOptionalIndexesAreRecognisedByWhatTheyServe(t *testing.T) {
	eachIndex(t, func(t *testing.T, index, _ optionalIndex) {
		s, pool := newStore(t)
		for definition, serves := range index.definitions {
			exec(t, pool, "CREATE "+definition)
			assert.Equal(t, serves, index.isThere(t, s, pool), definition)
			if serves {
				before := indexes(t, pool, "events")
				require.NoError(t, index.install(s, t.Context(), pool))
				assert.Equal(t, before, indexes(t, pool, "events"), "it serves as it is")
				require.NoError(t, index.remove(s, t.Context(), pool))
				assert.True(t, index.isThere(t, s, pool), "it was not installed by the library")
			}
			exec(t, pool, "DROP INDEX other")
		}
	})
}

func TestOptionalIndexesOfOtherTables(t *testing.T) {
	eachIndex(t, func(t *testing.T, index, _ optionalIndex) {
		s, pool := newResolved(t)
		exec(t, pool, `ALTER TABLE events RENAME COLUMN `+index.renamed+` TO other`)
		require.EqualError(t, index.install(s, t.Context(), pool),
			`installing the `+index.name+` index on "public"."events": the table must have the columns `+index.needs)
		exec(t, pool, `ALTER TABLE events RENAME COLUMN other TO `+index.renamed)

		exec(t, pool, `ALTER TABLE events RENAME TO old; CREATE TABLE events (LIKE old) PARTITION BY RANGE (global_position);
			CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (1000)`)
		require.ErrorContains(t, index.install(s, t.Context(), pool), "the table is partitioned")
		exec(t, pool, "CREATE INDEX other ON events ("+index.expression+")")
		assert.True(t, index.isThere(t, s, pool))
		require.NoError(t, index.install(s, t.Context(), pool))
		require.NoError(t, index.remove(s, t.Context(), pool), "it is left to its owner")
		for range 2 {
			require.NoError(t, s.InstallWakeUp(t.Context(), pool))
			assert.True(t, hasWakeUp(t, s, pool))
		}
		require.NoError(t, s.RemoveWakeUp(t.Context(), pool))
		assert.False(t, hasWakeUp(t, s, pool))

		exec(t, pool, `DROP TABLE events`)
		_, err := index.has(s, t.Context(), pool)
		require.ErrorContains(t, err, "does not exist", "a table that cannot be looked at is not one without an index")
		require.ErrorContains(t, index.install(s, t.Context(), pool), "does not exist")
	})
}

// Otherwise each install would build the index again, and no read would use it.
func TestOptionalIndexesServeColumnsOfTheTypeVarchar(t *testing.T) {
	eachIndex(t, func(t *testing.T, index, _ optionalIndex) {
		s, pool := newResolved(t)
		exec(t, pool, `ALTER TABLE events ALTER COLUMN aggregate_type TYPE varchar(100), ALTER COLUMN aggregate_id TYPE varchar(100)`)
		require.NoError(t, index.install(s, t.Context(), pool))
		assert.True(t, index.isThere(t, s, pool))
		built := indexes(t, pool, "events")
		require.NoError(t, index.install(s, t.Context(), pool))
		assert.Equal(t, built, indexes(t, pool, "events"))

		exec(t, pool, `ALTER DATABASE `+pool.Config().ConnConfig.Database+` SET quote_all_identifiers = on`)
		pool.Reset()
		assert.True(t, index.isThere(t, s, pool))
	})
}

// refusedType is why a table can have no scope index.
const refusedType = "aggregate_type must be of the type text or varchar, and its collation deterministic"

func TestScopeIndexNeedsADeterministicCollation(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	exec(t, pool, `CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	exec(t, pool, `ALTER TABLE events ALTER COLUMN aggregate_type TYPE text COLLATE careless`)
	exec(t, pool, `CREATE INDEX other ON events (aggregate_type, global_position)`)
	assert.False(t, byScope.isThere(t, s, pool), "types that are equal would be read twice")
	require.EqualError(t, s.InstallScopeIndex(t.Context(), pool), `installing the scope index on "public"."events": `+refusedType)
}

// Such an index would be walked from its beginning for each page.
func TestScopeIndexNeedsTexts(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	exec(t, pool, `ALTER TABLE events ALTER COLUMN aggregate_type TYPE char(20)`)
	exec(t, pool, `CREATE INDEX other ON events (aggregate_type, global_position)`)
	assert.False(t, byScope.isThere(t, s, pool))
	require.EqualError(t, s.InstallScopeIndex(t.Context(), pool), `installing the scope index on "public"."events": `+refusedType)
	exec(t, pool, `CREATE DOMAIN kind AS varchar(20); ALTER TABLE events ALTER COLUMN aggregate_type TYPE kind`)
	assert.True(t, byScope.isThere(t, s, pool))
}

func TestWhatAnInterruptedBuildLeftBehindIsBuiltAgain(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.Any(), eventsOf("a", 2)...)
	_, err := pool.Exec(t.Context(), "CREATE UNIQUE INDEX CONCURRENTLY "+s.indexName(scopeIndex)+" ON events (aggregate_type)")
	require.ErrorContains(t, err, "could not create unique index")
	before := indexes(t, pool, "events")
	assert.False(t, byScope.isThere(t, s, pool))
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	assert.True(t, byScope.isThere(t, s, pool))
	assert.Equal(t, before, indexes(t, pool, "events"))
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
	assert.False(t, byScope.isThere(t, s, pool))
}

func TestScopeIndexThatIsBeingBuiltIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	open := appending(t, s, pool)
	built := background(func() error { return s.InstallScopeIndex(t.Context(), pool) })
	awaitBuild(t, pool)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	removed := background(func() error { return s.RemoveScopeIndex(ctx, pool) })
	require.ErrorIs(t, s.InstallScopeIndex(ctx, pool), context.DeadlineExceeded)
	require.ErrorIs(t, await(t, removed), context.DeadlineExceeded)
	assert.False(t, byScope.isThere(t, s, pool))
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, built))
	assert.True(t, byScope.isThere(t, s, pool))
}

// Both indexes are built one after the other: of two builds at once, one would end in a deadlock.
func TestManyInstallBothIndexesAtOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.Any(), eventsOf("a", 100)...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	before := indexes(t, pool, "events")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { assert.NoError(t, s.InstallSlotIndex(ctx, pool)) })
		wg.Go(func() { assert.NoError(t, s.InstallScopeIndex(ctx, pool)) })
	}
	wg.Go(func() {
		for range 10 {
			_, err := tryAppend(t.Context(), s, pool, es.Any(), event("a"))
			assert.NoError(t, err)
		}
	})
	wg.Wait()
	assert.Equal(t, before+2, indexes(t, pool, "events"))
	assert.True(t, bySlot.isThere(t, s, pool))
	for range 2 {
		wg.Go(func() { assert.NoError(t, s.RemoveSlotIndex(ctx, pool)) })
		wg.Go(func() { assert.NoError(t, s.RemoveScopeIndex(ctx, pool)) })
	}
	wg.Wait()
	assert.Equal(t, before, indexes(t, pool, "events"))
}
