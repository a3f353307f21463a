package eventread

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// eighth is an eighth of the slots, after a position.
func eighth(after int64) []slot.Piece {
	return []slot.Piece{{Range: slot.Partition{Key: 3, Total: 8}.Range(), Position: after}}
}

// Whatever the statistics say, and however a plan is made, reads by the slot index find each block's part by it, and the planner takes them for
// cheap: it would compile a statement that it takes for dear.
func TestReadsByTheSlotIndexUseIt(t *testing.T) {
	t.Parallel()
	const rows = 50_000
	underEveryPlan(t, (*eventstore.Store).InstallSlotIndex, rows, func(t *testing.T, s *store, conn *pgx.Conn) {
		for name, q := range slottedQueries(rows) {
			sql, args, _ := s.statements.read(q)
			scans := 0
			plan := explain(t, conn, sql, args)
			eachNode(plan, func(n node) {
				switch n.Type {
				case "Index Scan", "Bitmap Index Scan":
					scans++
					assert.True(t, strings.HasPrefix(n.Index, "pupsourcing_slot_"), name)
					assert.Contains(t, n.Cond, ">= part.low", name)
					assert.Contains(t, n.Cond, "< part.high", name)
				default:
					assert.Contains(t, []string{"Limit", "Nested Loop", "Function Scan", "Result", "Bitmap Heap Scan", "Subquery Scan"}, n.Type, name)
				}
			})
			assert.Equal(t, 1, scans, name)
			assert.Less(t, plan.Cost, 20_000.0, name)
		}
	})
}

// slottedQueries are reads by the slot index of every shape.
func slottedQueries(upTo int64) map[string]Query {
	queries := make(map[string]Query)
	for scope, types := range map[string][]string{"all": nil, "a few": {"Few"}} {
		for _, limit := range []int{leastSlotted, 16_000} {
			for _, low := range []int64{0, upTo / 2} {
				q := Query{AggregateTypes: types, UpTo: upTo, Limit: limit, bySlotIndex: true, Pieces: eighth(low)}
				name := fmt.Sprintf("%s, limit %d, from %d", scope, limit, low)
				queries[name] = q
				q.BoundedContexts, q.WithSlots = []string{"shop"}, true
				q.Pieces = append(q.Pieces, slot.Piece{Range: slot.Range{From: 0, To: 10}, Position: low + 100})
				queries[name+", a context, two pieces"] = q
			}
		}
	}
	return queries
}

