package eventread

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// world is a stream over several contexts and types, and the slot of each event.
func world(t *testing.T) (*store, *pgxpool.Pool, []es.PersistedEvent, map[string]int) {
	t.Helper()
	s, pool := newStore(t)
	for i := range 120 {
		e := eventtest.Event(fmt.Sprintf("aggregate-%d", i%40))
		e.BoundedContext = []string{"sales", "billing", "it's {odd},\"\\"}[i%3]
		e.AggregateType = []string{"Order", "User", "Ünï, \"x\" NULL", "Invoice"}[i%4]
		mustAppend(t, s, pool, es.Any(), e, e)
	}
	all, err := s.ReadEvents(t.Context(), pool, 0, 1000)
	require.NoError(t, err)
	require.Len(t, all, 240)
	slots := make(map[string]int)
	rows, err := pool.Query(t.Context(), "SELECT DISTINCT aggregate_id, hashtextextended(aggregate_id, 0) & 65535 FROM events")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var id string
		var at int
		require.NoError(t, rows.Scan(&id, &at))
		slots[id] = at
	}
	require.NoError(t, rows.Err())
	return s, pool, all, slots
}

// wanted says in Go what Query says in SQL.
func wanted(q Query, e es.PersistedEvent, at int) bool {
	in := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	if e.GlobalPosition > q.UpTo || !in(q.AggregateTypes, e.AggregateType) || !in(q.BoundedContexts, e.BoundedContext) {
		return false
	}
	for _, p := range q.Pieces {
		if p.Contains(at) && e.GlobalPosition > p.Position {
			return true
		}
	}
	return false
}

func TestReadFindsExactlyTheWantedEvents(t *testing.T) {
	t.Parallel()
	s, pool, all, slots := world(t)
	last := all[len(all)-1].GlobalPosition
	rapid.Check(t, func(r *rapid.T) {
		q := Query{
			Pieces:          somePieces(last).Draw(r, "pieces"),
			UpTo:            rapid.Int64Range(0, last+3).Draw(r, "up to"),
			AggregateTypes:  rapid.SliceOfDistinct(rapid.SampledFrom([]string{"Order", "User", "Ünï, \"x\" NULL", "Nothing", ""}), rapid.ID[string]).Draw(r, "types"),
			BoundedContexts: rapid.SliceOfDistinct(rapid.SampledFrom([]string{"sales", "it's {odd},\"\\", "NULL"}), rapid.ID[string]).Draw(r, "contexts"),
			Limit:           rapid.IntRange(1, 300).Draw(r, "limit"),
		}
		var want []es.PersistedEvent
		for _, e := range all {
			if wanted(q, e, slots[e.AggregateID]) {
				want = append(want, e)
			}
		}
		upTo := q.UpTo
		if len(want) >= q.Limit {
			want = want[:q.Limit]
			upTo = want[len(want)-1].GlobalPosition
		}
		page, err := s.page(t.Context(), pool, q)
		require.NoError(r, err)
		require.Equal(r, want, page.Events)
		require.Equal(r, upTo, page.UpTo)
	})
}

// Partitions whose slots stand at one position, as nearly always, read all events between them, and none twice.
func TestPartitionsShareTheEvents(t *testing.T) {
	t.Parallel()
	s, pool, all, slots := world(t)
	borders := []int{0, slot.Count / 4, slot.Count / 2, slot.Count}
	read := 0
	for i, to := range borders[1:] {
		own := slot.Range{From: borders[i], To: to}
		page, err := s.page(t.Context(), pool, Query{Pieces: []slot.Piece{{Range: own}}, UpTo: all[len(all)-1].GlobalPosition, Limit: len(all)})
		require.NoError(t, err)
		for _, e := range page.Events {
			require.True(t, own.Contains(slots[e.AggregateID]), "slot %d is not in %v", slots[e.AggregateID], own)
		}
		require.NotEmpty(t, page.Events)
		read += len(page.Events)
	}
	assert.Equal(t, len(all), read)
}

// A reader that advances its pieces to each page's UpTo sees every event once.
func TestPagesJoinWithoutGapOrOverlap(t *testing.T) {
	t.Parallel()
	s, pool, all, slots := world(t)
	half := slot.Count / 2
	q := Query{
		Pieces: []slot.Piece{
			{Range: slot.Range{From: half, To: slot.Count}, Position: all[99].GlobalPosition},
			{Range: slot.Range{From: 0, To: half}, Position: all[19].GlobalPosition},
		},
		UpTo:  all[200].GlobalPosition,
		Limit: 7,
	}
	var want []es.PersistedEvent
	for _, e := range all {
		if wanted(q, e, slots[e.AggregateID]) {
			want = append(want, e)
		}
	}
	var got []es.PersistedEvent
	for slot.Lowest(q.Pieces) < q.UpTo {
		page, err := s.page(t.Context(), pool, q)
		require.NoError(t, err)
		got = append(got, page.Events...)
		q.Pieces = slot.Advance(q.Pieces, page.UpTo)
	}
	assert.Equal(t, want, got)
}

func TestReadRefusesAQueryThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	s := quiet()
	all := []slot.Piece{{Range: slot.All()}}
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"no pieces", Query{Limit: 1, UpTo: 1}, "Pieces must not be empty"},
		{"an empty range", Query{Pieces: append(all, slot.Piece{Range: slot.Range{From: 5, To: 5}}), Limit: 1}, "Pieces[1] must be a range that is not empty"},
		{"a range beyond the slots", Query{Pieces: []slot.Piece{{Range: slot.Range{From: 0, To: slot.Count + 1}}}, Limit: 1}, "Pieces[0] must be"},
		{
			"pieces that overlap",
			Query{Pieces: []slot.Piece{{Range: slot.Range{From: 9, To: 20}}, {Range: slot.Range{From: 0, To: 10}}}, Limit: 1},
			"Pieces must not overlap, got [0,10) and [9,20)",
		},
		{"no limit", Query{Pieces: all}, "Limit must be at least 1, got 0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := s.page(t.Context(), nil, tt.q)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAReadThatCannotFindAnythingAsksNobody(t *testing.T) {
	t.Parallel()
	q := Query{Pieces: []slot.Piece{{Range: slot.All(), Position: 10}}, UpTo: 10, Limit: 5}
	page, err := quiet().page(t.Context(), nil, q)
	require.NoError(t, err)
	assert.Equal(t, Page{UpTo: 10}, page)
}

// somePieces draws pieces that do not overlap, in any order.
func somePieces(last int64) *rapid.Generator[[]slot.Piece] {
	return rapid.Custom(func(t *rapid.T) []slot.Piece {
		borders := rapid.SliceOfNDistinct(rapid.IntRange(1, slot.Count-1), 0, 6, rapid.ID[int]).Draw(t, "borders")
		borders = append(borders, 0, slot.Count)
		slices.Sort(borders)
		var pieces []slot.Piece
		for i, to := range borders[1:] {
			p := slot.Piece{Range: slot.Range{From: borders[i], To: to}, Position: rapid.Int64Range(0, last).Draw(t, "position")}
			if rapid.IntRange(0, 3).Draw(t, "keep") > 0 {
				pieces = append(pieces, p)
			}
		}
		if len(pieces) == 0 {
			pieces = []slot.Piece{{Range: slot.All(), Position: rapid.Int64Range(0, last).Draw(t, "position")}}
		}
		return rapid.Permutation(pieces).Draw(t, "order")
	})
}

func TestStepsGiveEverySlotThePositionOfItsPiece(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pieces := somePieces(3).Draw(t, "pieces")
		before := slices.Clone(pieces)
		s := newSteps(pieces)
		wanted, level := s.within()
		filtered, outside := false, false
		for _, at := range bordersOf(pieces) {
			want := int64(math.MaxInt64)
			for _, p := range pieces {
				if p.Contains(at) {
					want = p.Position
				}
			}
			if !wanted.Contains(at) {
				outside = outside || want != math.MaxInt64
			} else {
				filtered = filtered || want != slot.Lowest(pieces)
			}
			if got := stepAt(s, at); got != want {
				t.Fatalf("slot %d has position %d, want %d", at, got, want)
			}
		}
		if level == filtered || outside {
			t.Fatalf("within() = %v, %v for %v", wanted, level, s)
		}
		if !slices.Equal(before, pieces) {
			t.Fatal("the query's pieces were changed")
		}
	})
}

// bordersOf are the slots at which a piece begins or ends, and those beside them.
func bordersOf(pieces []slot.Piece) []int {
	at := []int{0, slot.Count - 1}
	for _, p := range pieces {
		at = append(at, p.From, max(p.From-1, 0), p.To-1, min(p.To, slot.Count-1))
	}
	return at
}

// stepAt does what width_bucket does in the statement.
func stepAt(s steps, at int) int64 {
	position := int64(math.MaxInt64)
	for i := range s.from {
		if int64(at) >= s.from[i] {
			position = s.position[i]
		}
	}
	return position
}

func TestErrorsOfTheDatabaseAreWrapped(t *testing.T) {
	t.Parallel()
	_, err := quiet().page(t.Context(), pgtest.NewDatabase(t), Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 9, Limit: 1})
	require.ErrorContains(t, err, "reading events up to position 9")
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	require.True(t, ok)
	assert.Equal(t, "42P01", pgErr.Code)
}
