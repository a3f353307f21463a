package eventread

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
)

func TestAPageEndsWithTheEventThatFillsItsBytes(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	large := eventtest.Event("order-1")
	large.Payload = make([]byte, 100_000)
	stored := mustAppend(t, s, pool, es.NoStream(), large, large, large, large, large, large, large).Events
	last := stored[len(stored)-1].GlobalPosition
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: 100, MaxBytes: 250_000}
	var got []es.PersistedEvent
	var sizes []int
	for slot.Lowest(q.Pieces) < last {
		page, err := s.page(t.Context(), pool, q)
		require.NoError(t, err)
		var payloads int64
		for _, e := range page.Events {
			payloads += int64(len(e.Payload))
		}
		assert.GreaterOrEqual(t, page.Bytes, payloads)
		assert.Equal(t, page.Events[len(page.Events)-1].GlobalPosition, page.UpTo)
		got = append(got, page.Events...)
		sizes = append(sizes, len(page.Events))
		q.Pieces = slot.Advance(q.Pieces, page.UpTo)
	}
	assert.Equal(t, stored, got)
	assert.Equal(t, []int{3, 3, 1}, sizes)

	q.Pieces, q.MaxBytes = []slot.Piece{{Range: slot.All()}}, 1
	page, err := s.page(t.Context(), pool, q)
	require.NoError(t, err)
	assert.Equal(t, stored[:1], page.Events, "there is progress whatever the bound")
}

// parts are the parts of a read.
func parts(t *testing.T, s *store, db DB, q Query, size int) []Part {
	t.Helper()
	var all []Part
	require.NoError(t, s.stream(t.Context(), db, q, size, func(p Part) { all = append(all, p) }))
	return all
}

func TestAStreamNamesTheSlotsOfItsEventsWhenAsked(t *testing.T) {
	t.Parallel()
	s, pool, all, slots := world(t)
	for name, pieces := range map[string][]slot.Piece{
		"all slots": {{Range: slot.All()}},
		"some":      {{Range: slot.Range{From: 1000, To: 40000}}},
	} {
		q := Query{Pieces: pieces, UpTo: all[len(all)-1].GlobalPosition, AggregateTypes: []string{"Order", "User"}, Limit: 1000, WithSlots: true}
		events := parts(t, s, pool, q, q.Limit)[0].Events
		require.Positive(t, events.Len(), name)
		for i := range events.Len() {
			assert.Equal(t, slots[events.At(i).AggregateID], events.Slot(i), name)
		}
		q.WithSlots = false
		without := parts(t, s, pool, q, q.Limit)[0].Events
		assert.Equal(t, events.All(), without.All(), name)
		assert.Zero(t, without.Slot(0), name)
	}
}

// Whatever the size of parts, and whatever ends the read: the parts follow each other, and hold what a page holds.
func TestAStreamsPartsMakeItsPage(t *testing.T) {
	t.Parallel()
	s, pool, all, _ := world(t)
	last := all[len(all)-1].GlobalPosition
	queries := map[string]Query{
		"to its end":        {UpTo: last + 10, Limit: len(all) + 1},
		"to just its limit": {UpTo: last + 10, Limit: len(all)},
		"within its limit":  {UpTo: last, Limit: 17},
		"within its bytes":  {UpTo: last, Limit: 1000, MaxBytes: 3000},
		"of a few":          {UpTo: last, Limit: 1000, AggregateTypes: []string{"User"}},
		"of nothing":        {UpTo: last, Limit: 1000, AggregateTypes: []string{"None"}},
		"up to where it is": {UpTo: 0, Limit: 10},
	}
	for name, q := range queries {
		q.Pieces = []slot.Piece{{Range: slot.All()}}
		page, err := s.page(t.Context(), pool, q)
		require.NoError(t, err)
		for _, size := range []int{1, 2, 5, 17, len(all), len(all) + 1} {
			what := fmt.Sprintf("%s in parts of %d", name, size)
			got := parts(t, s, pool, q, size)
			require.NotEmpty(t, got, what)
			var events []es.PersistedEvent
			var bytes int64
			for i, p := range got {
				n := p.Events.Len()
				assert.LessOrEqual(t, n, size, what)
				if i < len(got)-1 {
					assert.Equal(t, size, n, what)
					assert.Equal(t, p.Events.Position(n-1), p.UpTo, what)
				}
				events = append(events, p.Events.All()...)
				bytes += p.size
			}
			assert.Equal(t, page.Events, events, what)
			assert.Equal(t, page.UpTo, got[len(got)-1].UpTo, what)
			assert.Equal(t, page.Bytes, bytes, what)
		}
	}
	require.ErrorContains(t, s.stream(t.Context(), pool, queries["of a few"], 0, nil), "Pieces must not be empty")
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: 10}
	require.ErrorContains(t, s.stream(t.Context(), pool, q, 0, nil), "size must be at least 1, got 0")
}

// A connection that breaks in the middle: what was taken is right, and the error is told.
func TestAStreamThatBreaksHasGivenNothingWrong(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	stored := mustAppend(t, s, pool, es.NoStream(), slices.Repeat([]es.Event{eventtest.Event("order-1")}, 20)...).Events
	var large []byte // more than any buffer on the way holds; it would take the client seconds to encode it
	require.NoError(t, pool.QueryRow(t.Context(), `WITH changed AS (UPDATE events SET payload = convert_to(repeat('x', 1 << 20), 'UTF8') RETURNING payload)
		SELECT payload FROM changed LIMIT 1`).Scan(&large))
	for i := range stored {
		stored[i].Payload = large
	}
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: stored[len(stored)-1].GlobalPosition, Limit: 1000}
	var got []es.PersistedEvent
	err = s.stream(t.Context(), conn.Conn(), q, 1, func(p Part) {
		if got = append(got, p.Events.All()...); len(got) == 2 {
			// The backend is looked for, since a pooler shows its client another process id.
			tag, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%FROM "events"%ORDER BY global_position LIMIT%'`)
			assert.NoError(t, err)
			assert.EqualValues(t, 1, tag.RowsAffected())
		}
	})
	require.ErrorContains(t, err, "reading events up to position")
	require.GreaterOrEqual(t, len(got), 2)
	require.Less(t, len(got), len(stored))
	assert.Equal(t, stored[:len(got)], got)
	require.NoError(t, pool.Ping(t.Context()))
}
