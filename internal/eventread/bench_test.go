package eventread

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// BenchmarkRead reads pages round and round through 50,000 events of 300 bytes.
func BenchmarkRead(b *testing.B) {
	const total = 50_000
	s, pool := newStore(b)
	_, err := pool.Exec(b.Context(), fmt.Sprintf(`
		INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload, correlation_id, metadata)
		SELECT 'sales', 'Order', 'order-' || i / 10, i %% 10 + 1, gen_random_uuid(), 'OrderPlaced', convert_to(repeat('x', 200), 'UTF8'), 'c-' || i, '{"user": "u1"}'
		FROM generate_series(1, %d) AS i`, total))
	require.NoError(b, err)
	_, err = pool.Exec(b.Context(), "VACUUM ANALYZE events")
	require.NoError(b, err)
	shapes := map[string]Query{
		"all":    {Pieces: []slot.Piece{{Range: slot.All()}}},
		"half":   {Pieces: []slot.Piece{{Range: slot.Range{From: 0, To: slot.Count / 2}}}},
		"scoped": {Pieces: []slot.Piece{{Range: slot.All()}}, AggregateTypes: []string{"Order"}, BoundedContexts: []string{"sales"}},
	}
	for name, q := range shapes {
		for _, limit := range []int{100, 1000} {
			b.Run(fmt.Sprintf("%s/limit=%d", name, limit), func(b *testing.B) {
				q.UpTo, q.Limit = total, limit
				pieces := q.Pieces
				read := 0
				b.ReportAllocs()
				for b.Loop() {
					page, err := s.page(b.Context(), pool, q)
					require.NoError(b, err)
					read += len(page.Events)
					q.Pieces = slot.Advance(pieces, page.UpTo)
					if page.UpTo == total {
						q.Pieces = pieces
					}
				}
				b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "events/s")
			})
		}
	}
}