// By the index a query finds what it finds without it, each event once and in order, whatever its pieces, limits and scope.
func TestPropertyTheSlotIndexFindsTheSame(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	exec(t, pool, `INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'sales', 'Order', 'first', i, gen_random_uuid(), 'Happened', '' FROM generate_series(1, 1500) AS i`) // blocks of one aggregate
	fillTypes(t, pool, 6000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	var first int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT hashtextextended('first', 0) & 65535").Scan(&first))
	rapid.Check(t, func(rt *rapid.T) {
		// Small numbers, which rapid likes, find nothing.
		position := rapid.SampledFrom([]int64{0, 1, slot.BlockLength - 1, slot.BlockLength, 1300, 2 * slot.BlockLength, 3333, 5000, last - 1, last, last + 100})
		low := min(position.Draw(rt, "low"), last)
		cuts := rapid.SliceOfNDistinct(rapid.SampledFrom([]int{0, 1, 5000, 9000, 16384, 20000, 30001, 40000, 50000, 60000, slot.Count}), 4, 4, rapid.ID).Draw(rt, "cuts")
		slices.Sort(cuts)
		q := Query{
			Pieces: []slot.Piece{
				{Range: slot.Range{From: cuts[2], To: cuts[3]}, Position: low},
				{Range: slot.Range{From: cuts[0], To: cuts[1]}, Position: low + rapid.SampledFrom([]int64{0, 10, 700, 2000}).Draw(rt, "ahead")},
			},
			UpTo:      position.Draw(rt, "up to"),
			Limit:     rapid.SampledFrom([]int{leastSlotted, leastSlotted + 1, 1500, 2000, 6000}).Draw(rt, "limit"),
			WithSlots: rapid.Bool().Draw(rt, "with slots"),
		}
		if !slices.ContainsFunc(q.Pieces, func(p slot.Piece) bool { return p.Contains(first) }) && rapid.Bool().Draw(rt, "the large aggregate") {
			q.Pieces = append(q.Pieces, slot.Piece{Range: slot.Range{From: first, To: first + 1}, Position: low})
		}
		if rapid.Bool().Draw(rt, "a context") {
			q.BoundedContexts = []string{"shop"}
		}
		if rapid.Bool().Draw(rt, "types") {
			q.AggregateTypes = []string{"Few", "Order"}
		}
		plain := q
		q.bySlotIndex = true
		if rapid.Bool().Draw(rt, "bytes") {
			q.MaxBytes = rapid.Int64Range(600_000, 900_000).Draw(rt, "most bytes") // a block has less
		}
		sql, _, _ := s.statements.read(q)
		require.Contains(rt, sql, "unnest")
		size := rapid.SampledFrom([]int{1, 10, 300, 1000, q.Limit}).Draw(rt, "size")
		require.Equal(rt, pages(t.Context(), rt, s, pool, plain, size), pages(t.Context(), rt, s, pool, q, size))
	})
}

// A part is never larger than was asked for, though blocks may be.
func TestBlocksAreHandedOverInParts(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	fillTypes(t, pool, 5000)
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 4095, Limit: 10_000, bySlotIndex: true}
	for _, size := range []int{10, 1000, 2000} {
		var parts []int
		var bytes int64
		require.NoError(t, s.stream(t.Context(), pool, q, size, func(p Part) {
			parts = append(parts, p.Events.Len())
			bytes += p.Bytes
		}))
		assert.LessOrEqual(t, slices.Max(parts), size)
		assert.Positive(t, bytes)
		if size == 2000 {
			assert.Len(t, parts, 2, "small blocks are put together")
		}
	}
}

// What one processor reads alone is one part, however many blocks it has.
func TestAPageByTheSlotIndexHasAllBlocks(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	fillTypes(t, pool, 10_000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	q := Query{Pieces: []slot.Piece{{Range: slot.Partition{Key: 1, Total: 4}.Range()}}, UpTo: last, Limit: leastSlotted}
	want := pages(t.Context(), t, s, pool, q, q.Limit)
	db := &watching{DB: pool}
	q.Limit = len(want) + 1 // with the blocks before the last one, a part is nearly full
	page, err := s.reader().Read(t.Context(), db, q)
	require.NoError(t, err)
	var read []int64
	for i := range page.Events {
		read = append(read, page.Events[i].GlobalPosition)
	}
	assert.Equal(t, want, read)
	assert.Greater(t, len(read), 2000)
	assert.Contains(t, db.since(), "slots")
}

func TestBlocksInDisorderAreRefused(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	fillTypes(t, pool, 3000)
	sql, args, limit := s.statements.read(Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 3000, Limit: 4000})
	rows, err := pool.Query(t.Context(), strings.Replace(sql, "ORDER BY global_position", "ORDER BY global_position DESC", 1), args...)
	require.NoError(t, err)
	err = collectBlocks(rows, Query{Limit: 4000}, limit, 10, func(p Part) { assert.Fail(t, "it was handed over", p.UpTo) }, func() {})
	require.ErrorIs(t, err, errDisorder)
}

// Disorder that shows only after blocks were handed over is an error. The server runs the ranges one after the other, so it does not come.
func TestDisorderIsAnErrorOnceSomethingWasHandedOver(t *testing.T) {
	t.Parallel()
	s, _ := newResolved(t)
	r := s.reader()
	q := Query{Pieces: []slot.Piece{{Range: slot.All(), Position: 5}}, UpTo: 9000, Limit: 2000, bySlotIndex: true}
	require.NoError(t, r.learn(t.Context(), q, progress{upTo: 5}, time.Millisecond, errDisorder), "the primary key serves")
	require.ErrorIs(t, r.learn(t.Context(), q, progress{upTo: 1023}, time.Millisecond, errDisorder), errDisorder)
}

