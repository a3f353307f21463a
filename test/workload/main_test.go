package workload

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) {
	ServeIfAsked()
	pgtest.MainTwice(m)
}

// patience bounds every wait for something that happens elsewhere.
const patience = 30 * time.Second

var twoProjections = []ProjectionSpec{
	{Name: "all"},
	{Name: "orders", AggregateTypes: []string{"order"}, Batch: true},
}

// silentStore is an event store that logs nothing.
func silentStore() *eventstore.Store { return eventstore.New(eventstore.WithLogger(nil)) }

// count runs the check whose title begins with that, before a colon.
func count(t *testing.T, pool *pgxpool.Pool, title string) Result {
	t.Helper()
	for _, c := range Checks() {
		if len(c.Title) > len(title) && c.Title[:len(title)+1] == title+":" {
			result, err := RunCheck(t.Context(), pool, c)
			require.NoError(t, err)
			return result
		}
	}
	t.Fatalf("there is no check %q", title)
	return Result{}
}

// execute runs a statement that must work.
func execute(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
	require.Positive(t, tag.RowsAffected(), "the statement changed nothing: %s", sql)
}

// migrated is a database with all tables.
func migrated(t *testing.T, projections []ProjectionSpec) (*pgxpool.Pool, Target) {
	t.Helper()
	target := Target{DSN: pgtest.NewDSN(t)}
	pool, err := target.Pool(context.WithoutCancel(t.Context()), 16)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, Migrate(t.Context(), pool, projections))
	return pool, target
}
