package pgcoord

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// BenchmarkLooks measures a whole look and a glance in replica sets of 10 and of 100 workers whose sessions hold their locks. least-µs is the fastest
// look. Other load on the machine affects it less than the mean.
func BenchmarkLooks(b *testing.B) {
	for _, n := range []int{10, 100} {
		s, pool := newStore(b)
		ids := make([]uuid.UUID, n)
		for i := range ids {
			ids[i] = join(b, s, pool, "a")
		}
		acquired, err := pool.Acquire(b.Context())
		require.NoError(b, err)
		b.Cleanup(acquired.Release)
		conn := acquired.Conn()
		for _, id := range ids {
			exec(b, conn, "SELECT pg_advisory_lock($1)", s.SessionKey(id))
		}
		for name, look := range map[string]func() error{
			"whole":  func() error { _, err := s.Observe(b.Context(), conn, ids[0], true); return err },
			"glance": func() error { _, err := s.Glance(b.Context(), conn, ids[0]); return err },
		} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				least := time.Hour
				for b.Loop() {
					began := time.Now()
					require.NoError(b, look())
					least = min(least, time.Since(began))
				}
				b.ReportMetric(float64(least.Microseconds()), "least-µs")
			})
		}
	}
}
