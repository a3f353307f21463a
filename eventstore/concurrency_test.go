package eventstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestPositionsAscendWithVersionsInEveryAppendOfConcurrentAppenders(t *testing.T) {
	t.Parallel()
	const appenders, appends, size = 8, 6, 300
	s, pool := newStore(t)
	results := make([][]es.AppendResult, appenders)
	var wg sync.WaitGroup
	for a := range appenders {
		wg.Go(func() {
			for range appends {
				result, err := tryAppend(t.Context(), s, pool, es.Any(), eventsOf(fmt.Sprintf("order-%d", a), size)...)
				if !assert.NoError(t, err) {
					return
				}
				results[a] = append(results[a], result)
			}
		})
	}
	wg.Wait()

	for a := range appenders {
		require.Len(t, results[a], appends)
		for i, r := range results[a] {
			require.Len(t, r.Events, size)
			require.True(t, slices.IsSorted(r.GlobalPositions), "append %d of appender %d", i, a)
			for n, e := range r.Events {
				require.Equal(t, int64(i*size+n+1), e.AggregateVersion)
				require.Equal(t, r.GlobalPositions[n], e.GlobalPosition)
				require.Equal(t, fmt.Sprint(n), string(e.Payload))
			}
		}
		stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", fmt.Sprintf("order-%d", a), nil, nil)
		require.NoError(t, err)
		require.Len(t, stream.Events, appends*size)
		for i, e := range stream.Events {
			require.Equal(t, fmt.Sprint(i%size), string(e.Payload), "stored in the order given")
			require.True(t, i == 0 || e.GlobalPosition > stream.Events[i-1].GlobalPosition)
		}
	}
}

func TestOneOfManyAppendersThatExpectTheSameVersionWins(t *testing.T) {
	t.Parallel()
	const appenders = 8
	s, pool := newStore(t)
	for version := range int64(10) {
		expected := es.Exact(version)
		if version == 0 {
			expected = es.NoStream()
		}
		var wg sync.WaitGroup
		errs := make([]error, appenders)
		for a := range appenders {
			wg.Go(func() {
				_, errs[a] = tryAppend(t.Context(), s, pool, expected, event("order-1"))
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
				continue
			}
			require.ErrorIs(t, err, ErrOptimisticConcurrency)
			require.ErrorContains(t, err, fmt.Sprintf("it is at version %d", version+1))
		}
		require.Equal(t, 1, won)
	}
}

func TestAnyNeverFailsBecauseOfAnotherAppendToTheSameAggregate(t *testing.T) {
	t.Parallel()
	const appenders, appends = 8, 15
	s, pool := newStore(t)
	var wg sync.WaitGroup
	for range appenders {
		wg.Go(func() {
			for range appends {
				_, err := tryAppend(t.Context(), s, pool, es.Any(), eventsOf("order-1", 2)...)
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-1", nil, nil)
	require.NoError(t, err)
	require.Len(t, stream.Events, appenders*appends*2)
	require.Equal(t, int64(appenders*appends*2), stream.Version())
}

func TestAnAppendWaitsForTheOtherAndComparesWithWhatItLeft(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), eventsOf("existing", 2)...)
	headless := []string{"headless-0", "headless-1"}
	for _, id := range headless {
		mustAppend(t, s, pool, es.NoStream(), eventsOf(id, 2)...)
	}
	_, err := pool.Exec(t.Context(), "DELETE FROM aggregate_heads WHERE aggregate_id LIKE 'headless-%'")
	require.NoError(t, err)
	tests := []struct {
		name        string
		id          string
		expected    es.ExpectedVersion
		otherKeeps  bool // the other transaction commits
		wantVersion int64
		conflict    bool
	}{
		{"any version after a commit", "new-1", es.Any(), true, 4, false},
		{"any version after a rollback", "new-2", es.Any(), false, 1, false},
		{"no stream after a commit", "new-3", es.NoStream(), true, 3, true},
		{"no stream after a rollback", "new-4", es.NoStream(), false, 1, false},
		{"any version of an aggregate without a head", "headless-0", es.Any(), true, 6, false},
		{"a version of an aggregate without a head", "headless-1", es.Exact(2), true, 5, true},
		{"a version after a commit", "existing", es.Exact(2), true, 5, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			first, second := begin(t, pool, pgx.TxOptions{}), begin(t, pool, pgx.TxOptions{})
			_, err := s.Append(t.Context(), first, es.Any(), eventsOf(tt.id, 3))
			require.NoError(t, err)
			done := appendBehind(t, s, pool, second, tt.expected, event(tt.id))
			if tt.otherKeeps {
				require.NoError(t, first.Commit(t.Context()))
			} else {
				require.NoError(t, first.Rollback(t.Context()))
			}
			o := receive(t, done)
			if !tt.conflict {
				require.NoError(t, o.err)
				require.Equal(t, tt.wantVersion, o.result.ToVersion())
				return
			}
			require.ErrorIs(t, o.err, ErrOptimisticConcurrency)
			require.ErrorContains(t, o.err, fmt.Sprintf("it is at version %d", tt.wantVersion))
			require.Equal(t, byte('T'), second.Conn().PgConn().TxStatus(), "the transaction must be usable after a conflict")
			_, err = s.Append(t.Context(), second, es.Exact(tt.wantVersion), eventsOf(tt.id, 1))
			require.NoError(t, err)
		})
	}
}

// The horizon counts on it: whoever owns a position holds the table's lock since
// before it was drawn, and while an append waits, it owns none.
func TestAppendHoldsTheTablesLockBeforeItDrawsAPosition(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	first, second := begin(t, pool, pgx.TxOptions{}), begin(t, pool, pgx.TxOptions{})
	result, err := s.Append(t.Context(), first, es.Any(), eventsOf("order-1", 3))
	require.NoError(t, err)
	appender := backendOf(t, second)
	done := appendBehind(t, s, pool, second, es.Any(), event("order-1"))

	var last int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT last_value FROM events_global_position_seq").Scan(&last))
	var locked bool
	require.NoError(t, pool.QueryRow(t.Context(), `
		SELECT EXISTS (SELECT FROM pg_locks WHERE pid = $1 AND relation = 'events'::regclass AND mode = 'RowExclusiveLock' AND granted)`,
		appender).Scan(&locked))

	assert.Equal(t, result.GlobalPositions[2], last)
	assert.True(t, locked)
	require.NoError(t, first.Commit(t.Context()))
	require.NoError(t, receive(t, done).err)
}

func TestStricterIsolationLevelsAnswerAConcurrentAppendThemselves(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.NoStream(), event("order-1"))
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			tx := begin(t, pool, pgx.TxOptions{IsoLevel: level})
			before, err := s.LatestPosition(t.Context(), tx) // takes the snapshot
			require.NoError(t, err)
			require.Positive(t, before)
			mustAppend(t, s, pool, es.Any(), event("order-1"))

			_, err = s.Append(t.Context(), tx, es.Any(), eventsOf("order-1", 1))

			pgErr, ok := errors.AsType[*pgconn.PgError](err)
			require.True(t, ok, "got %v", err)
			assert.Equal(t, "40001", pgErr.Code)
			assert.NotErrorIs(t, err, ErrOptimisticConcurrency)
		})
	}
}

