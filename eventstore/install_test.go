package eventstore

import (
	"context"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func hasWakeUp(t *testing.T, s *Store, pool *pgxpool.Pool) bool {
	t.Helper()
	has, err := s.HasWakeUp(t.Context(), pool)
	require.NoError(t, err)
	return has
}

// awaitLock returns when a session waits for a lock of this mode on the events table.
func awaitLock(t *testing.T, pool *pgxpool.Pool, mode string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var waits bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'events'::regclass AND mode = $1)`, mode).Scan(&waits)
		return err == nil && waits
	}, deadline, 2*time.Millisecond, "nobody waits for the lock %s", mode)
}

// background runs do and returns where its error comes.
func background(do func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	return done
}

func await(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(3 * deadline):
		t.Fatal("it never returned")
		return nil
	}
}

func TestAnOpenAppendLetsNoInstallStallOthers(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	open := appending(t, s, pool)
	installed := background(func() error { return s.InstallWakeUp(t.Context(), pool) })
	var longest time.Duration
	for range 3 {
		awaitLock(t, pool, "ShareRowExclusiveLock")
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := tryAppend(ctx, s, pool, es.Any(), event("other"))
		cancel()
		require.NoError(t, err, "it waits behind the install")
		longest = max(longest, time.Since(began))
	}
	t.Logf("the longest stall of an append took %v", longest)
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, installed))
	assert.True(t, hasWakeUp(t, s, pool))
}

func TestAReaderLetsNoRemovalStallOthers(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	open := begin(t, pool, pgx.TxOptions{})
	_, err := s.ReadEvents(t.Context(), open, 0, 10)
	require.NoError(t, err)
	removed := background(func() error { return s.RemoveWakeUp(t.Context(), pool) })
	for range 2 {
		awaitLock(t, pool, "AccessExclusiveLock")
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		_, err := tryAppend(ctx, s, pool, es.Any(), event("other"))
		require.NoError(t, err, "it waits behind the removal")
		_, err = s.ReadEvents(ctx, pool, 0, 10)
		require.NoError(t, err, "it waits behind the removal")
		cancel()
	}
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, removed))
	assert.False(t, hasWakeUp(t, s, pool))
}

func TestAnInstallGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	appending(t, s, pool)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	installed := background(func() error { return s.InstallWakeUp(ctx, pool) })
	for range 2 {
		awaitLock(t, pool, "ShareRowExclusiveLock")
	}
	cancel()
	require.ErrorIs(t, await(t, installed), context.Canceled)
	assert.False(t, hasWakeUp(t, s, pool))
}

func TestManyInstallTheTriggerAtOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	for range 3 {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() { assert.NoError(t, s.InstallWakeUp(t.Context(), pool)) })
		}
		wg.Go(func() {
			for range 10 {
				_, err := tryAppend(t.Context(), s, pool, es.Any(), event("a"))
				assert.NoError(t, err)
			}
		})
		wg.Wait()
		assert.True(t, hasWakeUp(t, s, pool))
		for range 4 {
			wg.Go(func() { assert.NoError(t, s.RemoveWakeUp(t.Context(), pool)) })
		}
		wg.Wait()
		assert.False(t, hasWakeUp(t, s, pool))
	}
}

// An earlier version of the library, or a person, may have been at it.
func TestWhateverIsWrongWithTheTriggerIsPutRight(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	for name, change := range map[string]string{
		"disabled":                "ALTER TABLE events DISABLE TRIGGER pupsourcing_wake_up",
		"for replicas":            "ALTER TABLE events ENABLE REPLICA TRIGGER pupsourcing_wake_up",
		"dropped":                 "DROP TRIGGER pupsourcing_wake_up ON events",
		"dropped with its action": "DROP FUNCTION pupsourcing_wake_up CASCADE",
		"another function":        "CREATE OR REPLACE FUNCTION pupsourcing_wake_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"of a form without a key": "DROP FUNCTION pupsourcing_wake_up CASCADE; " + strings.Replace(earlierTrigger, "%s", "channel", 1),
	} {
		require.NoError(t, s.InstallWakeUp(t.Context(), pool))
		require.True(t, hasWakeUp(t, s, pool))
		exec(t, pool, change)
		assert.False(t, hasWakeUp(t, s, pool), name)
		require.NoError(t, s.InstallWakeUp(t.Context(), pool), name)
		assert.True(t, hasWakeUp(t, s, pool), name)
	}
}

func TestTheTriggerIsInstalledWithinATransactionOrOnAConnection(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it looks at settings of a session")
	s, pool := newStore(t)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for name, db := range map[string]Execer{"pool": pool, "pooled connection": conn, "connection": conn.Conn()} {
		require.NoError(t, s.InstallWakeUp(t.Context(), db), name)
		assert.True(t, hasWakeUp(t, s, pool), name)
		require.NoError(t, s.RemoveWakeUp(t.Context(), db), name)
		assert.False(t, hasWakeUp(t, s, pool), name)
	}
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	settings := func() (all string) {
		require.NoError(t, tx.QueryRow(t.Context(), "SELECT concat_ws(',', current_setting('lock_timeout'), current_setting('statement_timeout'), current_setting('search_path'))").Scan(&all))
		return all
	}
	before := settings()
	require.NoError(t, s.InstallWakeUp(t.Context(), tx))
	assert.Equal(t, before, settings())
	assert.False(t, hasWakeUp(t, s, pool), "it is not committed")
	require.NoError(t, tx.Commit(t.Context()))
	assert.True(t, hasWakeUp(t, s, pool))

	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	require.ErrorIs(t, s.RemoveWakeUp(t.Context(), conn), errBegun)
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
}

// What it waits for may wait for the caller's transaction, and neither would ever end.
func TestAnInstallWithinATransactionGivesUp(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	open, ours := begin(t, pool, pgx.TxOptions{}), begin(t, pool, pgx.TxOptions{})
	for id, tx := range map[string]pgx.Tx{"open": open, "ours": ours} {
		_, err := s.Append(t.Context(), tx, es.Any(), eventsOf(id, 1))
		require.NoError(t, err)
	}
	err := await(t, background(func() error { return s.InstallWakeUp(t.Context(), ours) }))
	require.ErrorContains(t, err, "gave way to other transactions 5 times")
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, s.InstallWakeUp(t.Context(), ours))
	require.NoError(t, ours.Commit(t.Context()))
	assert.True(t, hasWakeUp(t, s, pool))
}

// newRole makes a role that may read and append, and drops it when the test ends.
func newRole(t *testing.T, pool *pgxpool.Pool, suffix string) string {
	t.Helper()
	name := suffix + "_" + pool.Config().ConnConfig.Database
	exec(t, pool, "CREATE ROLE "+name+" LOGIN; GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO "+name)
	t.Cleanup(func() {
		_, err := pool.Exec(context.Background(), "REASSIGN OWNED BY "+name+" TO "+pool.Config().ConnConfig.User+"; DROP OWNED BY "+name+"; DROP ROLE "+name)
		assert.NoError(t, err)
	})
	return name
}

// connectAs is a pool of a role with settings of its own.
func connectAs(t *testing.T, pool *pgxpool.Pool, name string, settings map[string]string) *pgxpool.Pool {
	t.Helper()
	cfg := pool.Config()
	cfg.ConnConfig.User = name
	maps.Copy(cfg.ConnConfig.RuntimeParams, settings)
	other, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(other.Close)
	return other
}

func TestInstallsWorkWhateverTheRolesSettingsAre(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it connects with settings")
	s, pool := newStore(t)
	exec(t, pool, "CREATE SCHEMA evil; CREATE FUNCTION evil.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''evil''; END'; CREATE DOMAIN evil.trigger AS text; GRANT USAGE ON SCHEMA evil TO public")
	name := newRole(t, pool, "installer")
	hostile := connectAs(t, pool, name, map[string]string{
		"default_transaction_read_only": "on", "default_transaction_isolation": "serializable", "lock_timeout": "1ms", "statement_timeout": "1s",
		"standard_conforming_strings": "off", "search_path": "public, evil, pg_catalog", "idle_in_transaction_session_timeout": "1s",
	})
	exec(t, pool, "ALTER TABLE events OWNER TO "+name+"; GRANT CREATE ON SCHEMA public TO "+name)
	open := appending(t, s, pool)
	trigger := background(func() error { return s.InstallWakeUp(t.Context(), hostile) })
	awaitLock(t, pool, "ShareRowExclusiveLock")
	index := background(func() error { return s.InstallScopeIndex(t.Context(), hostile) })
	require.Eventually(t, func() bool {
		var old bool
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND now() - query_start > interval '1200ms' AND state = 'active' AND datname = current_database())`).Scan(&old)
		return err == nil && old
	}, deadline, 5*time.Millisecond, "the build does not outlast the role's timeouts")
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, trigger))
	require.NoError(t, await(t, index))
	assert.True(t, hasWakeUp(t, s, pool))
	assert.True(t, byScope.isThere(t, s, pool))
	var timeout string
	require.NoError(t, hostile.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&timeout))
	assert.Equal(t, "1s", timeout, "the session is as it was")
	require.NoError(t, s.RemoveScopeIndex(t.Context(), hostile))
	require.NoError(t, s.InstallSlotIndex(t.Context(), hostile))
	assert.True(t, bySlot.isThere(t, s, pool))
	require.NoError(t, s.RemoveSlotIndex(t.Context(), hostile))
	require.NoError(t, s.RemoveWakeUp(t.Context(), hostile))
}

