package horizon

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var events = pgx.Identifier{"events"}

const insertEvent = `INSERT INTO events (body) VALUES ('x') RETURNING global_position`

// newEvents creates a database with an events table as far as the horizon cares.
func newEvents(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := pgtest.NewDatabase(t)
	exec(t, pool, `CREATE TABLE events (global_position bigserial PRIMARY KEY, body text)`)
	return pool
}

// executor is a pool, connection or transaction.
type executor interface {
	Querier
	Begin(ctx context.Context) (pgx.Tx, error)
}

func exec(t *testing.T, db executor, sql string, args ...any) {
	t.Helper()
	rows, err := db.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	rows.Close()
	require.NoError(t, rows.Err(), sql)
}

// insert appends one event in db's transaction and returns its position.
func insert(t *testing.T, db executor) int64 {
	t.Helper()
	var position int64
	require.NoError(t, db.QueryRow(t.Context(), insertEvent).Scan(&position))
	return position
}

// begin opens a transaction that is rolled back when the test ends.
func begin(t *testing.T, db executor) pgx.Tx {
	t.Helper()
	tx, err := db.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// dial opens a connection outside the pool that is closed when the test ends.
func dial(t *testing.T, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	config := pool.Config().ConnConfig.Copy()
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// checkpoint is the highest one, which the test moves.
type checkpoint struct {
	Checkpoints
	at atomic.Int64
}

func newCheckpoint(at int64) *checkpoint {
	c := &checkpoint{}
	c.at.Store(at)
	c.Checkpoints = InMemory(func(context.Context) (int64, error) { return c.at.Load(), nil })
	return c
}

// newProber probes over a connection of its own, so that no probe meets a new session.
func newProber(t *testing.T, pool *pgxpool.Pool, floor int64) (*Prober, *checkpoint) {
	t.Helper()
	c := newCheckpoint(floor)
	return NewProber(dial(t, pool), events, c, Options{BlockerAfter: time.Nanosecond, RewindsEvery: time.Nanosecond}), c
}

func probe(t *testing.T, p *Prober) Reading {
	t.Helper()
	r, err := p.Probe(t.Context())
	require.NoError(t, err)
	return r
}
