package eventread

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// fillTypes stores n events: 96 % Order, the rest Few, Some and Rare in different parts, with holes among the positions.
func fillTypes(t testing.TB, pool *pgxpool.Pool, n int) {
	t.Helper()
	_, err := pool.Exec(t.Context(), fmt.Sprintf(`
		INSERT INTO events (global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT coalesce((SELECT max(global_position) FROM events), 0) + i + i / 7, CASE WHEN i %% 3 = 0 THEN 'shop' ELSE 'sales' END,
			CASE WHEN i %% 100 = 0 THEN 'Few' WHEN i %% 50 = 1 THEN 'Some' WHEN i %% 1000 = 2 THEN 'Rare' ELSE 'Order' END,
			'a-' || i %% 500, i + (SELECT count(*) FROM events), gen_random_uuid(), 'Happened', convert_to(repeat('x', 100), 'UTF8')
		FROM generate_series(1, %d) AS i`, n))
	require.NoError(t, err)
}

// eachNode calls visit for a plan's nodes.
func eachNode(plan node, visit func(node)) {
	visit(plan)
	for _, child := range plan.Plans {
		eachNode(child, visit)
	}
}

// underEveryPlan runs a test of reads by an index, whatever the statistics say and however a plan is made. There are so many rows.
func underEveryPlan(
	t *testing.T, install func(*eventstore.Store, context.Context, eventstore.Execer) error, rows int, test func(t *testing.T, s *store, conn *pgx.Conn),
) {
	t.Helper()
	pgtest.SkipBehindPooler(t, "it prepares a statement and looks at its plan")
	for _, statistics := range []string{"none", "fresh", "stale"} {
		s, pool := newStore(t)
		exec(t, pool, "ALTER TABLE events SET (autovacuum_enabled = false)")
		require.NoError(t, install(s.Store, t.Context(), pool))
		if statistics == "stale" { // of a table with few rows, of one type
			mustAppend(t, s, pool, es.Any(), eventtest.Numbered("a", 200)...)
			exec(t, pool, "ANALYZE events")
		}
		fillTypes(t, pool, rows)
		if statistics == "fresh" {
			exec(t, pool, "ANALYZE events")
		}
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			t.Run(statistics+" statistics, "+mode, func(t *testing.T) {
				t.Parallel()
				test(t, s, planning(t, pool, mode))
			})
		}
	}
}

// Whatever the statistics say, and however a plan is made, reads by the scope index walk it between both bounds: any other plan looks
// at all events.
func TestReadsByTheScopeIndexWalkIt(t *testing.T) {
	t.Parallel()
	const rows = 50_000
	underEveryPlan(t, (*eventstore.Store).InstallScopeIndex, rows, func(t *testing.T, s *store, conn *pgx.Conn) {
		for name, q := range indexedQueries(rows) {
			sql, args, _ := s.statements.read(q)
			scans, sorts := 0, 0
			eachNode(explain(t, conn, sql, args), func(n node) {
				switch n.Type {
				case "Index Scan", "Index Only Scan":
					scans++
					assert.True(t, strings.HasPrefix(n.Index, "pupsourcing_scope_"), name)
					assert.Contains(t, n.Cond, "(ROW(aggregate_type, global_position) > ROW(", name)
					assert.Contains(t, n.Cond, "(ROW(aggregate_type, global_position) <= ROW(", name)
				case "Sort":
					sorts++
				default:
					assert.Contains(t, []string{"Limit", "Nested Loop", "Function Scan", "Aggregate", "CTE Scan", "Result", "Subquery Scan"}, n.Type, name)
				}
			})
			if len(q.AggregateTypes) == 1 {
				assert.Equal(t, []int{1, 0}, []int{scans, sorts}, name)
			} else {
				assert.Equal(t, []int{2, 1}, []int{scans, sorts}, name)
			}
		}
	})
}

// indexedQueries are reads by the scope index of every shape.
func indexedQueries(upTo int64) map[string]Query {
	queries := make(map[string]Query)
	for scope, types := range map[string][]string{
		"a few": {"Few"}, "most": {"Order"}, "an unknown type": {"None"},
		"several": {"Few", "Some", "Rare"}, "all and an unknown one": {"Few", "None", "Order", "Rare", "Some"},
	} {
		for _, limit := range []int{1, 100, 500} {
			for _, low := range []int64{0, upTo / 2} {
				q := Query{AggregateTypes: types, UpTo: upTo, Limit: limit, byScopeIndex: true, Pieces: []slot.Piece{{Range: slot.All(), Position: low}}}
				name := fmt.Sprintf("%s, limit %d, from %d", scope, limit, low)
				queries[name] = q
				q.BoundedContexts, q.WithSlots = []string{"shop"}, true
				queries[name+", a context"] = q
				q.Pieces = []slot.Piece{{Range: slot.Range{From: 0, To: slot.Count / 2}, Position: low}}
				queries[name+", a context, half of the slots"] = q
			}
		}
	}
	return queries
}