func TestMissingRightsAreNamed(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it connects as another role")
	s, pool := newStore(t)
	owner, name := newRole(t, pool, "owner"), newRole(t, pool, "installer")
	exec(t, pool, `CREATE SCHEMA "Of ""us"""; GRANT USAGE ON SCHEMA "Of ""us""" TO `+name+`; ALTER TABLE events SET SCHEMA "Of ""us"""; ALTER TABLE "Of ""us""".events OWNER TO `+owner)
	other := connectAs(t, pool, name, map[string]string{"search_path": `"Of ""us""", public`})
	refused := func(right, grant string, do func(context.Context, Execer) error) {
		t.Helper()
		err := do(t.Context(), other)
		require.Equal(t, "42501", dbfault.Code(err), err)
		require.ErrorContains(t, err, right+": "+grant)
		exec(t, pool, grant)
	}
	create, own := `GRANT CREATE ON SCHEMA "Of ""us""" TO `+name, `GRANT `+owner+` TO `+name
	refused("the role lacks CREATE on the schema", create, s.InstallWakeUp)
	refused("the role lacks TRIGGER on the table", `GRANT TRIGGER ON "Of ""us""".events TO `+name, s.InstallWakeUp)
	require.NoError(t, s.InstallWakeUp(t.Context(), other))
	refused("the role lacks ownership of the table", own, s.RemoveWakeUp)
	require.NoError(t, s.RemoveWakeUp(t.Context(), other))
	exec(t, pool, `REVOKE CREATE ON SCHEMA "Of ""us""" FROM `+name)
	require.NoError(t, s.InstallWakeUp(t.Context(), other), "the function is there")
	refused("the role lacks CREATE on the schema", create, s.InstallScopeIndex)
	exec(t, pool, "REVOKE "+owner+" FROM "+name)
	refused("the role lacks ownership of the table", own, s.InstallScopeIndex)
	require.NoError(t, s.InstallScopeIndex(t.Context(), other))
	require.NoError(t, s.RemoveScopeIndex(t.Context(), other))
	require.NoError(t, s.InstallSlotIndex(t.Context(), other))
	exec(t, pool, "REVOKE "+owner+" FROM "+name)
	refused("the role lacks ownership of the table", own, s.RemoveSlotIndex)
}

