package eventstore

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// scopeIndexes are the oids of the valid and the invalid ones.
func scopeIndexes(t *testing.T, pool *pgxpool.Pool) (valid, invalid []uint32) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `
		SELECT coalesce(array_agg(indexrelid) FILTER (WHERE indisvalid), '{}'), coalesce(array_agg(indexrelid) FILTER (WHERE NOT indisvalid), '{}')
		FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indrelid = 'events'::regclass AND starts_with(relname, 'pupsourcing_scope_')`).Scan(&valid, &invalid))
	return valid, invalid
}

func TestManyInstallTheScopeIndexAtOnce(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	mustAppend(t, s, pool, es.Any(), eventsOf("a", 100)...)
	for range 2 {
		var wg sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
		defer cancel()
		for range 5 {
			wg.Go(func() { assert.NoError(t, s.InstallScopeIndex(ctx, pool)) })
		}
		wg.Go(func() {
			for range 10 {
				_, err := tryAppend(t.Context(), s, pool, es.Any(), event("a"))
				assert.NoError(t, err)
			}
		})
		wg.Wait()
		require.False(t, t.Failed())
		valid, invalid := scopeIndexes(t, pool)
		assert.Len(t, valid, 1)
		assert.Empty(t, invalid)
		require.NoError(t, s.InstallScopeIndex(t.Context(), pool))
		again, _ := scopeIndexes(t, pool)
		assert.Equal(t, valid, again, "it is not built again")
		for range 3 {
			wg.Go(func() { assert.NoError(t, s.RemoveScopeIndex(t.Context(), pool)) })
		}
		wg.Wait()
		valid, invalid = scopeIndexes(t, pool)
		assert.Empty(t, append(valid, invalid...))
	}
}

// awaitBuild returns when a build waits for a transaction that is open.
func awaitBuild(t *testing.T, pool *pgxpool.Pool) (pid int32) {
	t.Helper()
	require.Eventually(t, func() bool {
		return pool.QueryRow(t.Context(), `SELECT pid FROM pg_stat_progress_create_index WHERE index_relid <> 0 AND datname = current_database() AND relid = to_regclass('events')`).Scan(&pid) == nil
	}, deadline, 5*time.Millisecond, "the build never waited for the open transaction")
	return pid
}

func TestAnInstallOfTheScopeIndexWaitsForAnother(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	other := begin(t, pool, pgx.TxOptions{})
	_, err := other.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", s.indexKey())
	require.NoError(t, err)
	ours := background(func() error { return s.InstallScopeIndex(t.Context(), pool) })
	tries := map[time.Time]bool{}
	require.Eventually(t, func() bool {
		var at time.Time // it takes back its transaction after each attempt
		if pool.QueryRow(t.Context(), "SELECT state_change FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK' ORDER BY 1 DESC LIMIT 1").Scan(&at) == nil {
			tries[at] = true
		}
		return len(tries) > 1 || len(ours) > 0
	}, deadline, 10*time.Millisecond, "the install never waited")
	require.Empty(t, ours, "it did not wait")
	assert.False(t, byScope.isThere(t, s, pool))
	require.NoError(t, other.Commit(t.Context()))
	require.NoError(t, await(t, ours))
	assert.True(t, byScope.isThere(t, s, pool))
}

