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
	exec(t, pool, `CREATE TABLE events (global_position bigserial PRIMARY KEY, body text, event_id uuid NOT NULL DEFAULT gen_random_uuid())`)
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

// checkpoint is the highest one, and the stored horizon, which the test moves. Both are the same unless stored is set apart.
type checkpoint struct {
	Checkpoints
	at     atomic.Int64
	stored atomic.Int64 // -1: as at
	term   atomic.Int64
	of     *Stored // the sequence, the table and the event of the stored horizon
}

func newCheckpoint(at int64) *checkpoint {
	c := &checkpoint{of: &Stored{}}
	c.at.Store(at)
	c.stored.Store(-1)
	c.term.Store(1)
	c.Checkpoints = InMemory(func(context.Context) (int64, error) { return c.at.Load(), nil })
	return c
}

// Known adds the stored horizon.
func (c *checkpoint) Known(ctx context.Context) (Known, error) {
	known, err := c.Checkpoints.Known(ctx)
	known.Stored = c.there()
	return known, err
}

// Latest adds the stored horizon.
func (c *checkpoint) Latest(ctx context.Context) (Regression, Stored, error) {
	latest, _, err := c.Checkpoints.Latest(ctx)
	return latest, c.there(), err
}

func (c *checkpoint) there() Stored {
	position := c.stored.Load()
	if position < 0 {
		position = c.at.Load()
	}
	there := *c.of
	there.Term, there.Position = c.term.Load(), position
	return there
}

// Store stores it.
func (c *checkpoint) Store(_ context.Context, s Stored, _ Run) (bool, error) {
	c.stored.Store(s.Position)
	*c.of = s
	return true, nil
}

// Regressed voids the stored horizon too.
func (c *checkpoint) Regressed(ctx context.Context, number, low, term int64) error {
	if there := c.there(); there.Term == term && there.Position > low {
		c.stored.Store(0)
		c.term.Add(1)
		if c.of.Event.Position > low {
			c.of.Event = Event{}
		}
	}
	return c.Checkpoints.Regressed(ctx, number, low, term)
}

// Void voids it.
func (c *checkpoint) Void(_ context.Context, s Stored) error {
	c.stored.Store(0)
	c.term.Add(1)
	s.Event = c.of.Event
	*c.of = s
	return nil
}

// newProber probes over a connection of its own, so that no probe meets a new session.
func newProber(t *testing.T, pool *pgxpool.Pool, floor int64) (*Prober, *checkpoint) {
	t.Helper()
	c := newCheckpoint(floor)
	knowsSequence(t, pool, c)
	return NewProber(dial(t, pool), events, c, Options{BlockerAfter: time.Nanosecond, HoleAfter: time.Nanosecond, RegressionsEvery: time.Nanosecond}), c
}

// probe is a reading of the table that the prober has found.
func probe(t *testing.T, p *Prober) Reading {
	t.Helper()
	r, err := p.Probe(t.Context())
	require.NoError(t, err)
	require.Equal(t, p.target.table, r.Table)
	r.Table = 0
	return r
}

// knowsSequence has the stored horizon speak of the sequence as it is.
func knowsSequence(t *testing.T, pool *pgxpool.Pool, c *checkpoint) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT oid, relfilenode, 'events'::regclass::oid FROM pg_class WHERE oid = 'events_global_position_seq'::regclass`).
		Scan(&c.of.Sequence, &c.of.Filenode, &c.of.Table))
}
