package eventread

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// fillSlowly stores n events of one aggregate whose slot takes the server some 75 µs to compute, with three of others among them: the first,
// the last and one in the middle. It returns the pieces of all slots but the aggregate's.
func fillSlowly(t *testing.T, pool *pgxpool.Pool, n int) []slot.Piece {
	t.Helper()
	exec(t, pool, "ALTER TABLE events DROP CONSTRAINT events_bounded_context_aggregate_type_aggregate_id_aggregat_key") // it would compare the ids
	exec(t, pool, `CREATE TABLE long AS SELECT repeat('x', 150000) AS id`)                                              // compressed here, it need not be compressed for each event
	exec(t, pool, fmt.Sprintf(`
		INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'shop', 'Order', CASE WHEN i IN (1, %[1]d / 2, %[1]d) THEN i::text ELSE long.id END, i, gen_random_uuid(), 'Happened', ''
		FROM generate_series(1, %[1]d) AS i, long ORDER BY i`, n))
	var long int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT hashtextextended(id, 0) & 65535 FROM long").Scan(&long))
	return []slot.Piece{{Range: slot.Range{From: 0, To: long}}, {Range: slot.Range{From: long + 1, To: slot.Count}}}
}

// impatient is a pool like another, where the server ends what takes long.
func impatient(t *testing.T, pool *pgxpool.Pool, setting string) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SET "+setting+" = '50ms'")
		return err
	}
	own, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(own.Close)
	return own
}

// A read that takes longer than a timeout of the server would be repeated forever. By the primary key and by the index: it goes on in
// smaller steps, and each keeps what it has passed over.
func TestReadsLongerThanATimeoutGoOnInSteps(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it sets a timeout for a session")
	s, pool := newResolved(t)
	readsGoOnInSteps(t, s, pool, "statement_timeout")
}

func TestReadsLongerThanATransactionTimeoutGoOnInSteps(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "it has a server of its own")
	pool, err := pgxpool.New(t.Context(), pgtest.OwnVersion(t, 17, pgtest.Options{}).DSN("postgres"))
	require.NoError(t, err)
	defer pool.Close()
	require.NoError(t, eventstore.RunMigrations(pool, eventstore.WithLogger(nil)))
	readsGoOnInSteps(t, resolved(t, quiet(), pool), pool, "transaction_timeout")
}

func readsGoOnInSteps(t *testing.T, s *store, pool *pgxpool.Pool, setting string) {
	t.Helper()
	const events = 3000
	pieces := fillSlowly(t, pool, events)
	own := impatient(t, pool, setting)
	ctx, cancel := context.WithTimeout(t.Context(), 3*deadline)
	defer cancel()
	q := Query{Pieces: pieces, UpTo: events, Limit: 100, AggregateTypes: []string{"Order"}}
	for _, byIndex := range []bool{false, true} {
		if q.byScopeIndex = byIndex; byIndex {
			require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
		}
		_, err := s.page(t.Context(), own, q)
		require.Error(t, err, "%d events must take longer than the timeout", events)

		var found []int64
		r, parts, reached := s.reader(), 0, int64(0)
		for reached < q.UpTo {
			rest := q
			rest.Pieces = slot.Advance(q.Pieces, reached)
			err := r.Stream(ctx, own, rest, 10, func(p Part) {
				assert.Greater(t, p.UpTo, reached)
				reached = p.UpTo
				parts++
				for i := range p.Events.Len() {
					found = append(found, p.Events.Position(i))
				}
			})
			// Where the machine is busy, other statements are late too.
			require.True(t, err == nil || dbfault.IsCutShort(err), err)
		}
		assert.Equal(t, []int64{1, events / 2, events}, found)
		assert.EqualValues(t, events, reached)
		assert.Greater(t, parts, 3, "each statement ends a part")

		found, reached = nil, 0
		for r = s.reader(); reached < q.UpTo; {
			rest := q
			rest.Pieces = slot.Advance(q.Pieces, reached)
			page, err := r.Read(ctx, own, rest)
			if dbfault.IsCutShort(err) {
				continue
			}
			require.NoError(t, err)
			require.Greater(t, page.UpTo, reached)
			reached = page.UpTo
			for _, e := range page.Events {
				found = append(found, e.GlobalPosition)
			}
		}
		assert.Equal(t, []int64{1, events / 2, events}, found)
	}
}

