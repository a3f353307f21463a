package eventstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/slot"
)

func TestAPageEndsWithTheEventThatFillsItsBytes(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	large := event("order-1")
	large.Payload = make([]byte, 100_000)
	stored := mustAppend(t, s, pool, es.NoStream(), large, large, large, large, large, large, large).Events
	last := stored[len(stored)-1].GlobalPosition
	q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: 100, MaxBytes: 250_000}
	var got []es.PersistedEvent
	var sizes []int
	for slot.Lowest(q.Pieces) < last {
		page, err := s.Read(t.Context(), pool, q)
		require.NoError(t, err)
		var payloads int64
		for _, e := range page.Events {
			payloads += int64(len(e.Payload))
		}
		assert.GreaterOrEqual(t, page.Bytes, payloads)
		assert.Equal(t, page.Events[len(page.Events)-1].GlobalPosition, page.UpTo)
		got = append(got, page.Events...)
		sizes = append(sizes, len(page.Events))
		q.Pieces = slot.Lift(q.Pieces, page.UpTo)
	}
	assert.Equal(t, stored, got)
	assert.Equal(t, []int{3, 3, 1}, sizes)

	q.Pieces, q.MaxBytes = []slot.Piece{{Range: slot.All()}}, 1
	page, err := s.Read(t.Context(), pool, q)
	require.NoError(t, err)
	assert.Equal(t, stored[:1], page.Events, "there is progress whatever the bound")
}

func TestAPageNamesTheSlotsOfItsEventsWhenAsked(t *testing.T) {
	t.Parallel()
	s, pool, all, slots := world(t)
	for name, pieces := range map[string][]slot.Piece{
		"all slots": {{Range: slot.All()}},
		"some":      {{Range: slot.Range{From: 1000, To: 40000}}},
	} {
		q := Query{Pieces: pieces, UpTo: all[len(all)-1].GlobalPosition, AggregateTypes: []string{"Order", "User"}, Limit: 1000, WithSlots: true}
		page, err := s.Read(t.Context(), pool, q)
		require.NoError(t, err)
		require.NotEmpty(t, page.Events, name)
		require.Len(t, page.Slots, len(page.Events), name)
		for i, e := range page.Events {
			assert.Equal(t, slots[e.AggregateID], int(page.Slots[i]), name)
		}
		q.WithSlots = false
		without, err := s.Read(t.Context(), pool, q)
		require.NoError(t, err)
		assert.Nil(t, without.Slots, name)
		assert.Equal(t, page.Events, without.Events, name)
	}
}