// pages reads all pages of a query and returns the events' positions. Each page must keep its promise.
func pages(ctx context.Context, rt require.TestingT, s *store, pool DB, q Query, size int) (positions []int64) {
	for after := slot.Lowest(q.Pieces); after < q.UpTo; {
		q.Pieces = slot.Advance(q.Pieces, after)
		events, reached := 0, after
		err := s.stream(ctx, pool, q, size, func(p Part) {
			require.GreaterOrEqual(rt, p.UpTo, reached)
			require.True(rt, p.Events.Len() == size || p.Events.Len() < size && (p.UpTo == q.UpTo || p.Events.Len() > 0))
			reached = p.UpTo
			events += p.Events.Len()
			for i := range p.Events.Len() {
				positions = append(positions, p.Events.Position(i))
			}
			if n := p.Events.Len(); n > 0 {
				require.LessOrEqual(rt, p.Events.Position(n-1), p.UpTo)
			}
		})
		require.NoError(rt, err)
		require.LessOrEqual(rt, events, q.Limit)
		require.Greater(rt, reached, after)
		after = reached
	}
	return positions
}

// By the index a query finds what it finds without it, each event once and in order, whatever its pieces, limits and scope.
func TestPropertyTheScopeIndexFindsTheSame(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	fillTypes(t, pool, 5000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	all := []string{"Few", "Some", "Rare", "Order", "None", "Few"}
	rapid.Check(t, func(rt *rapid.T) {
		low, cut := rapid.Int64Range(0, last).Draw(rt, "low"), rapid.IntRange(1, slot.Count-1).Draw(rt, "cut")
		ahead := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(0, 1000)).Draw(rt, "ahead")
		q := Query{
			Pieces:         []slot.Piece{{Range: slot.Range{From: 0, To: cut}, Position: low}, {Range: slot.Range{From: cut, To: slot.Count}, Position: low + ahead}},
			UpTo:           rapid.Int64Range(0, last+100).Draw(rt, "up to"),
			AggregateTypes: rapid.SliceOfN(rapid.SampledFrom(all), 1, 6).Draw(rt, "types"),
			Limit:          rapid.OneOf(rapid.IntRange(1, 100), rapid.IntRange(100, 6000)).Draw(rt, "limit"),
			WithSlots:      rapid.Bool().Draw(rt, "with slots"),
		}
		q.Pieces = q.Pieces[:rapid.IntRange(1, 2).Draw(rt, "pieces")]
		if rapid.Bool().Draw(rt, "a context") {
			q.BoundedContexts = []string{"shop"}
		}
		plain := q
		q.byScopeIndex = true
		sql, _, _ := s.statements.read(q)
		require.Contains(rt, sql, "ORDER BY aggregate_type, global_position")
		size := rapid.IntRange(1, q.Limit).Draw(rt, "size")
		require.Equal(rt, pages(t.Context(), rt, s, pool, plain, size), pages(t.Context(), rt, s, pool, q, size))
	})
}

// More events than one statement reads by the index come in several.
func TestAReadByTheIndexIsCutBeforeItIsTooLarge(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	fillTypes(t, pool, mostWalked+2000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	for _, types := range [][]string{{"Order"}, {"Order", "Few"}} {
		q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: 100_000, AggregateTypes: types}
		want := pages(t.Context(), t, s, pool, q, 1000)
		q.byScopeIndex = true
		assert.Equal(t, want, pages(t.Context(), t, s, pool, q, 1000))
		page, err := s.page(t.Context(), pool, q)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(page.Events), mostWalked)
	}
}

// A statement reads about as many rows as it may return, however many types there are and however many events each has.
func TestReadsOfSeveralTypesAreBounded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		limit, types := rapid.IntRange(1, 20_000).Draw(rt, "limit"), rapid.IntRange(2, mostIndexedTypes).Draw(rt, "types")
		most, each := limitsOfTypes(limit, types)
		require.Positive(rt, each)
		require.LessOrEqual(rt, each, most)
		require.LessOrEqual(rt, most, min(limit, mostSorted))
		require.LessOrEqual(rt, each*types, max(most+types, leastOfType*types))
		require.GreaterOrEqual(rt, each*types, most, "all together are enough for the limit")
	})
}

func TestManyTypesAreNotReadByTheIndex(t *testing.T) {
	t.Parallel()
	s := quiet()
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 1, Limit: 1, byScopeIndex: true}
	plain, _, _ := s.statements.read(q)
	assert.NotContains(t, plain, "aggregate_type, global_position", "without types")
	for i := range mostIndexedTypes + 1 {
		q.AggregateTypes = append(q.AggregateTypes, fmt.Sprint(i), "0") // one of them again
		sql, _, _ := s.statements.read(q)
		assert.Equal(t, i < mostIndexedTypes, strings.Contains(sql, "ORDER BY aggregate_type, global_position"), "%d types", i+1)
	}
}