// appendLikePupsourcing does what pupsourcing's appender does: it reads the
// head without a lock, inserts, and sets the head.
func appendLikePupsourcing(ctx context.Context, pool *pgxpool.Pool, id string) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var version int64
		err := tx.QueryRow(ctx, "SELECT coalesce(max(aggregate_version), 0) FROM aggregate_heads WHERE aggregate_id = $1", id).Scan(&version)
		if err != nil {
			return err
		}
		for range 2 {
			version++
			_, err = tx.Exec(ctx, `
				INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
				VALUES ('sales', 'Order', $1, $2, gen_random_uuid(), 'OrderPlaced', '')`, id, version)
			if err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO aggregate_heads (bounded_context, aggregate_type, aggregate_id, aggregate_version)
			VALUES ('sales', 'Order', $1, $2)
			ON CONFLICT (bounded_context, aggregate_type, aggregate_id) DO UPDATE SET aggregate_version = $2, updated_at = now()`, id, version)
		return err
	})
}

func TestPupsourcingsAppenderCanRunBesideThisOne(t *testing.T) {
	t.Parallel()
	pgtest.SkipBehindPooler(t, "PgBouncer refuses settings at the start of a connection")
	const appenders, appends = 3, 20
	s, base := newStore(t)
	var superuser string
	require.NoError(t, base.QueryRow(t.Context(), "SHOW is_superuser").Scan(&superuser))
	if superuser != "on" {
		t.Skip("shortening deadlock_timeout takes a superuser")
	}
	config := base.Config()
	config.ConnConfig.RuntimeParams["deadlock_timeout"] = "10ms"
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var stored atomic.Int64
	var wg sync.WaitGroup
	for range appenders {
		wg.Go(func() {
			for range appends {
				if appendLikePupsourcing(t.Context(), pool, "order-1") == nil {
					stored.Add(2)
				}
			}
		})
		wg.Go(func() {
			for range appends {
				if _, err := tryAppend(t.Context(), s, pool, es.Any(), eventsOf("order-1", 2)...); err == nil {
					stored.Add(2)
				}
			}
		})
	}
	wg.Wait()

	stream, err := s.ReadAggregateStream(t.Context(), pool, "sales", "Order", "order-1", nil, nil)
	require.NoError(t, err)
	require.Equal(t, stored.Load(), int64(stream.Len()))
	require.Positive(t, stream.Len())
	for i, e := range stream.Events {
		require.Equal(t, int64(i+1), e.AggregateVersion)
	}
	mustAppend(t, s, pool, es.Exact(stored.Load()), event("order-1"))
}
