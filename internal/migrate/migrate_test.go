package migrate

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// three are migrations that fail if they are run twice or in another order.
func three() fstest.MapFS {
	return files(
		"000001_first.up.sql", "CREATE TABLE {{schema}}first (id int); CREATE TABLE {{schema}}other (id int);",
		"000001_first.down.sql", "DROP TABLE {{schema}}other; DROP TABLE {{schema}}first;",
		"000002_second.up.sql", "ALTER TABLE {{schema}}first ADD second int; INSERT INTO {{schema}}first VALUES (1, 2);",
		"000002_second.down.sql", "DELETE FROM {{schema}}first; ALTER TABLE {{schema}}first DROP second;",
		"000003_third.up.sql", "ALTER TABLE {{schema}}first ADD third int;",
		"000003_third.down.sql", "ALTER TABLE {{schema}}first DROP third;",
	)
}

func newRunner(t *testing.T, fsys fstest.MapFS, schema string) *Runner {
	t.Helper()
	r, err := New(Config{Files: fsys, Schema: schema, VersionTable: "test_version"})
	require.NoError(t, err)
	return r
}

// requireVersion checks the version table, and that it has a row per migration.
func requireVersion(t *testing.T, r *Runner, db *pgxpool.Pool, want int) {
	t.Helper()
	state, err := r.State(t.Context(), db)
	require.NoError(t, err)
	require.Equal(t, want, state.Version)
	var rows int
	require.NoError(t, db.QueryRow(t.Context(), "SELECT count(*) FROM "+r.versions(place{schema: state.Schema})+" WHERE applied_at <= now()").Scan(&rows))
	require.Equal(t, want, rows)
}

// columns are the columns of the table that three() makes.
func columns(t *testing.T, db *pgxpool.Pool, schema string) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), `
		SELECT column_name FROM information_schema.columns WHERE table_schema = $1 AND table_name = 'first' ORDER BY ordinal_position`, schema)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return names
}

func TestUpAppliesWhatIsMissingAndDownRevertsIt(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", "Some-Schema"} {
		t.Run(fmt.Sprintf("schema %q", schema), func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewDatabase(t)
			r := newRunner(t, three(), schema)
			where := schema
			if schema == "" {
				where = "public"
			}
			state, err := r.State(t.Context(), db)
			require.NoError(t, err)
			require.Equal(t, State{Schema: where}, state)

			require.NoError(t, r.Up(t.Context(), db))
			requireVersion(t, r, db, 3)
			require.Equal(t, []string{"id", "second", "third"}, columns(t, db, where))
			require.NoError(t, r.Up(t.Context(), db), "repeated")

			require.NoError(t, r.Down(t.Context(), db, 2))
			requireVersion(t, r, db, 1)
			require.Equal(t, []string{"id"}, columns(t, db, where))

			require.NoError(t, r.Up(t.Context(), db))
			requireVersion(t, r, db, 3)
			require.NoError(t, r.Down(t.Context(), db, 99))
			requireVersion(t, r, db, 0)
			require.Empty(t, columns(t, db, where))
		})
	}
}

func TestDownNeedsAtLeastOneStep(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, newRunner(t, three(), "").Down(t.Context(), nil, 0), "steps must be at least 1, got 0")
}

func TestADatabaseMigratedByAnOlderProgramIsCarriedOn(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	older := three()
	delete(older, "000003_third.up.sql")
	delete(older, "000003_third.down.sql")
	require.NoError(t, newRunner(t, older, "").Up(t.Context(), db))
	r := newRunner(t, three(), "")
	require.NoError(t, r.Up(t.Context(), db))
	requireVersion(t, r, db, 3)
}

func TestADatabaseMigratedByANewerProgramIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	newer := newRunner(t, three(), "")
	require.NoError(t, newer.Up(t.Context(), db))
	fsys := three()
	delete(fsys, "000003_third.up.sql")
	delete(fsys, "000003_third.down.sql")
	older := newRunner(t, fsys, "")
	for _, err := range []error{older.Up(t.Context(), db), older.Down(t.Context(), db, 1)} {
		require.ErrorIs(t, err, ErrNewer)
		require.ErrorContains(t, err, "it is at version 3, this program knows versions up to 2")
	}
	requireVersion(t, newer, db, 3)
}

func TestManyProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	for _, schema := range []string{"", "app"} {
		t.Run(fmt.Sprintf("schema %q", schema), func(t *testing.T) {
			t.Parallel()
			db := pgtest.NewDatabase(t)
			r := newRunner(t, three(), schema)
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() { assert.NoError(t, r.Up(t.Context(), db)) })
			}
			wg.Wait()
			requireVersion(t, r, db, 3)

			for range 10 {
				wg.Go(func() { assert.NoError(t, r.Down(t.Context(), db, 3)) })
			}
			wg.Wait()
			requireVersion(t, r, db, 0)
		})
	}
}

func TestAFailedMigrationLeavesNothingAndNamesItsFile(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	fsys := three()
	fsys["000002_second.up.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE half (id int); SELECT 1/0;")}
	r := newRunner(t, fsys, "")

	err := r.Up(t.Context(), db)

	require.ErrorContains(t, err, `migrating "test_version": migration file 000002_second.up.sql (version 2)`)
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok)
	assert.Equal(t, "22012", pgErr.Code)
	requireVersion(t, r, db, 1)
	found, err := exists(t.Context(), db, tableExistsSQL, pgx.Identifier{"half"})
	require.NoError(t, err)
	assert.False(t, found)

	fsys["000002_second.up.sql"] = three()["000002_second.up.sql"]
	r = newRunner(t, fsys, "")
	require.NoError(t, r.Up(t.Context(), db), "carries on after the fault is mended")
	requireVersion(t, r, db, 3)

	fsys["000003_third.down.sql"] = &fstest.MapFile{Data: []byte("DROP TABLE other; SELECT 1/0;")}
	r = newRunner(t, fsys, "")
	require.ErrorContains(t, r.Down(t.Context(), db, 1), "migration file 000003_third.down.sql (version 3)")
	requireVersion(t, r, db, 3)
}

func TestAMigratedDatabaseNeedsNoRightToCreate(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	r := newRunner(t, three(), "app")
	require.NoError(t, r.Up(t.Context(), db))
	conn, err := db.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	var mayCreateRoles bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user").Scan(&mayCreateRoles))
	if !mayCreateRoles {
		t.Skip("making the limited role takes CREATEROLE")
	}
	var database string
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&database))
	role := pgx.Identifier{"reader_of_" + database}.Sanitize()
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`
		CREATE ROLE %[1]s; GRANT USAGE ON SCHEMA app TO %[1]s; GRANT SELECT ON app.test_version TO %[1]s`, role))
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		_, err := db.Exec(ctx, fmt.Sprintf("DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
		assert.NoError(t, err)
	})
	config := db.Config()
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET ROLE "+role)
		return err
	}
	limited, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(limited.Close)

	require.NoError(t, r.Up(t.Context(), limited))
	_, err = limited.Exec(t.Context(), "CREATE TABLE app.forbidden ()")
	require.Error(t, err, "the role must not be able to create, or the test shows nothing")
}

func TestTheIsolationLevelOfTheSessionDoesNotMatter(t *testing.T) {
	t.Parallel()
	base := pgtest.NewDatabase(t)
	config := base.Config()
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	r := newRunner(t, three(), "")
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() { assert.NoError(t, r.Up(t.Context(), db)) })
	}
	wg.Wait()
	requireVersion(t, r, base, 3)
}

// A migration of a large table takes longer than the role's statements may.
func TestAMigrationOutlastsTheRolesTimeouts(t *testing.T) {
	t.Parallel()
	base := pgtest.NewDatabase(t)
	config := base.Config()
	config.ConnConfig.RuntimeParams["statement_timeout"] = "100ms"
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	r := newRunner(t, files("000001_first.up.sql", "SELECT pg_sleep(0.2); CREATE TABLE {{schema}}first (id int);", "000001_first.down.sql", "DROP TABLE {{schema}}first;"), "")
	require.NoError(t, r.Up(t.Context(), db))
	requireVersion(t, r, base, 1)
	var timeout string
	require.NoError(t, db.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&timeout))
	assert.Equal(t, "100ms", timeout, "the connection has its own again")
}

func TestAWaitForTheLockEndsWithTheContext(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	holder, err := db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = holder.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = holder.Exec(t.Context(), lockSQL, lockKey)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r := newRunner(t, three(), "")
	go func() { done <- r.Up(ctx, db) }()
	require.Eventually(t, func() bool {
		var waiting bool
		err := db.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))").Scan(&waiting)
		return err == nil && waiting
	}, 20*time.Second, 5*time.Millisecond)

	cancel()

	err = <-done
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "waiting for the migration lock")
}
