package pgcoord

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wire is a TCP proxy before the server. Once armed, it cuts a connection at the
// COMMIT: before the server hears of it, or before the client hears the answer.
type wire struct {
	armed atomic.Pointer[string] // which side's COMMIT is swallowed
}

const (
	asked    = "asked"
	answered = "answered"
)

// newWire starts a proxy to the pool's server and returns a pool through it.
func newWire(t *testing.T, pool *pgxpool.Pool) (*wire, *pgxpool.Pool) {
	t.Helper()
	config := pool.Config()
	var dialer net.Dialer
	address := net.JoinHostPort(config.ConnConfig.Host, strconv.Itoa(int(config.ConnConfig.Port)))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{}
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := dialer.DialContext(context.Background(), "tcp", address)
			if err != nil {
				_ = client.Close()
				continue
			}
			go w.pass(client, server, asked)
			go w.pass(server, client, answered)
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-accepting })
	config.ConnConfig.Host = "127.0.0.1"
	config.ConnConfig.Port = uint16(listener.Addr().(*net.TCPAddr).Port)
	config.ConnConfig.Fallbacks = nil
	through, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(through.Close)
	return w, through
}

// pass copies one direction until it ends or meets the COMMIT that is to be
// swallowed.
func (w *wire) pass(from, to net.Conn, side string) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if cut := w.armed.Load(); cut != nil && *cut == side && bytes.Contains(buffer[:n], []byte("COMMIT\x00")) {
			return
		}
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func TestLostAnswerToCommitIsFoundInTheRows(t *testing.T) {
	t.Parallel()
	for side, happened := range map[string]bool{answered: true, asked: false} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			o := newOwner(t)
			exec(t, o.pool, `CREATE TABLE read_model (n int)`)
			w, through := newWire(t, o.pool)
			b, err := o.BeginBatch(t.Context(), through, o.fence, whole(0), 20, BatchSettings{})
			require.NoError(t, err)
			pid := b.conn.Conn().PgConn().PID()
			exec(t, b.Tx(), `INSERT INTO read_model VALUES (1)`)
			w.armed.Store(&side)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = b.Commit(ctx, 10)
			require.Error(t, err)
			assert.Empty(t, sqlState(err), "the error must leave open whether the commit happened: %v", err)
			eventually(t, o.pool, "the backend did not end", `SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = $1)`, pid)

			w.armed.Store(nil)
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
