package actors

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// newWire is a faulty network before the fixture's server, and a pool of connections through it.
func newWire(f *fixture, settings ...func(*pgxpool.Config)) (*wire.Proxy, *pgxpool.Pool) {
	f.t.Helper()
	cfg := f.pool.Config()
	between, err := wire.Listen(f.t.Context(), net.JoinHostPort(cfg.ConnConfig.Host, strconv.Itoa(int(cfg.ConnConfig.Port))))
	require.NoError(f.t, err)
	between.Through(&cfg.ConnConfig.Config)
	for _, set := range settings {
		set(cfg)
	}
	pool, err := pgxpool.NewWithConfig(f.t.Context(), cfg)
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		pool.Close()
		assert.NoError(f.t, between.Close())
	})
	return between, pool
}

// Nothing tells of such a connection's death but that no answer comes.
func TestSilentConnectionsAreReplacedSoon(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	between, pool := newWire(f, func(cfg *pgxpool.Config) { cfg.MaxConns = 6 })
	const answer = 2 * time.Second
	f.start(func(c *Config) {
		c.Pool, c.Timing.Answer, c.Membership.Partitions = pool, answer, 3
		if c.Connect != nil {
			c.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, pool.Config().ConnConfig) }
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
		between.Forget()
		began := time.Now()
		want = append(want, f.append("Order", 30)...)
		awaitAll()
		t.Logf("handled after %s (rested: %v)", time.Since(began), rest)
		assert.Less(t, time.Since(began), 10*answer) // the machine may be busy
	}
}
