package batchtx_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// A handler may leave a goroutine behind that goes on to write. Its batch has ended, so the writes would be committed by themselves, or with another batch.
func TestNothingIsWrittenAfterTheEnd(t *testing.T) {
	for name, end := range map[string]func(*testing.T, *batchtx.Tx){
		"commit": func(t *testing.T, tx *batchtx.Tx) { require.NoError(t, tx.CommitWith(t.Context())) },
		"abort":  func(t *testing.T, tx *batchtx.Tx) { require.False(t, tx.Abort(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			pool := pgtest.NewDatabase(t)
			_, err := pool.Exec(t.Context(), "CREATE TABLE words (word text)")
			require.NoError(t, err)
			tx := beginOn(t, pool, batchtx.Settings{ApplicationName: "batch"})
			own := batchtx.Guard(tx)
			inner, err := own.Begin(t.Context())
			require.NoError(t, err)
			end(t, tx)
			requireRefused(t, own)
			requireRefused(t, inner)
			require.ErrorIs(t, inner.Commit(t.Context()), pgx.ErrTxClosed)
			require.ErrorIs(t, inner.Rollback(t.Context()), pgx.ErrTxClosed)
			assert.Empty(t, words(t, pool))
		})
	}
}

// requireRefused requires that each way to write returns an error.
func requireRefused(t *testing.T, tx pgx.Tx) {
	t.Helper()
	const insert = "INSERT INTO words VALUES ('late') RETURNING word"
	_, err := tx.Exec(t.Context(), insert)
	require.ErrorIs(t, err, pgx.ErrTxClosed)
	rows, err := tx.Query(t.Context(), insert)
	require.ErrorIs(t, err, pgx.ErrTxClosed)
	require.ErrorIs(t, rows.Err(), pgx.ErrTxClosed)
	var word string
	require.ErrorIs(t, tx.QueryRow(t.Context(), insert).Scan(&word), pgx.ErrTxClosed)
	var batch pgx.Batch
	batch.Queue(insert)
	require.ErrorIs(t, tx.SendBatch(t.Context(), &batch).Close(), pgx.ErrTxClosed)
	_, err = tx.CopyFrom(t.Context(), pgx.Identifier{"words"}, []string{"word"}, pgx.CopyFromRows([][]any{{"late"}}))
	require.ErrorIs(t, err, pgx.ErrTxClosed)
	_, err = tx.Begin(t.Context())
	require.ErrorIs(t, err, pgx.ErrTxClosed)
}
