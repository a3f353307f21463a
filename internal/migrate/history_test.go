package migrate

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestAHoleInTheVersionsIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	r := newRunner(t, three(), "")
	require.NoError(t, r.Up(t.Context(), db))
	_, err := db.Exec(t.Context(), "DELETE FROM test_version WHERE version = 2")
	require.NoError(t, err)
	_, stateErr := r.State(t.Context(), db)
	for _, err := range []error{stateErr, r.Up(t.Context(), db), r.Down(t.Context(), db, 1)} {
		require.ErrorIs(t, err, ErrHistory)
		require.ErrorContains(t, err, "has a row for version 3, and none for version 2")
	}
}

// A later migration changes a table that another role owns. The error says which role to be a member of, and that is enough.
func TestAMigrationOfAnotherRolesTables(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	db := pgtest.NewDatabase(t)
	exec := func(sql string) {
		t.Helper()
		_, err := db.Exec(context.WithoutCancel(t.Context()), sql)
		require.NoError(t, err)
	}
	database := db.Config().ConnConfig.Database
	migrator, owner := "migrator_"+database, "owner_"+database
	for _, role := range []string{migrator, owner} {
		exec("CREATE ROLE " + role + " LOGIN PASSWORD 'pw'")
		t.Cleanup(func() { exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	}
	first := files("000001_first.up.sql", string(three()["000001_first.up.sql"].Data), "000001_first.down.sql", "")
	require.NoError(t, newRunner(t, first, "").Up(t.Context(), db))
	exec("ALTER TABLE first OWNER TO " + owner + "; GRANT USAGE, CREATE ON SCHEMA public TO " + migrator + "; GRANT SELECT, INSERT ON test_version TO " + migrator)

	cfg := db.Config()
	cfg.ConnConfig.User, cfg.ConnConfig.Password = migrator, "pw"
	own, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(own.Close)
	r, err := New(Config{Files: three(), VersionTable: "test_version", Tables: []Table{{Name: "first"}}})
	require.NoError(t, err)
	err = r.Up(t.Context(), own)
	require.ErrorIs(t, err, dbrights.ErrNotGranted)
	require.ErrorContains(t, err, "GRANT "+owner+" TO "+migrator)
	exec("GRANT " + owner + " TO " + migrator)
	require.NoError(t, r.Up(t.Context(), own))
	state, err := r.State(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, State{Schema: "public", Version: 3}, state)
}
