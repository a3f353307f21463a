package eventstore

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
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
	awaitBuild(t, pool)
	cancel()
	require.NoError(t, open.Commit(t.Context()))
	require.ErrorIs(t, await(t, ours), context.Canceled)
	_, invalid := scopeIndexes(t, pool) // the server may have finished it before it heard
	assert.Empty(t, invalid)
}
