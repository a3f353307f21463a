package actors

import (
	"context"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nat passes connections on until it forgets them: then it takes what comes and says nothing, as a NAT does without its
// connection tracking. New connections are passed on.
type nat struct {
	listener net.Listener
	target   string
	group    sync.WaitGroup

	mu        sync.Mutex
	forgotten chan struct{} // closed when the connections so far are
	conns     []net.Conn
}

func newNAT(t *testing.T, target string) *nat {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &nat{listener: listener, target: target, forgotten: make(chan struct{})}
	n.group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			n.mu.Lock()
			n.conns = append(n.conns, client, server)
			forgotten := n.forgotten
			n.mu.Unlock()
			n.group.Go(func() { pump(client, server, forgotten) })
			n.group.Go(func() { pump(server, client, forgotten) })
		}
	})
	t.Cleanup(func() {
		assert.NoError(t, listener.Close())
		n.mu.Lock()
		for _, c := range n.conns {
			_ = c.Close()
		}
		n.mu.Unlock()
		n.group.Wait()
	})
	return n
}

// forget makes all connections silent.
func (n *nat) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.forgotten)
	n.forgotten = make(chan struct{})
}

// pump passes on what comes. The end of a forgotten connection is lost too.
func pump(to, from net.Conn, forgotten <-chan struct{}) {
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		select {
		case <-forgotten:
			if err != nil {
				return
			}
			continue
		default:
		}
		if err != nil {
			_ = to.Close()
			return
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// Nothing tells of such a connection's death but that no answer comes.
func TestSilentConnectionsAreReplacedSoon(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	own := f.pool.Config().ConnConfig
	between := newNAT(t, net.JoinHostPort(own.Host, strconv.Itoa(int(own.Port))))
	cfg := f.pool.Config()
	cfg.MaxConns = 6
	cfg.ConnConfig.Host = "127.0.0.1"
	cfg.ConnConfig.Port = uint16(between.listener.Addr().(*net.TCPAddr).Port)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)

	const answer = 2 * time.Second
	f.start(func(c *Config) {
		c.Pool, c.Timing.Answer, c.Membership.Partitions = pool, answer, 3
		if c.Connect != nil {
			c.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, cfg.ConnConfig.Copy()) }
		}
	}, &recorder{name: "p"})
	want := f.append("Order", 30)
	awaitAll := func() {
		eventually(t, func() bool { return len(f.handled("p")) >= len(want) }, "events are not handled")
		assert.ElementsMatch(t, want, f.handled("p"))
	}
	awaitAll()
	for _, rest := range []bool{false, true} {
		// Connections that have rested for a second are tried before they are used.
		if rest {
			deadline := time.Now().Add(1200 * time.Millisecond)
			eventually(t, func() bool { return time.Now().After(deadline) }, "time")
		}
		between.forget()
		began := time.Now()
		want = append(want, f.append("Order", 30)...)
		awaitAll()
		t.Logf("handled after %s (rested: %v)", time.Since(began), rest)
		assert.Less(t, time.Since(began), 10*answer) // the machine may be busy
	}
}