func TestAReaderUsesTheSlotIndexWhereItIsThereAndPays(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	fillTypes(t, pool, 12_000)
	last, err := s.LatestPosition(t.Context(), pool)
	require.NoError(t, err)
	r := newWatched(s, pool)
	query := Query{Pieces: eighth(0), UpTo: last, Limit: 20_000}
	read := func(q Query) []string { return r.read(t, q) }
	with := func(change func(*Query)) Query {
		q := query
		change(&q)
		return q
	}
	assert.Equal(t, []string{"look", "plain"}, read(query))
	assert.Equal(t, []string{"plain"}, read(query), "it was not there a moment ago")
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	r.at = r.at.Add(indexMissed)
	assert.Equal(t, []string{"look", "slots"}, read(query))
	assert.Equal(t, []string{"slots"}, read(query), "it was there a moment ago")
	assert.Equal(t, []string{"plain"}, read(with(func(q *Query) { q.Limit = leastSlotted - 1; q.UpTo = 5000 })), "a block may not be complete")
	assert.Equal(t, []string{"plain"}, read(with(func(q *Query) { q.UpTo = fewBlocks - 1 })), "a small read")
	half := slot.Partition{Key: 0, Total: 2}.Range()
	assert.Equal(t, []string{"plain"}, read(with(func(q *Query) { q.Pieces = []slot.Piece{{Range: half}} })), "many slots")
	quarter := slot.Partition{Key: 3, Total: 4}.Range()
	assert.Equal(t, []string{"slots"}, read(with(func(q *Query) { q.Pieces = []slot.Piece{{Range: quarter}} })))

	large := with(func(q *Query) { q.MaxBytes = 2000 })
	assert.Equal(t, []string{"slots", "plain"}, read(large), "a block has too many bytes")
	assert.Equal(t, []string{"plain"}, read(large), "it had a moment ago")
	r.at = r.at.Add(largeKeeps)
	assert.Equal(t, []string{"look", "slots"}, read(query))

	require.NoError(t, s.RemoveSlotIndex(t.Context(), pool))
	assert.Equal(t, []string{"slots"}, read(query), "it is slow without, and right")
	r.at = r.at.Add(indexKeeps)
	assert.Equal(t, []string{"look", "plain"}, read(query))
	pool.Close()
	r.at = r.at.Add(indexMissed)
	_, err = r.Read(t.Context(), r.db, query)
	require.ErrorContains(t, err, "looking for the slot index")
}

// The primary key reads positions that are too high for the index's keys. It also reads what comes after a wide hole, since the index has no entries in the hole.
func TestTheSlotIndexAtTheEndOfThePositions(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	require.NoError(t, s.InstallSlotIndex(t.Context(), pool))
	for i, position := range []int64{1, 1 << 40, slot.MostKeyed, slot.MostKeyed + 1, 1<<63 - 1} {
		exec(t, pool, `INSERT INTO events (global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
			SELECT $1, 'sales', 'Order', id, $2, gen_random_uuid(), 'Happened', '' FROM generate_series(1, 1000) AS id
			WHERE hashtextextended(id::text, 0) & 65535 BETWEEN $3 AND $4 LIMIT 1`, position, i+1, eighth(0)[0].From, eighth(0)[0].To-1)
	}
	for _, upTo := range []int64{slot.MostKeyed, slot.MostKeyed + 1, 1<<63 - 1} {
		r, db := s.reader(), &watching{DB: pool}
		var positions []int64
		require.NoError(t, r.Stream(t.Context(), db, Query{Pieces: eighth(0), UpTo: upTo, Limit: 5000}, 100, func(p Part) {
			for i := range p.Events.Len() {
				positions = append(positions, p.Events.Position(i))
			}
		}))
		want := []int64{1, 1 << 40, slot.MostKeyed, slot.MostKeyed + 1, 1<<63 - 1}
		for len(want) > 0 && want[len(want)-1] > upTo {
			want = want[:len(want)-1]
		}
		assert.Equal(t, want, positions)
		assert.Equal(t, upTo == slot.MostKeyed, slices.Contains(db.since(), "slots"), upTo)
	}
}
