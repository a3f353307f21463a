package horizon

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func BenchmarkProbe(b *testing.B) {
	pool := pgtest.NewDatabase(b)
	_, err := pool.Exec(b.Context(), `CREATE TABLE events (global_position bigserial PRIMARY KEY, body text)`)
	require.NoError(b, err)
	conn, err := pgx.ConnectConfig(b.Context(), pool.Config().ConnConfig)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	p := NewProber(conn, events, newCheckpoint(0), Options{})
	for b.Loop() {
		_, err := p.Probe(b.Context())
		require.NoError(b, err)
	}
}
