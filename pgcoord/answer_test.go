package pgcoord

import (
	"context"
	"net"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// newWire is a faulty network before the pool's server, and a pool through it.
func newWire(t *testing.T, pool *pgxpool.Pool) (*wire.Proxy, *pgxpool.Pool) {
	t.Helper()
	config := pool.Config()
	between, err := wire.Listen(t.Context(), net.JoinHostPort(config.ConnConfig.Host, strconv.Itoa(int(config.ConnConfig.Port))))
	require.NoError(t, err)
	between.Through(&config.ConnConfig.Config)
	through, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		through.Close()
		assert.NoError(t, between.Close())
	})
	return between, through
}

func TestLostAnswerToCommitIsFoundInTheRows(t *testing.T) {
	t.Parallel()
	for name, happened := range map[string]bool{"the answer is lost": true, "the question is lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			exec(t, o.pool, `CREATE TABLE read_model (n int)`)
			w, through := newWire(t, o.pool)
			b, err := o.BeginBatch(t.Context(), through, o.fence, whole(0), 20, BatchSettings{})
			require.NoError(t, err)
			pid := b.conn.Conn().PgConn().PID()
			exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
			var lost <-chan struct{}
			if happened {
				lost = w.LoseAnswer(wire.Commit, wire.Committed)
			} else {
				lost = w.LoseMessage(wire.Commit)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = b.Commit(ctx, 10)
			require.Error(t, err)
			assert.Empty(t, sqlState(err), "the error must leave open whether the commit happened: %v", err)
			eventually(t, o.pool, "the backend did not end", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, pid)

			<-lost
			if !happened {
				assert.Equal(t, whole(0), o.pieces(t))
				assert.Zero(t, value[int](t, o.pool, `SELECT count(*) FROM read_model`))
				return
			}
			err = o.attempt(t.Context(), through, o.fence, whole(0), 20)
			require.ErrorIs(t, err, ErrMoved, "the same events would be handled twice")
			assert.Equal(t, whole(10), o.pieces(t))
			assert.Equal(t, 1, value[int](t, o.pool, `SELECT count(*) FROM read_model`))
			o.advance(t, whole(10), 20)
		})
	}
}
