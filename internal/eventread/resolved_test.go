package eventread

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/eventtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A reader of a resolved store reads the events table that was there, whatever a connection finds by that name now.
func TestAReaderOfAResolvedStoreIsNotMisled(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it changes sessions")
	s, pool := newResolved(t)
	mustAppend(t, s, pool, es.NoStream(), eventtest.Numbered("a", 3)...)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), `
		CREATE SCHEMA other;
		CREATE TABLE other.events (LIKE public.events INCLUDING ALL);
		CREATE TEMP TABLE events (LIKE public.events INCLUDING ALL);
		SET search_path = other`)
	require.NoError(t, err)
	r := s.reader()
	page, err := r.Read(t.Context(), conn, Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 3, Limit: 10})
	require.NoError(t, err)
	assert.Len(t, page.Events, 3)
	page, err = r.Read(t.Context(), conn, Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: 100, Limit: 10, AggregateTypes: []string{"None"}})
	require.NoError(t, err)
	assert.Equal(t, Page{UpTo: 100}, page)
}
