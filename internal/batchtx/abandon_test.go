package batchtx_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Whoever has the transaction can do nothing more in it. The server rolls it back, and its locks are free.
func TestAClosedSocketEndsTheTransaction(t *testing.T) {
	db := pgtest.NewDatabase(t)
	_, err := db.Exec(t.Context(), `CREATE TABLE rows (id int); INSERT INTO rows VALUES (1)`)
	require.NoError(t, err)
	conn, err := pgx.ConnectConfig(t.Context(), db.Config().ConnConfig)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `DELETE FROM rows`)
	require.NoError(t, err)
	batchtx.CloseSocket(conn)
	waiting, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var id int
	require.NoError(t, db.QueryRow(waiting, `UPDATE rows SET id = id + 1 RETURNING id`).Scan(&id), "the row is still locked")
	require.Equal(t, 2, id)
	_, err = tx.Exec(t.Context(), `SELECT`)
	require.Error(t, err)
}
