package horizon

import (
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// onEachVersion runs a test on the server of the other tests, and on those of other versions that can be had.
func onEachVersion(t *testing.T, test func(t *testing.T, pool *pgxpool.Pool)) {
	t.Run("default", func(t *testing.T) { test(t, newEvents(t)) })
	for _, major := range []int{14, 17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			test(t, eventsOf(t, pgtest.OwnVersion(t, major, pgtest.Options{})))
		})
	}
}

// Numbers that a session holds in its cache are dead once ALTER SEQUENCE has been committed, because it gives the sequence
// another file. It waits for all transactions that have drawn.
func TestAlteringTheSequenceDiscardsWhatSessionsHold(t *testing.T) {
	onEachVersion(t, func(t *testing.T, pool *pgxpool.Pool) {
		filenode := func() (node uint32) {
			require.NoError(t, pool.QueryRow(t.Context(), `SELECT pg_relation_filenode('events_global_position_seq')`).Scan(&node))
			return node
		}
		before := filenode()
		for _, change := range []string{"CACHE 20", "CYCLE", "NO CYCLE", "INCREMENT 1", "MINVALUE 1", "RESTART"} {
			exec(t, pool, `ALTER SEQUENCE events_global_position_seq `+change)
			after := filenode()
			assert.NotEqual(t, before, after, change)
			before = after
		}
		session := dial(t, pool)
		assert.Equal(t, int64(1), insert(t, session))
		assert.Equal(t, int64(2), insert(t, session))
		assert.Equal(t, int64(21), insert(t, dial(t, pool)))

		tx := begin(t, session)
		assert.Equal(t, int64(3), insert(t, tx))
		impatient, err := pgx.ConnectConfig(t.Context(), pool.Config().ConnConfig)
		require.NoError(t, err)
		_, err = impatient.Exec(t.Context(), `SET lock_timeout = '50ms'; ALTER SEQUENCE events_global_position_seq CACHE 1`)
		require.ErrorContains(t, err, "55P03", "somebody has drawn")
		require.NoError(t, impatient.Close(t.Context()))
		require.NoError(t, tx.Commit(t.Context()))
		exec(t, pool, `ALTER SEQUENCE events_global_position_seq CACHE 1`)
		assert.Equal(t, int64(41), insert(t, session), "it does not draw 4")
	})
}
