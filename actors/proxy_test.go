package actors

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// proxy stands between a pool and its server and can lose the answer to a COMMIT.
type proxy struct {
	listener net.Listener
	server   string
	lose     atomic.Int32 // how many answers to lose
	lost     atomic.Int32
	wg       sync.WaitGroup
}

// commitTag is the server's answer to COMMIT: CommandComplete.
var commitTag = []byte("C\x00\x00\x00\x0bCOMMIT\x00")

// newProxy is a proxy, and a pool of connections through it.
func newProxy(f *fixture) (*proxy, *pgxpool.Pool) {
	f.t.Helper()
	own := f.pool.Config().ConnConfig
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(f.t, err)
	p := &proxy{listener: listener, server: net.JoinHostPort(own.Host, strconv.Itoa(int(own.Port)))}
	p.wg.Go(p.accept)
	cfg := f.pool.Config()
	cfg.ConnConfig.Host = "127.0.0.1"
	cfg.ConnConfig.Port = uint16(listener.Addr().(*net.TCPAddr).Port)
	pool, err := pgxpool.NewWithConfig(f.t.Context(), cfg)
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		pool.Close()
		assert.NoError(f.t, listener.Close())
		p.wg.Wait()
	})
	return p, pool
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.wg.Go(func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		})
		p.wg.Go(func() {
			p.answers(client, server)
			_ = client.Close()
			_ = server.Close()
		})
	}
}

// answers passes on what the server says, until the answer that is to be lost.
func (p *proxy) answers(client io.Writer, server io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if p.lose.Load() > 0 && bytes.Contains(buffer[:n], commitTag) {
			p.lose.Add(-1)
			p.lost.Add(1)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestLostAnswerToCommitIsFoundOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := &recorder{name: "p"}
	between, pool := newProxy(f)
	r := f.start(func(c *Config) { c.Pool, c.Batch.Size = pool, 5 }, p)
	want := f.append("Order", 7)
	f.awaitHandled("p", want)
	for range 3 {
		between.lose.Store(1)
		want = append(want, f.append("Order", 7)...)
		f.awaitHandled("p", want)
		eventually(t, func() bool { return between.lost.Load() > 0 && between.lose.Load() == 0 }, "no answer was lost")
	}
	for _, position := range want {
		assert.Equal(t, 1, p.attempts(position), "position %d", position)
	}
	assert.Equal(t, want, f.handled("p"))
	r.log.await(t, "the database failed")
}
