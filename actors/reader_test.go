package actors

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// appendLarge stores n events whose payloads are size bytes, and returns their positions.
func (f *fixture) appendLarge(n, size int) []int64 {
	f.t.Helper()
	f.exec(`INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
		SELECT 'shop', 'Order', 'large-' || i % 7, i, gen_random_uuid(), 'Happened', convert_to(repeat('x', $2), 'UTF8') FROM generate_series(1, $1) AS i`, n, size)
	return query[[]int64](f, `SELECT array_agg(global_position ORDER BY global_position) FROM events`)
}

// A projection that does not move holds back no other of its worker, with the smallest pool, and however much the others have read since: what it
// has not had by then, it reads by itself.
func TestSlowProjectionHoldsBackNobody(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ events, size int }{
		"more than the window holds": {2*windowBytes/(64<<10) + 100, 64 << 10},
		"payloads of 1 MiB":          {2*windowBytes>>20 + 5, 1 << 20},
		"small events":               {3000, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.appendLarge(tt.events, tt.size)
			g := newGate(want[1])
			whole := func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, attempt int) error {
				if len(e.Payload) != tt.size {
					return fmt.Errorf("the payload at position %d has %d bytes", e.GlobalPosition, len(e.Payload))
				}
				return g.before(ctx, tx, e, attempt)
			}
			config := f.pool.Config()
			config.MaxConns = 4
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			f.start(func(c *Config) { c.Pool = pool }, &recorder{name: "slow", before: whole}, &recorder{name: "fast"})
			receive(t, g.reached, "the event is never handled")
			f.awaitHandled("fast", want)
			assert.Empty(t, f.handled("slow"), "its first batch is not committed yet")
			g.release()
			f.awaitHandled("slow", want)
		})
	}
}
