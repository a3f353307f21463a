package eventstore

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func hasSlotIndex(t *testing.T, s *Store, pool *pgxpool.Pool) bool {
	t.Helper()
	has, err := s.HasSlotIndex(t.Context(), pool)
	require.NoError(t, err)
	return has
}

func TestSlotIndexIsInstalledAndRemoved(t *testing.T) {
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
			assert.False(t, hasSlotIndex(t, s, pool))
			require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
			for range 2 {
				require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
				assert.True(t, hasSlotIndex(t, s, pool))
				assert.Equal(t, before+2, indexes(t, pool, events))
			}
			for range 2 {
				require.NoError(t, s.RemoveSlotIndex(t.Context(), pool))
				assert.False(t, hasSlotIndex(t, s, pool))
				assert.Equal(t, before+1, indexes(t, pool, events))
			}
			assert.True(t, hasScopeIndex(t, s, pool), "the other index stays")
		})
	}
}

func TestSlotIndexIsRecognisedByWhatItServes(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	const slots = "(hashtextextended(aggregate_id, 0) & 65535)"
	for definition, serves := range map[string]bool{
		"INDEX other ON events ((" + slot.KeySQL + "))":                                             true,
		"UNIQUE INDEX other ON events ((" + slot.KeySQL + "), global_position)":                     true,
		"INDEX other ON events (((global_position >> 10) << 16 | " + slots + "))":                   true,
		"INDEX other ON events (global_position, (" + slot.KeySQL + "))":                            false,
		"INDEX other ON events ((" + slot.KeySQL + ") DESC)":                                        false,
		"INDEX other ON events ((" + slot.KeySQL + ") NULLS FIRST)":                                 false,
		"INDEX other ON events ((" + slot.KeySQL + ")) WHERE event_type <> ''":                      false,
		"INDEX other ON events USING brin ((" + slot.KeySQL + "))":                                  false,
		"INDEX other ON events (((global_position >> 12) << 16 | " + slots + "))":                   false,
		"INDEX other ON events (((global_position >> 10) << 16 | (aggregate_version & 65535)))":     false,
		"INDEX other ON events (((global_position >> 10) << 16 | " + slots + ")) INCLUDE (payload)": true,
		"INDEX other ON events (global_position)":                                                   false,
	} {
		exec(t, pool, "CREATE "+definition)
		assert.Equal(t, serves, hasSlotIndex(t, s, pool), definition)
		if serves {
			before := indexes(t, pool, "events")
			require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
			assert.Equal(t, before, indexes(t, pool, "events"), "it serves as it is")
			require.NoError(t, s.RemoveSlotIndex(t.Context(), pool))
			assert.True(t, hasSlotIndex(t, s, pool), "it is not InstallSlotIndex's")
		}
		exec(t, pool, "DROP INDEX other")
	}
	refused := func(why string) {
		t.Helper()
		require.EqualError(t, s.InstallSlotIndex(t.Context(), pool), `installing the slot index on "public"."events": `+why)
	}
	exec(t, pool, `ALTER TABLE events RENAME COLUMN aggregate_id TO id`)
	refused("the table must have the columns global_position and aggregate_id")
	exec(t, pool, `ALTER TABLE events RENAME COLUMN id TO aggregate_id; ALTER TABLE events RENAME TO old;
		CREATE TABLE events (LIKE old) PARTITION BY RANGE (global_position)`)
	require.ErrorContains(t, s.InstallSlotIndex(t.Context(), pool), "the table is partitioned")
	exec(t, pool, "CREATE INDEX other ON events (("+slot.KeySQL+"))")
	assert.True(t, hasSlotIndex(t, s, pool))
	exec(t, pool, `DROP TABLE events`)
	_, err := s.HasSlotIndex(t.Context(), pool)
	require.ErrorContains(t, err, "does not exist", "a table that cannot be looked at is not one without an index")
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
	assert.True(t, hasSlotIndex(t, s, pool))
	for range 2 {
		wg.Go(func() { assert.NoError(t, s.RemoveSlotIndex(ctx, pool)) })
		wg.Go(func() { assert.NoError(t, s.RemoveScopeIndex(ctx, pool)) })
	}
	wg.Wait()
	assert.Equal(t, before, indexes(t, pool, "events"))
}