func TestADensityIsOfAllSlots(t *testing.T) {
	t.Parallel()
	all := []slot.Piece{{Range: slot.All()}}
	quarter := []slot.Piece{{Range: slot.Range{From: 0, To: slot.Count / 4}}}
	var d density
	assert.True(t, d.sparse(), "nothing is known")
	d.learn(fewPositions-1, fewPositions-1, all)
	assert.True(t, d.sparse(), "hardly anything is known")
	d.learn(1, 1, all)
	assert.False(t, d.sparse())
	d.learn(1_000_000, 20_000, all)
	assert.True(t, d.sparse(), "what was long ago counts little")
	d = density{}
	d.learn(100_000, 9_999, all)
	assert.True(t, d.sparse())
	d = density{}
	d.learn(100_000, 10_000, all)
	assert.False(t, d.sparse())
	d = density{}
	d.learn(100_000, 2_499, quarter)
	assert.True(t, d.sparse())
	d = density{}
	d.learn(100_000, 2_500, quarter)
	assert.False(t, d.sparse(), "the index has the events of the other slots too")
	d = density{}
	d.learn(0, 0, all)
	d.learn(-5, 1, all)
	assert.Equal(t, density{}, d)
}

// watching is a database that notes what is asked of it.
type watching struct {
	DB
	asked []string
}

func (w *watching) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	way := "plain"
	switch {
	case strings.Contains(sql, "ORDER BY aggregate_type, global_position"):
		way = "index"
	case strings.Contains(sql, "part.low"):
		way = "slots"
	}
	w.asked = append(w.asked, way)
	return w.DB.Query(ctx, sql, args...)
}

func (w *watching) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	w.asked = append(w.asked, "look")
	return w.DB.QueryRow(ctx, sql, args...)
}

// what was asked since the last call.
func (w *watching) since() []string {
	asked := w.asked
	w.asked = nil
	return asked
}

// watchedReader is a reader with a clock of its own. What it asks of the database is noted.
type watchedReader struct {
	*Reader
	store *store
	db    *watching
	at    time.Time
}

func newWatched(s *store, pool DB) *watchedReader {
	r := &watchedReader{Reader: s.reader(), store: s, db: &watching{DB: pool}, at: time.Now()}
	r.now = func() time.Time { return r.at }
	return r
}

// read reads a query, which must find what one statement finds, unless its bytes are bounded. It returns what the reader asked.
func (r *watchedReader) read(t *testing.T, q Query) []string {
	t.Helper()
	want, err := r.store.page(t.Context(), r.db.DB, q)
	require.NoError(t, err)
	got, err := r.Read(t.Context(), r.db, q)
	require.NoError(t, err)
	if q.MaxBytes == 0 {
		assert.Equal(t, want.Events, got.Events)
		assert.Equal(t, q.UpTo, got.UpTo)
	}
	return r.db.since()
}

func TestAReaderUsesTheIndexWhereItIsThereAndPays(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	fillTypes(t, pool, mostWalked-1000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	r := newWatched(s, pool)
	read := func(upTo int64, types ...string) []string {
		t.Helper()
		return r.read(t, Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: upTo, Limit: 20_000, AggregateTypes: types})
	}
	later := func(d time.Duration) { r.at = r.at.Add(d) }

	assert.Equal(t, []string{"plain"}, read(last), "all types are wanted")
	assert.Equal(t, []string{"plain"}, read(fewPositions, "Few"), "a small read")
	assert.Equal(t, []string{"look", "plain"}, read(last, "Few"))
	assert.Equal(t, []string{"plain"}, read(last, "Few"), "it was not there a moment ago")

	require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
	later(indexMissed)
	assert.Equal(t, []string{"look", "index"}, read(last, "Few"))
	assert.Equal(t, []string{"index"}, read(last, "Few"), "it was there a moment ago")
	assert.Equal(t, []string{"index"}, read(last, "Order"), "nothing is known of it")
	assert.Equal(t, []string{"plain"}, read(last, "Order"), "it is nearly all")
	assert.Equal(t, []string{"plain"}, read(last), "all types are wanted")

	require.NoError(t, s.RemoveScopeIndex(t.Context(), pool))
	assert.Equal(t, []string{"index"}, read(last, "Few"), "it is slow without, and right")
	later(indexKeeps)
	assert.Equal(t, []string{"look", "plain"}, read(last, "Few"))

	pool.Close()
	later(indexMissed)
	_, err = r.Read(t.Context(), r.db, Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: 1, AggregateTypes: []string{"Few"}})
	require.ErrorContains(t, err, "looking for the scope index")
}
