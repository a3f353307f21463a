package eventstore

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// misleading makes a connection find other tables than the application's.
const misleading = `
	CREATE SCHEMA IF NOT EXISTS other;
	CREATE TABLE IF NOT EXISTS other.events (LIKE public.events INCLUDING ALL);
	CREATE TABLE IF NOT EXISTS other.projection_checkpoints (LIKE public.projection_checkpoints INCLUDING ALL);
	CREATE TEMP TABLE events (LIKE public.events INCLUDING ALL);
	CREATE TEMP TABLE aggregate_heads (LIKE public.aggregate_heads INCLUDING ALL);
	SET search_path = other`

func TestAResolvedStoreIsNotMisled(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it changes sessions")
	s, pool := newResolved(t)
	assert.Equal(t, []pgx.Identifier{{"public", "events"}, {"public", "aggregate_heads"}, {"public", "projection_checkpoints"}},
		[]pgx.Identifier{s.EventsTable(), s.AggregateHeadsTable(), s.CheckpointsTable()})
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	mustAppend(t, s, pool, es.NoStream(), eventsOf("a", 3)...)
	again := resolved(t, s, pool)
	assert.Same(t, s, again)

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), misleading)
	require.NoError(t, err)
	events, err := s.ReadEvents(t.Context(), conn, 0, 10)
	require.NoError(t, err)
	assert.Len(t, events, 3)
	for _, has := range []func(context.Context, DB) (bool, error){s.HasWakeUp, s.HasScopeIndex, s.HasSlotIndex} {
		found, err := has(t.Context(), conn)
		require.NoError(t, err)
		assert.True(t, found)
	}
	stream, err := s.ReadAggregateStream(t.Context(), conn, "sales", "Order", "a", nil, nil)
	require.NoError(t, err)
	assert.Len(t, stream.Events, 3)
}

// All stores that mean one table agree on the channel and the lock, however they name it.
func TestStoresOfOneTableAgree(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	named := New(WithLogger(nil), WithSchema("public"))
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	has, err := named.HasWakeUp(t.Context(), pool)
	require.NoError(t, err)
	assert.True(t, has)
	found := resolved(t, s, pool)
	assert.Equal(t, wakeup.Channel(named.EventsTable()), wakeup.Channel(found.EventsTable()))
	assert.Equal(t, wakeup.Key(named.EventsTable()), wakeup.Key(found.EventsTable()))
	assert.Same(t, named, resolved(t, named, pool))
	require.NoError(t, named.RemoveWakeUp(t.Context(), pool))
	has, err = s.HasWakeUp(t.Context(), pool)
	require.NoError(t, err)
	assert.False(t, has)
}

// What a connection's last user did to it does not decide, but what the pool does when it connects does.
func TestResolveAsksANewConnection(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it changes sessions")
	s, pool := newStore(t)
	_, err := pool.Exec(t.Context(), misleading)
	require.NoError(t, err)
	require.Equal(t, int32(1), pool.Stat().TotalConns(), "the next user gets the connection")
	assert.Equal(t, pgx.Identifier{"public", "events"}, resolved(t, s, pool).EventsTable())

	set := func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "SET search_path = other")
		return err
	}
	for name, hook := range map[string]func(*pgxpool.Config){
		"AfterConnect": func(c *pgxpool.Config) { c.AfterConnect = set },
		"PrepareConn": func(c *pgxpool.Config) {
			c.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) { return true, set(ctx, conn) }
		},
		"BeforeAcquire": func(c *pgxpool.Config) {
			c.BeforeAcquire = func(ctx context.Context, conn *pgx.Conn) bool { return set(ctx, conn) == nil } //nolint:staticcheck // pools still have it
		},
	} {
		config := pool.Config()
		hook(config)
		prepared, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer prepared.Close()
		found := resolved(t, s, prepared)
		assert.Equal(t, pgx.Identifier{"other", "events"}, found.EventsTable(), name)
		assert.Equal(t, pgx.Identifier{"other", "aggregate_heads"}, found.AggregateHeadsTable(), "where the events are, if it is nowhere")
	}
}

func TestATableThatIsNotThereIsAnError(t *testing.T) {
	t.Parallel()
	pool := pgtest.NewDatabase(t)
	for _, s := range []*Store{New(WithLogger(nil)), New(WithLogger(nil), WithSchema("public"))} {
		for _, attempt := range []func() error{
			func() error { _, err := s.HasWakeUp(t.Context(), pool); return err },
			func() error { _, err := s.HasScopeIndex(t.Context(), pool); return err },
			func() error { return s.InstallWakeUp(t.Context(), pool) },
			func() error { return s.InstallScopeIndex(t.Context(), pool) },
			func() error { return s.InstallSlotIndex(t.Context(), pool) },
		} {
			require.ErrorContains(t, attempt(), "does not exist")
		}
	}
	_, err := New(WithLogger(nil)).Resolve(t.Context(), pool)
	require.ErrorContains(t, err, `the events table "events" does not exist, or is in a schema outside the search_path`)
}