// Somebody else's build takes no advisory lock, and its index is not valid until it is finished.
func TestAnIndexThatSomebodyElseFinishesIsNotBuiltAgain(t *testing.T) {
	t.Parallel()
	s, pool := newResolved(t)
	open := appending(t, s, pool)
	theirs := background(func() error {
		_, err := pool.Exec(t.Context(), "CREATE INDEX CONCURRENTLY "+s.indexName(scopeIndex)+" ON events (aggregate_type, global_position)")
		return err
	})
	awaitBuild(t, pool)
	_, built := scopeIndexes(t, pool)
	require.Len(t, built, 1)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	require.Equal(t, "55P03", dbfault.Code(s.dropIndexes(ctx, pool, scopeIndex, false)), "it is being built")
	ours := background(func() error { return s.InstallScopeIndex(t.Context(), pool) })
	require.NoError(t, open.Commit(t.Context()))
	require.NoError(t, await(t, theirs))
	require.NoError(t, await(t, ours))
	require.NoError(t, s.dropIndexes(ctx, pool, scopeIndex, false), "a caller that came before it was finished")
	valid, invalid := scopeIndexes(t, pool)
	assert.Equal(t, built, valid)
	assert.Empty(t, invalid)
}

func TestABuildThatIsCancelledLeavesNothing(t *testing.T) {
	t.Parallel()
	s, pool := newStore(t)
	before := indexes(t, pool, "events")
	open := appending(t, s, pool)
	ours := background(func() error { return s.InstallScopeIndex(t.Context(), pool) })
	exec(t, pool, "SELECT pg_cancel_backend($1)", awaitBuild(t, pool))
	require.NoError(t, open.Commit(t.Context()))
	assert.Equal(t, "57014", dbfault.Code(await(t, ours)))
	assert.Equal(t, before, indexes(t, pool, "events"), "each append pays for an index that is left")

	open = appending(t, s, pool)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ours = background(func() error { return s.InstallScopeIndex(ctx, pool) })
	pid := awaitBuild(t, pool)
	cancel()
	require.Eventually(t, func() bool {
		var builds bool
		return pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE pid = $1)`, pid).Scan(&builds) == nil && !builds
	}, deadline, 5*time.Millisecond, "the build never ended")
	require.NoError(t, open.Commit(t.Context()))
	require.ErrorIs(t, await(t, ours), context.Canceled)
	_, invalid := scopeIndexes(t, pool)
	assert.Empty(t, invalid)
}

// A removal marks the index invalid, and then waits for the transactions that may read by it. Appends maintain it meanwhile.
func TestARemovalThatWasInterruptedIsFinishedByTheNext(t *testing.T) {
	pgtest.SkipBehindPooler(t, "nobody can be named who holds up a session that changes with each statement")
	eachIndex(t, func(t *testing.T, index, _ optionalIndex) {
		_, pool := newStore(t)
		log := logbook.New(slog.LevelInfo, deadline)
		s := New(WithLogger(log.Logger()))
		unfinished := map[string]func(*Store, context.Context, DB) (bool, error){
			"scope": (*Store).HasUnfinishedScopeIndex, "slot": (*Store).HasUnfinishedSlotIndex,
		}[index.name]
		is := func() bool {
			is, err := unfinished(s, t.Context(), pool)
			require.NoError(t, err)
			return is
		}
		before := indexes(t, pool, "events")
		require.NoError(t, index.install(s, t.Context(), pool))
		require.False(t, is())
		open := begin(t, pool, pgx.TxOptions{})
		_, err := open.Exec(t.Context(), "SET LOCAL application_name = 'a report'; SELECT 1 FROM events")
		require.NoError(t, err)
		holder := backendOf(t, open)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		removed := background(func() error { return index.remove(s, ctx, pool) })
		log.AwaitLine(t, fmt.Sprintf("pid %d (a report)", holder))
		require.True(t, is())
		cancel()
		err = await(t, removed)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, fmt.Sprintf("it waited for pid %d (a report) to end its transaction", holder))
		require.ErrorContains(t, err, "slows down each append until another install or removal succeeds")
		assert.False(t, index.isThere(t, s, pool))
		require.True(t, is())
		assert.Equal(t, before+1, indexes(t, pool, "events"))

		require.NoError(t, open.Rollback(t.Context()))
		require.NoError(t, index.remove(s, t.Context(), pool))
		assert.False(t, is())
		assert.Equal(t, before, indexes(t, pool, "events"))
	})
}
