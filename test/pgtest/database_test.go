package pgtest

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDatabasesAreIsolated(t *testing.T) {
	first, second := NewDatabase(t), NewDatabase(t)
	_, err := first.Exec(t.Context(), "CREATE TABLE only_here ()")
	require.NoError(t, err)
	var exists bool
	require.NoError(t, second.QueryRow(t.Context(), "SELECT to_regclass('only_here') IS NOT NULL").Scan(&exists))
	assert.False(t, exists)
}

func TestDatabasesWithContentsAreCopies(t *testing.T) {
	filled := 0
	fill := func(pool *pgxpool.Pool) error {
		filled++
		_, err := pool.Exec(t.Context(), "CREATE TABLE things AS SELECT 1 AS n")
		return err
	}
	for range 2 {
		pool := NewDatabaseFrom(t, "things", fill)
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), "UPDATE things SET n = n + 1 RETURNING n").Scan(&n))
		assert.Equal(t, 2, n, "another test's change")
	}
	assert.Equal(t, 1, filled)
	failed := errors.New("no")
	for range 2 {
		_, err := templateOf(t.Context(), serverDSN(t), "nothing", func(*pgxpool.Pool) error { return failed })
		require.ErrorIs(t, err, failed)
	}
}

func TestDatabaseIsDroppedWithWhatIsInIt(t *testing.T) {
	var name string
	var left *pgx.Conn
	t.Run("use", func(t *testing.T) {
		pool := NewDatabase(t)
		name = pool.Config().ConnConfig.Database
		var err error
		left, err = pgx.Connect(t.Context(), pool.Config().ConnString())
		require.NoError(t, err)
		_, err = pool.Exec(t.Context(), "BEGIN; CREATE TABLE prepared (); PREPARE TRANSACTION 'left behind'")
		require.NoError(t, err)
	})
	require.Error(t, left.Ping(t.Context()), "the session that was left")
	assert.Equal(t, 0, query[int](t, serverDSN(t), "SELECT count(*)::int FROM pg_database WHERE datname = "+literal(name)))
}

func TestCreateDatabase(t *testing.T) {
	c := Own(t, Options{})
	dsn, err := c.CreateDatabase(t.Context(), `Odd "name"`)
	require.NoError(t, err)
	assert.Equal(t, `Odd "name"`, query[string](t, dsn, "SELECT current_database()"))
	_, err = c.CreateDatabase(t.Context(), `Odd "name"`)
	require.ErrorContains(t, err, "creating the database")
}

func TestPostgresVersion(t *testing.T) {
	assert.GreaterOrEqual(t, PostgresVersion(t), 120000)
}

func TestWithDatabase(t *testing.T) {
	for _, test := range []struct{ dsn, want string }{
		{"postgres://me:secret@host:5433/old?sslmode=disable", "postgres://me:secret@host:5433/new?sslmode=disable"},
		{"postgresql://host", "postgresql://host/new"},
		{"host=/tmp dbname=old", "host=/tmp dbname=old dbname=new"},
	} {
		dsn, err := withDatabase(test.dsn, "new")
		require.NoError(t, err)
		assert.Equal(t, test.want, dsn)
		config, err := pgx.ParseConfig(dsn)
		require.NoError(t, err)
		assert.Equal(t, "new", config.Database)
	}
	_, err := withDatabase("postgres://host:port/", "new")
	require.Error(t, err)
}
