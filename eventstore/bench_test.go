package eventstore

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// BenchmarkAppend appends to a new aggregate in each round, in one transaction,
// so it shows the statement without the commit.
func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			s, pool := newStore(b)
			tx := begin(b, pool, pgx.TxOptions{})
			round := 0
			b.ReportAllocs()
			for b.Loop() {
				round++
				_, err := s.Append(b.Context(), tx, es.NoStream(), eventsOf(fmt.Sprintf("order-%d", round), n))
				require.NoError(b, err)
			}
			b.ReportMetric(float64(round)*float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
