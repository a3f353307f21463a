package horizon

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	writers              = 12
	transactionsOfWriter = 25
)

// write commits or rolls back transactions of one to three events that stay
// open for up to 20 ms, and returns the committed positions.
func write(ctx context.Context, pool *pgxpool.Pool, seed uint64) (committed []int64, err error) {
	random := rand.New(rand.NewPCG(seed, 0))
	for range transactionsOfWriter {
		positions, err := writeOnce(ctx, pool, random)
		if err != nil {
			return nil, fmt.Errorf("writer %d: %w", seed, err)
		}
		committed = append(committed, positions...)
	}
	return committed, nil
}

func writeOnce(ctx context.Context, pool *pgxpool.Pool, random *rand.Rand) (committed []int64, err error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for range 1 + random.IntN(3) {
		var position int64
		if err := tx.QueryRow(ctx, insertEvent).Scan(&position); err != nil {
			return nil, err
		}
		committed = append(committed, position)
		if _, err := tx.Exec(ctx, `SELECT pg_sleep($1)`, random.Float64()*0.007); err != nil {
			return nil, err
		}
	}
	if random.IntN(5) == 0 {
		return nil, tx.Rollback(ctx)
	}
	return committed, tx.Commit(ctx)
}

// cursor is a reader that goes on from the last event that it saw.
type cursor struct {
	at   int64
	seen map[int64]bool
}

// read reads what lies in (at, upTo].
func (c *cursor) read(ctx context.Context, pool *pgxpool.Pool, upTo int64) error {
	rows, err := pool.Query(ctx, `SELECT global_position FROM events
		WHERE global_position > $1 AND global_position <= $2 ORDER BY global_position`, c.at, upTo)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var position int64
		if err := rows.Scan(&position); err != nil {
			return err
		}
		c.seen[position] = true
		c.at = position
	}
	return rows.Err()
}

// lost counts the committed positions that the reader missed.
func (c *cursor) lost(committed []int64) int {
	n := 0
	for _, position := range committed {
		if !c.seen[position] {
			n++
		}
	}
	return n
}

// Readers by horizon lose nothing; a plain cursor, in the same run, does, so the
// run would show a loss.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	for round := 1; ; round++ {
		if writersLoseNothing(t) {
			return
		}
		require.Less(t, round, 10, "the writers were too orderly for this test to find a loss")
	}
}

// writersLoseNothing says whether the plain cursor has lost something.
func writersLoseNothing(t *testing.T) (plainLost bool) {
	t.Helper()
	pool := newEvents(t)
	p, floor := newProber(t, pool, 0)
	late, _ := newProber(t, pool, 0) // starts afresh at each read, at the floor that the other has reached
	late.checkpoints = floor
	readers := dialPool(t, pool)

	committed, done := startWriters(t, pool)
	plain, settled, restarted := newCursor(), newCursor(), newCursor()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false // once more, with all writers gone
		default:
		}
		require.NoError(t, plain.read(t.Context(), readers, 1<<62))
		horizon := probe(t, p).Position
		if !reading {
			horizon = probeToTheEnd(t, p)
		}
		require.NoError(t, settled.read(t.Context(), readers, horizon))
		floor.at.Store(horizon)
		late.tracker = nil
		require.NoError(t, restarted.read(t.Context(), readers, probe(t, late).Position))
	}

	all := committed()
	t.Logf("%d events committed; lost: plain cursor %d, by horizon %d, by fresh probers %d",
		len(all), plain.lost(all), settled.lost(all), restarted.lost(all))
	require.NotEmpty(t, all)
	assert.Zero(t, settled.lost(all))
	assert.Zero(t, restarted.lost(all))
	return plain.lost(all) > 0
}

// probeToTheEnd returns the horizon with all writers gone. A hole that a rolled-back transaction has left holds it back for a moment.
func probeToTheEnd(t *testing.T, p *Prober) int64 {
	t.Helper()
	var r Reading
	require.Eventually(t, func() bool { r = probe(t, p); return r.Position == r.LastValue }, 10*time.Second, time.Millisecond)
	return r.Position
}

func newCursor() *cursor { return &cursor{seen: map[int64]bool{}} }

// dialPool opens a second pool, so that readers do not wait for writers.
func dialPool(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	second, err := pgxpool.NewWithConfig(t.Context(), pool.Config())
	require.NoError(t, err)
	t.Cleanup(second.Close)
	return second
}

// startWriters starts the writers; done is closed when they have ended, and
// committed is what they committed then.
func startWriters(t *testing.T, pool *pgxpool.Pool) (committed func() []int64, done <-chan struct{}) {
	t.Helper()
	var (
		group sync.WaitGroup
		mu    sync.Mutex
		all   []int64
		fails []error
	)
	for w := range writers {
		group.Go(func() {
			positions, err := write(t.Context(), pool, uint64(w))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, positions...)
			if err != nil {
				fails = append(fails, err)
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		group.Wait()
	}()
	t.Cleanup(func() { <-ended })
	return func() []int64 {
		require.Empty(t, fails)
		return all
	}, ended
}
