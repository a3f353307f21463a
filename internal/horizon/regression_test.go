package horizon

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// When appends have brought the sequence past the checkpoint again, nothing in the database shows any more that the checkpoint
// speaks of other events than those that are there.
func TestProbeRegressedAndGrownAgain(t *testing.T) {
	regressed := func(t *testing.T, p *Prober) RegressionError {
		t.Helper()
		_, err := p.Probe(t.Context())
		var regressed *RegressionError
		require.ErrorAs(t, err, &regressed)
		assert.ErrorContains(t, err, fmt.Sprint(regressed.LastValue))
		assert.ErrorContains(t, err, fmt.Sprint(regressed.Reached))
		return *regressed
	}
	setval := `SELECT setval('events_global_position_seq', `
	start := func(t *testing.T, reached int64) (*pgxpool.Pool, *Prober, *checkpoint) {
		t.Helper()
		pool := newEvents(t)
		p, floor := newProber(t, pool, 0)
		for range 5 {
			insert(t, pool)
		}
		probe(t, p)
		floor.at.Store(reached)
		return pool, p, floor
	}
	t.Run("by events that would be skipped", func(t *testing.T) {
		pool, p, floor := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		assert.Equal(t, RegressionError{Reached: 5, LastValue: 2}, regressed(t, p))
		insert(t, pool)
		assert.Equal(t, RegressionError{Reached: 5, LastValue: 2, Floor: true}, regressed(t, p))
		for range 5 {
			insert(t, pool)
		}
		for range 2 {
			assert.Equal(t, RegressionError{Reached: 5, LastValue: 2, Floor: true, Reused: 3}, regressed(t, p))
		}
		floor.at.Store(2)
		assert.Equal(t, int64(8), probe(t, p).Position, "the checkpoints were set back")
		floor.at.Store(8)
		assert.Equal(t, int64(8), probe(t, p).Position)
	})
	t.Run("before the second probe", func(t *testing.T) {
		pool, p, _ := start(t, 4)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		assert.Equal(t, RegressionError{Reached: 5, LastValue: 2}, regressed(t, p), "no checkpoint is known to be ahead")
		for range 4 {
			insert(t, pool)
		}
		assert.Equal(t, RegressionError{Reached: 4, LastValue: 2, Floor: true, Reused: 2}, regressed(t, p))
	})
	t.Run("by a person, before anything was appended", func(t *testing.T) {
		pool, p, _ := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		regressed(t, p)
		regressed(t, p)
		exec(t, pool, setval+`5)`)
		assert.Equal(t, int64(5), probe(t, p).Position)
		insert(t, pool)
		assert.Equal(t, int64(6), probe(t, p).Position)
	})
	t.Run("by a person, while somebody appends", func(t *testing.T) {
		pool, p, _ := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		regressed(t, p)
		regressed(t, p)
		late := begin(t, dial(t, pool))
		assert.Equal(t, int64(3), insert(t, late))
		exec(t, pool, setval+`5)`)
		for range 2 {
			assert.Equal(t, int64(2), probe(t, p).Position, "its event may still appear")
		}
		require.NoError(t, late.Commit(t.Context()))
		assert.Equal(t, RegressionError{Reached: 5, LastValue: 2, Floor: true, Reused: 1}, regressed(t, p))
		exec(t, pool, `DELETE FROM events WHERE global_position = 3`)
		assert.Equal(t, int64(5), probe(t, p).Position)
	})
	t.Run("further back", func(t *testing.T) {
		pool, p, floor := start(t, 5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 1`)
		exec(t, pool, setval+`3)`)
		regressed(t, p)
		assert.Equal(t, int64(3), regressed(t, p).LastValue)
		exec(t, pool, setval+`1)`)
		assert.Equal(t, RegressionError{Reached: 5, LastValue: 1, Floor: true}, regressed(t, p))
		floor.at.Store(3)
		assert.Equal(t, RegressionError{Reached: 3, LastValue: 1, Floor: true}, regressed(t, p))
		floor.at.Store(1)
		assert.Equal(t, int64(1), probe(t, p).Position)
	})
}

// Two probers share their checkpoints, as two workers do. When the checkpoints were set back, one goes on at once, and its own is
// above the regression again before the other looks.
func TestProbersSettleARegressionTogether(t *testing.T) {
	setval := `SELECT setval('events_global_position_seq', `
	back := func(t *testing.T) (*pgxpool.Pool, *Prober, *Prober, *checkpoint) {
		t.Helper()
		pool := newEvents(t)
		p, shared := newProber(t, pool, 0)
		q, _ := newProber(t, pool, 0)
		q.checkpoints = shared
		for range 5 {
			insert(t, pool)
		}
		probe(t, p)
		probe(t, q)
		shared.at.Store(5)
		exec(t, pool, `DELETE FROM events WHERE global_position > 2`)
		exec(t, pool, setval+`2)`)
		return pool, p, q, shared
	}
	refuses := func(t *testing.T, p *Prober) {
		t.Helper()
		_, err := p.Probe(t.Context())
		var regressed *RegressionError
		require.ErrorAs(t, err, &regressed)
	}
	t.Run("one goes on before the other", func(t *testing.T) {
		pool, p, q, shared := back(t)
		refuses(t, p)
		refuses(t, q)
		for range 5 {
			insert(t, pool)
			refuses(t, p)
			refuses(t, q)
		}
		shared.at.Store(2)
		assert.Equal(t, int64(7), probe(t, p).Position)
		shared.at.Store(7)
		assert.Equal(t, int64(7), probe(t, q).Position)
		assert.Equal(t, int64(7), probe(t, p).Position)
	})
	t.Run("one has seen nothing, and nothing above was stored", func(t *testing.T) {
		pool, p, q, shared := back(t)
		shared.stored.Store(2)
		shared.of.Event = Event{}
		refuses(t, p)
		for range 4 {
			insert(t, pool)
		}
		refuses(t, q)
	})
	t.Run("one has seen nothing", func(t *testing.T) {
		pool, p, q, shared := back(t)
		refuses(t, p)
		for range 4 {
			insert(t, pool)
		}
		refuses(t, q) // its sequence has not gone back
		late, _ := newProber(t, pool, 0)
		late.checkpoints = shared
		refuses(t, late)
		shared.at.Store(2)
		assert.Equal(t, int64(6), probe(t, late).Position)
	})
	t.Run("it could not be taken down before the other has settled it", func(t *testing.T) {
		pool, p, q, shared := back(t)
		broken := &deaf{Checkpoints: shared}
		q.checkpoints = broken
		broken.to = assert.AnError
		_, err := q.Probe(t.Context())
		require.ErrorIs(t, err, assert.AnError)
		require.ErrorContains(t, err, "went back")
		refuses(t, p)
		for range 5 {
			insert(t, pool)
		}
		shared.at.Store(2)
		probe(t, p)
		shared.at.Store(7)
		broken.to = nil
		assert.Equal(t, int64(7), probe(t, q).Position)
		assert.Equal(t, int64(7), probe(t, p).Position)
	})
	t.Run("it could not be taken down before the sequence has passed the checkpoint", func(t *testing.T) {
		pool, p, q, shared := back(t)
		broken := &deaf{Checkpoints: shared, to: assert.AnError}
		q.checkpoints = broken
		_, err := q.Probe(t.Context())
		require.ErrorIs(t, err, assert.AnError)
		for range 5 {
			insert(t, pool)
		}
		broken.to = nil
		refuses(t, q)
		refuses(t, p)
	})
}

// deaf is checkpoints to which no regression can be reported while there is an error.
type deaf struct {
	Checkpoints
	to error
}

func (d *deaf) Regressed(ctx context.Context, number, low, term int64) error {
	if d.to != nil {
		return d.to
	}
	return d.Checkpoints.Regressed(ctx, number, low, term)
}

// asked counts how often it was asked for the latest regression.
type asked struct {
	Checkpoints
	times int
}

// Latest counts.
func (a *asked) Latest(ctx context.Context) (Regression, Stored, error) {
	a.times++
	return a.Checkpoints.Latest(ctx)
}

func TestOnlyWhereSomethingMayBeDrawnOthersAreAsked(t *testing.T) {
	pool := newEvents(t)
	p, shared := newProber(t, pool, 0)
	others := &asked{Checkpoints: shared}
	p.checkpoints = others
	asks := func() int {
		t.Helper()
		others.times = 0
		probe(t, p)
		return others.times
	}
	insert(t, pool)
	probe(t, p)
	assert.Zero(t, asks(), "nothing was drawn")
	insert(t, pool)
	assert.Equal(t, 1, asks(), "a position was drawn")
	assert.Zero(t, asks())
	late := begin(t, dial(t, pool))
	insert(t, late)
	for range 2 {
		assert.Equal(t, 1, asks(), "a transaction is open")
	}
	p.opts.RegressionsEvery = time.Hour
	assert.Zero(t, asks(), "they were asked just now")
	p.opts.RegressionsEvery = time.Nanosecond
	require.NoError(t, late.Commit(t.Context()))
	assert.Equal(t, 1, asks())
	assert.Zero(t, asks())
}
