package eventread

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// trusted are the reads whose answer decides what workers handle, each of which finds nothing. They are of every kind of statement.
func trusted(t *testing.T, s *store, db DB) map[string]func() error {
	t.Helper()
	read := func(q Query) func() error {
		q.Pieces, q.UpTo, q.Limit = []slot.Piece{{Range: slot.All(), Position: 1000}}, 2000, 10
		return func() error { _, err := s.page(t.Context(), db, q); return err }
	}
	return map[string]func() error{
		"all":           read(Query{}),
		"one type":      read(Query{AggregateTypes: []string{"None"}}),
		"a context":     read(Query{BoundedContexts: []string{"none"}}),
		"one by index":  read(Query{AggregateTypes: []string{"None"}, byScopeIndex: true}),
		"some by index": read(Query{AggregateTypes: []string{"None", "Nothing"}, byScopeIndex: true}),
		"by slots":      read(Query{bySlotIndex: true}),
	}
}

// inEveryMode calls with a pool of each query exec mode.
func inEveryMode(t *testing.T, dsn string, call func(mode string, pool *pgxpool.Pool)) {
	t.Helper()
	for _, mode := range pgtest.ExecModes() {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(t, err)
		call(mode.String(), pgtest.PoolInMode(t, config, mode))
	}
}

func TestNothingIsReadFromAStandby(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it has servers of its own")
	primary, err := pgtest.Start(t.Context(), pgtest.Options{})
	require.NoError(t, err)
	defer func() { assert.NoError(t, primary.Close()) }()
	db, err := pgxpool.New(t.Context(), primary.DSN("postgres"))
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	s := resolved(t, quiet(), db)
	standby, err := primary.Standby(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, standby.Close()) }()
	inEveryMode(t, standby.DSN("postgres"), func(mode string, pool *pgxpool.Pool) {
		reads := trusted(t, s, dbguard.New(pool))
		reads["the trigger"] = func() error { _, err := s.HasWakeUp(t.Context(), dbguard.New(pool)); return err }
		reads["the scope index"] = func() error { _, err := s.HasScopeIndex(t.Context(), dbguard.New(pool)); return err }
		reads["the slot index"] = func() error { _, err := s.HasSlotIndex(t.Context(), dbguard.New(pool)); return err }
		for name, read := range reads {
			err := read()
			require.True(t, dbguard.IsStandby(err), "%s: %s: %v", mode, name, err)
			assert.Eventually(t, func() bool { return pool.Stat().TotalConns() == 0 }, deadline, time.Millisecond, "%s: %s: the connection is kept", mode, name)
		}
		_, err := s.LatestPosition(t.Context(), pool)
		require.NoError(t, err, "an application may ask a standby")
	})
}

func TestNothingIsReadBehindRowSecurity(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it sets a role")
	s, pool := newResolved(t)
	mustAppend(t, s, pool, es.Any(), eventtest.Event("a"))
	role := "reader_" + pool.Config().ConnConfig.Database
	exec(t, pool, "CREATE ROLE "+role)
	exec(t, pool, "GRANT SELECT ON events TO "+role)
	t.Cleanup(func() {
		_, err := pool.Exec(context.WithoutCancel(t.Context()), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		assert.NoError(t, err)
	})
	config := pool.Config()
	config.ConnConfig.RuntimeParams["role"] = role
	for _, policy := range []string{"", "true", "false", "global_position > 5"} {
		exec(t, pool, "ALTER TABLE events DISABLE ROW LEVEL SECURITY")
		readers, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		for name, read := range trusted(t, s, readers) {
			require.NoError(t, read(), name)
		}
		exec(t, pool, "ALTER TABLE events ENABLE ROW LEVEL SECURITY")
		if policy != "" {
			exec(t, pool, "CREATE POLICY p ON events USING ("+policy+")")
		}
		for name, read := range trusted(t, s, readers) {
			assert.True(t, dbguard.HidesRows(read()), "policy %q: %s", policy, name)
		}
		exec(t, pool, "DROP POLICY IF EXISTS p ON events")
		readers.Close()
	}
	for name, read := range trusted(t, s, pool) {
		require.NoError(t, read(), "the owner sees all rows: %s", name)
	}
}

// TestCostOfTheGuards prints what a page costs with and without the guards. Set GUARD_COST=1.
func TestCostOfTheGuards(t *testing.T) {
	if os.Getenv("GUARD_COST") == "" {
		t.Skip("set GUARD_COST=1 to measure")
	}
	s, pool := newResolved(t)
	exec(t, pool, `INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'sales', 'Order', 'order-' || i / 10, i % 10 + 1, gen_random_uuid(), 'OrderPlaced', convert_to(repeat('x', 100), 'UTF8')
		FROM generate_series(1, 100000) AS i`)
	exec(t, pool, "VACUUM ANALYZE events")
	unguarded := *s.statements
	bare := &store{Store: s.Store, statements: &unguarded}
	limit := dbguard.LimitAllRowsOf(s.EventsTable(), unguarded.table, "$3::bigint")
	for f := range unguarded.filtered {
		sql := strings.Replace(unguarded.filtered[f](), dbguard.Primary+"\n\tAND ", "", 1)
		sql = strings.Replace(sql, dbguard.LimitOnPrimary(limit), "$3::bigint", 1)
		unguarded.filtered[f] = func() string { return strings.Replace(sql, limit, "$3::bigint", 1) }
	}
	for _, limit := range []int{10, 100, 16_000} {
		pages := max(3, 2000/limit)
		read := func(s *store) float64 {
			began := time.Now()
			for page := range pages {
				_, err := s.page(t.Context(), pool, Query{Pieces: []slot.Piece{{Range: slot.All(), Position: int64(page * limit)}}, UpTo: 100_000, Limit: limit})
				require.NoError(t, err)
			}
			return float64(time.Since(began))
		}
		var ratios []float64
		for range 60 {
			with, without := read(s), read(bare)
			ratios = append(ratios, with/without)
		}
		slices.Sort(ratios)
		t.Logf("limit %d: ratio %.3f (%.3f–%.3f)", limit, ratios[30], ratios[15], ratios[45])
	}
}
