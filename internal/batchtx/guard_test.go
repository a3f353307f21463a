package batchtx_test

import (
	"context"
	"io"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// forms are the ways to make a transaction for handlers. open returns it, and
// end, which commits.
var forms = map[string]func(t *testing.T, conn *pgx.Conn) (tx pgx.Tx, end func()){
	"of a pgx.Tx": func(t *testing.T, conn *pgx.Conn) (pgx.Tx, func()) {
		own, err := conn.Begin(t.Context())
		require.NoError(t, err)
		return batchtx.Guard(own), func() { require.NoError(t, own.Commit(t.Context())) }
	},
	"of a pipelined pgx.Tx": func(t *testing.T, conn *pgx.Conn) (pgx.Tx, func()) {
		var batch pgx.Batch
		batch.BeginTx(pgx.TxOptions{})
		batch.Queue(`SELECT 1`)
		results := conn.SendBatch(t.Context(), &batch)
		own := results.Tx()
		require.NoError(t, results.Close())
		return batchtx.Guard(own), func() { require.NoError(t, own.Commit(t.Context())) }
	},
}

// inEachForm runs a test with a transaction of each form on a database with an
// empty table words. committed are the words that are there after the commit.
func inEachForm(t *testing.T, test func(t *testing.T, tx pgx.Tx), committed ...string) {
	for name, open := range forms {
		t.Run(name, func(t *testing.T) {
			pool := pgtest.NewDatabase(t)
			_, err := pool.Exec(t.Context(), `CREATE TABLE words (word text)`)
			require.NoError(t, err)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			tx, end := open(t, conn.Conn())
			test(t, tx)
			assert.Empty(t, words(t, pool), "nothing is committed before the end")
			end()
			assert.Equal(t, committed, words(t, pool))
		})
	}
}

func words(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT word FROM words ORDER BY word`)
	require.NoError(t, err)
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return found
}

func say(t *testing.T, tx pgx.Tx, word string) {
	t.Helper()
	_, err := tx.Exec(t.Context(), `INSERT INTO words VALUES ($1)`, word)
	require.NoError(t, err)
}

func TestGuardRefusesToEnd(t *testing.T) {
	inEachForm(t, func(t *testing.T, tx pgx.Tx) {
		say(t, tx, "before")
		require.ErrorIs(t, tx.Commit(t.Context()), batchtx.ErrOwner)
		require.ErrorIs(t, tx.Rollback(t.Context()), batchtx.ErrOwner)
		say(t, tx, "later")
	}, "before", "later")
}

func TestGuardRefusesToBeginByBatch(t *testing.T) {
	inEachForm(t, func(t *testing.T, tx pgx.Tx) {
		var batch pgx.Batch
		batch.BeginTx(pgx.TxOptions{IsoLevel: pgx.Serializable})
		batch.Queue(`INSERT INTO words VALUES ('x')`)
		results := tx.SendBatch(t.Context(), &batch)
		require.Error(t, results.Close())
		require.Error(t, results.Tx().Commit(t.Context()))
		say(t, tx, "kept")
	}, "kept")
}

func TestGuardSavepoints(t *testing.T) {
	inEachForm(t, func(t *testing.T, tx pgx.Tx) {
		say(t, tx, "outer")
		kept, err := tx.Begin(t.Context())
		require.NoError(t, err)
		say(t, kept, "kept")
		inner, err := kept.Begin(t.Context())
		require.NoError(t, err)
		say(t, inner, "undone with the inner one")
		require.NoError(t, inner.Rollback(t.Context()))
		require.NoError(t, kept.Commit(t.Context()))

		undone, err := tx.Begin(t.Context())
		require.NoError(t, err)
		say(t, undone, "undone")
		_, err = undone.Exec(t.Context(), `SELECT 1/0`)
		require.Error(t, err)
		require.NoError(t, undone.Rollback(t.Context()))
		say(t, tx, "outer again")
	}, "kept", "outer", "outer again")
}

// Begin in an aborted transaction fails as it does on any pgx.Tx, and does not
// cost the connection.
func TestGuardBeginWhenAborted(t *testing.T) {
	for name, open := range forms {
		t.Run(name, func(t *testing.T) {
			conn, err := pgtest.NewDatabase(t).Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			tx, _ := open(t, conn.Conn())
			_, err = tx.Exec(t.Context(), `SELECT 1/0`)
			require.Error(t, err)
			assert.NotPanics(t, func() { tx.LargeObjects() })
			_, err = tx.Begin(t.Context())
			require.Error(t, err)
			assert.False(t, conn.Conn().IsClosed())

			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = tx.Begin(ended)
			require.ErrorIs(t, err, context.Canceled)
			assert.False(t, conn.Conn().IsClosed())
			_, err = conn.Exec(t.Context(), `ROLLBACK`)
			require.NoError(t, err)
		})
	}
}

func TestGuardDoesTheRest(t *testing.T) {
	inEachForm(t, func(t *testing.T, tx pgx.Tx) {
		n, err := tx.CopyFrom(t.Context(), pgx.Identifier{"words"}, []string{"word"}, pgx.CopyFromRows([][]any{{"copied"}}))
		require.NoError(t, err)
		require.Equal(t, int64(1), n)

		_, err = tx.Prepare(t.Context(), "say", `INSERT INTO words VALUES ($1)`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "say", "prepared")
		require.NoError(t, err)

		var batch pgx.Batch
		batch.Queue(`INSERT INTO words VALUES ('sent')`)
		require.NoError(t, tx.SendBatch(t.Context(), &batch).Close())

		rows, err := tx.Query(t.Context(), `SELECT word FROM words ORDER BY word`)
		require.NoError(t, err)
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Equal(t, []string{"copied", "prepared", "sent"}, found)

		var count int
		require.NoError(t, tx.QueryRow(t.Context(), `SELECT count(*) FROM words`).Scan(&count))
		require.Equal(t, 3, count)
		require.NotNil(t, tx.Conn())
	}, "copied", "prepared", "sent")
}

func TestGuardLargeObjects(t *testing.T) {
	inEachForm(t, func(t *testing.T, tx pgx.Tx) {
		objects := tx.LargeObjects()
		oid, err := objects.Create(t.Context(), 0)
		require.NoError(t, err)
		object, err := objects.Open(t.Context(), oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite)
		require.NoError(t, err)
		_, err = object.Write([]byte("large"))
		require.NoError(t, err)
		_, err = object.Seek(0, io.SeekStart)
		require.NoError(t, err)
		content := make([]byte, 5)
		_, err = io.ReadFull(object, content)
		require.NoError(t, err)
		assert.Equal(t, "large", string(content))
		require.NoError(t, object.Close())
		say(t, tx, "kept")
	}, "kept")
}