func TestAStreamOfSeveralStatementsKeepsItsBounds(t *testing.T) {
	t.Parallel()
	s, pool, all, _ := world(t)
	last := all[len(all)-1].GlobalPosition
	for bound, change := range map[string]func(*Query){
		"all":   func(*Query) {},
		"limit": func(q *Query) { q.Limit = 17 },
		"bytes": func(q *Query) { q.MaxBytes = 3000 },
	} {
		q := Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: len(all) + 1}
		change(&q)
		want, err := s.page(t.Context(), pool, q)
		require.NoError(t, err)
		r := s.reader()
		r.density(q).byKey = span{first: 5, positions: 5}
		var got Page
		require.NoError(t, r.Stream(t.Context(), pool, q, 3, func(p Part) {
			got.Events = append(got.Events, p.Events.All()...)
			got.UpTo = p.UpTo
		}))
		assert.Equal(t, want.Events, got.Events, bound)
		assert.Equal(t, want.UpTo, got.UpTo, bound)
	}
}

func TestSpansFollowWhatStatementsTake(t *testing.T) {
	t.Parallel()
	s := newSpan(firstSpan)
	assert.EqualValues(t, 10, s.end(3, 10), "the horizon is near")
	assert.EqualValues(t, 3+firstSpan, s.end(3, math.MaxInt64))
	s.passed(firstSpan, quickRead)
	s.passed(firstSpan-1, 0)
	assert.EqualValues(t, firstSpan, s.positions, "it was not quick, or ended before the span")
	for range 100 {
		s.passed(s.positions, 0)
	}
	assert.EqualValues(t, widestSpan, s.positions, "a hole")
	assert.EqualValues(t, math.MaxInt64, s.end(math.MaxInt64-1, math.MaxInt64))
	s.passed(s.positions, 2*slowRead)
	assert.EqualValues(t, firstSpan, s.positions, "the hole has ended")

	assert.True(t, s.cut(firstSpan, 40*time.Millisecond))
	assert.EqualValues(t, firstSpan/4, s.positions)
	s.passed(s.positions, 15*time.Millisecond)
	assert.EqualValues(t, firstSpan/4, s.positions, "four times as many would take too long")
	s.passed(s.positions, 5*time.Millisecond)
	assert.EqualValues(t, firstSpan/2, s.positions)
	assert.True(t, s.cut(widestSpan, time.Hour))
	assert.EqualValues(t, firstSpan, s.positions)
	assert.True(t, s.cut(2, 0))
	assert.EqualValues(t, 1, s.positions)
	assert.False(t, s.cut(1, 0), "there is nothing smaller to try")
	for range 2000 {
		s.passed(s.positions, time.Microsecond)
	}
	assert.EqualValues(t, widestSpan, s.positions, "nothing is remembered forever")
}

// What is repeated over fewer positions, and what is told to the caller.
func TestOnlyTimeoutsOfTheServerAreRepeated(t *testing.T) {
	t.Parallel()
	q := Query{Pieces: []slot.Piece{{Range: slot.All(), Position: 10}}, UpTo: 1010}
	r := quiet().reader()
	for _, code := range []string{"57014", "25P04"} {
		require.NoError(t, r.learn(t.Context(), q, progress{upTo: 10}, time.Second, &pgconn.PgError{Code: code}), code)
		assert.EqualValues(t, 250, r.density(q).byKey.positions)
	}
	require.ErrorIs(t, r.learn(t.Context(), q, progress{upTo: 10}, time.Second, dbguard.ErrNoAnswer), dbguard.ErrNoAnswer)
	other := errors.New("other")
	require.ErrorIs(t, r.learn(t.Context(), q, progress{upTo: 10}, time.Second, other), other)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, r.learn(ended, q, progress{upTo: 10}, time.Second, &pgconn.PgError{Code: "57014"}))
	q.UpTo = 11
	require.Error(t, r.learn(t.Context(), q, progress{upTo: 10}, time.Second, &pgconn.PgError{Code: "57014"}), "one position takes too long")
}
