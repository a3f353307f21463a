package pgcoord

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Roles belong to the whole server, so the test has one of its own.
func TestCheckGrantsSaysWhatToGrant(t *testing.T) {
	t.Parallel()
	server := pgtest.Own(t, pgtest.Options{})
	pool, err := pgxpool.New(t.Context(), server.DSN("postgres"))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	createTables(t, pool)
	s := open(t, pool, "main")
	require.NoError(t, CheckGrants(t.Context(), pool, "public", eventsTable), "a superuser may all")

	exec(t, pool, `CREATE ROLE worker`)
	conn := dial(t, pool)
	exec(t, conn, `SET ROLE worker`)
	err = CheckGrants(t.Context(), conn, "public", eventsTable)
	require.ErrorIs(t, err, ErrNotGranted)
	assert.Contains(t, err.Error(), `GRANT SELECT ON public.events TO worker`)
	for _, table := range []string{"generations", "workers", "heartbeats", "checkpoints", "sequence_regressions", "horizons", "dead_letters", "turns", "abandoned_handlers", "parked_aggregates", "operations", "requests", "drains", "samples", "successions", "waits"} {
		assert.Contains(t, err.Error(), `GRANT DELETE, INSERT, SELECT, UPDATE ON public.orchestrator_`+table+` TO worker`)
		exec(t, pool, `GRANT DELETE, INSERT, SELECT, UPDATE ON "public"."orchestrator_`+table+`" TO worker`)
	}
	exec(t, pool, `GRANT SELECT ON events, orchestrator_schema_version TO worker`)
	require.NoError(t, CheckGrants(t.Context(), conn, "public", eventsTable))

	exec(t, pool, `REVOKE UPDATE ON orchestrator_checkpoints FROM worker`)
	require.EqualError(t, CheckGrants(t.Context(), conn, "public", eventsTable),
		`the role lacks rights: GRANT UPDATE ON public.orchestrator_checkpoints TO worker`)
	exec(t, pool, `GRANT UPDATE ON orchestrator_checkpoints TO worker`)

	// What CheckGrants demands is enough.
	w := join(t, s, conn, "orders")
	generation(t, s, conn, 0, w)
	require.NoError(t, s.Prune(t.Context(), conn, 1))
	require.NoError(t, s.Stop(t.Context(), conn, w, ""))
}
