package migrate

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// reading is a transaction that has read the table, as pg_dump does, and the first migration's tables.
func reading(t *testing.T, db *pgxpool.Pool) (end func()) {
	t.Helper()
	require.NoError(t, newRunner(t, files("000001_first.up.sql", "CREATE TABLE first (id int);", "000001_first.down.sql", "DROP TABLE first;"), "").Up(t.Context(), db))
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	_, err = tx.Exec(t.Context(), "SELECT FROM first")
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback(t.Context())) }
}

// second is a runner that has one migration more than reading.
func second(t *testing.T) *Runner {
	t.Helper()
	return newRunner(t, files("000001_first.up.sql", "CREATE TABLE first (id int);", "000001_first.down.sql", "DROP TABLE first;",
		"000002_second.up.sql", "ALTER TABLE first ADD second int;", "000002_second.down.sql", "ALTER TABLE first DROP second;"), "")
}

// A session that waits for an exclusive lock stalls all that come after it: workers would stand still until a pg_dump ends.
func TestAMigrationThatWaitsForAReaderStallsNobody(t *testing.T) {
	t.Parallel()
	db := pgtest.NewDatabase(t)
	end := reading(t, db)
	r, done := second(t), make(chan error, 1)
	go func() { done <- r.Up(t.Context(), db) }()
	for range 2 { // attempts
		require.Eventually(t, func() bool {
			var waits bool
			err := db.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock' AND relation = (SELECT oid FROM pg_class WHERE relname = 'first'))").Scan(&waits)
			return err == nil && waits
		}, 20*time.Second, time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := db.Exec(ctx, "SELECT FROM first")
		cancel()
		require.NoError(t, err, "somebody else reads the table")
	}
	select {
	case err := <-done:
		require.Fail(t, "the reader has not ended", "%v", err)
	default:
	}
	end()
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(time.Minute):
		require.Fail(t, "the migration does not end")
	}
	requireVersion(t, r, db, 2)
}

func TestTheRolesLockTimeoutBoundsAMigration(t *testing.T) {
	t.Parallel()
	base := pgtest.NewDatabase(t)
	reading(t, base)
	config := base.Config()
	config.ConnConfig.RuntimeParams["lock_timeout"] = "700ms"
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	long, giveUp := context.WithTimeout(t.Context(), 30*time.Second)
	defer giveUp()
	err = second(t).Up(long, db)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, "55P03", dbfault.Code(err), err)
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = second(t).Up(short, base)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