// Each append of a role that may not notify would fail.
func TestNoTriggerIsInstalledWhereRolesThatAppendCouldNotNotify(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it connects as another role")
	s, pool := newStore(t)
	name := newRole(t, pool, "appender")
	exec(t, pool, "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM public")
	err := s.InstallWakeUp(t.Context(), pool)
	require.ErrorContains(t, err, "appends of "+name+" would fail, since the roles lack EXECUTE on pg_notify(text,text): GRANT EXECUTE ON FUNCTION pg_notify(text,text) TO "+name)
	exec(t, pool, "GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO "+name)
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
}

// A session that fills the queue of notifications must not keep others from appending.
func TestAFullQueueOfNotificationsFailsNoAppend(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it has a server of its own")
	server := pgtest.OwnVersion(t, 17, pgtest.Options{Settings: map[string]string{"max_notify_queue_pages": "64"}})
	pool, err := pgxpool.New(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, RunMigrations(pool, WithLogger(nil)))
	s := resolved(t, New(WithLogger(nil)), pool)
	require.NoError(t, s.InstallWakeUp(t.Context(), pool))
	l := listen(t, s, pool)
	require.True(t, l.asks(s))
	mustAppend(t, s, pool, es.Any(), event("a"))
	assert.Empty(t, l.next())
	_, err = l.conn.Exec(t.Context(), "BEGIN") // it hears nothing more, and what it has not heard stays in the queue
	require.NoError(t, err)
	for err == nil {
		_, err = pool.Exec(t.Context(), `SELECT pg_notify('something', n || $1) FROM generate_series(1, 20) AS n`, strings.Repeat("x", 7000))
	}
	require.Equal(t, "54000", dbfault.Code(err), "the queue is not full: %v", err)
	mustAppend(t, s, pool, es.Any(), event("a"))
	_, err = l.conn.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := pool.Exec(t.Context(), "SELECT pg_notification_queue_usage(), pg_notify($1, 'mark')", l.name) // who asks makes room
		return err == nil
	}, deadline, 10*time.Millisecond)
	require.Equal(t, "mark", l.next(), "the append told nobody")
	mustAppend(t, s, pool, es.Any(), event("a"))
	assert.Empty(t, l.next(), "and tells again")
}
