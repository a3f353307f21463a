package horizon

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// lockWatcher counts looks at the locks, and statements.
type lockWatcher struct {
	Querier
	looks, statements int
}

func (w *lockWatcher) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	w.statements++
	return w.Querier.QueryRow(ctx, sql, args...)
}

func (w *lockWatcher) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	w.statements += b.Len()
	for _, q := range b.QueuedQueries {
		if q.SQL == sqlHolders {
			w.looks++
		}
	}
	return w.Querier.SendBatch(ctx, b)
}

// watched is a prober that has made its first probe, and what counts its looks at the locks since.
func watched(t *testing.T, p *Prober) *lockWatcher {
	t.Helper()
	probe(t, p)
	w := &lockWatcher{Querier: p.db}
	p.db = w
	return w
}

func TestAGlanceSparesTheLocks(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	for range 3 {
		insert(t, pool)
		last := insert(t, pool)
		r := probe(t, p)
		assert.Equal(t, last, r.Position, "what follows without a hole is settled")
		assert.Equal(t, last, r.LastValue)
		assert.Zero(t, r.Holders)
	}
	assert.Zero(t, w.looks)
}

// A probe of a stream in which nothing has come for a while is one statement, and sees at once what comes.
func TestAQuietProbeIsOneStatement(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	for range 2 {
		for range quietAfter {
			probe(t, p)
		}
		w.statements = 0
		lock := begin(t, dial(t, pool))
		_, err := lock.Exec(t.Context(), `LOCK TABLE events IN ACCESS EXCLUSIVE MODE`)
		require.NoError(t, err)
		before := probe(t, p)
		assert.Equal(t, 1, w.statements)
		require.NoError(t, lock.Rollback(t.Context()))

		last := insert(t, pool)
		r := probe(t, p)
		assert.Equal(t, before.Position+1, last)
		assert.Equal(t, last, r.Position)
		assert.Equal(t, last, r.LastValue)

		open := begin(t, dial(t, pool))
		late := insert(t, open)
		r = probe(t, p)
		assert.Equal(t, last, r.Position)
		assert.Equal(t, late, r.LastValue)
		require.NoError(t, open.Commit(t.Context()))
		assert.Equal(t, late, probe(t, p).Position)
	}
}

func TestAGlanceStopsAtAHole(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	p.opts.HoleAfter = time.Hour
	first := insert(t, pool)
	open := begin(t, dial(t, pool))
	late := insert(t, open)
	last := insert(t, pool)
	require.Equal(t, first+1, late)

	r := probe(t, p)
	assert.Equal(t, first, r.Position, "the events before the hole are settled")
	assert.Equal(t, last, r.LastValue)
	assert.Equal(t, 1, r.Holders, "an event may appear without another sign")
	assert.Equal(t, r, probe(t, p))
	assert.Zero(t, w.looks, "most transactions end soon")
	p.opts.HoleAfter = time.Nanosecond
	assert.Equal(t, first, probe(t, p).Position)
	assert.Equal(t, 1, w.looks, "this one does not")

	require.NoError(t, open.Commit(t.Context()))
	assert.Equal(t, last, probe(t, p).Position)
	assert.Equal(t, last+1, insert(t, pool))
	w.looks = 0
	assert.Equal(t, last+1, probe(t, p).Position)
	assert.Zero(t, w.looks, "beyond the hole")
}

func TestAGlanceWaitsForARolledBackHoleOnce(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	first := insert(t, pool)
	gone := begin(t, dial(t, pool))
	insert(t, gone)
	require.NoError(t, gone.Rollback(t.Context()))
	last := insert(t, pool)
	assert.Equal(t, first, probe(t, p).Position)
	assert.Equal(t, last, probe(t, p).Position)
	assert.Equal(t, 1, w.looks)
}

// A transaction that was open before a glance, and has drawn nothing up to there, is met by a look at the locks later.
func TestATransactionThatAGlanceDidNotSeeKeepsItsNumbers(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	watched(t, p)
	open := begin(t, dial(t, pool))
	exec(t, open, `LOCK TABLE events IN ROW EXCLUSIVE MODE`)
	first := insert(t, pool)
	assert.Equal(t, first, probe(t, p).Position, "it has drawn nothing that is lower")
	late := insert(t, open)
	last := insert(t, pool)
	for range 3 {
		assert.Less(t, probe(t, p).Position, late)
	}
	require.NoError(t, open.Commit(t.Context()))
	assert.Equal(t, last, probe(t, p).Position)
}

func TestAGlanceIsExcludedByALock(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	probe(t, p) // which prepares the statement: that waits for the lock too
	last := insert(t, pool)
	p.opts.ExtentEvery, p.store.last, p.store.rest = time.Hour, time.Now(), time.Hour // both read events, so they wait for the lock
	alter := begin(t, dial(t, pool))
	exec(t, alter, `LOCK TABLE events IN ACCESS EXCLUSIVE MODE`)
	began := time.Now()
	assert.Equal(t, last, probe(t, p).Position)
	assert.Equal(t, 1, w.looks)
	require.NoError(t, alter.Rollback(t.Context()))
	assert.Less(t, time.Since(began), 30*time.Second)
	insert(t, pool)
	probe(t, p)
	assert.Equal(t, 2, w.looks, "it is not tried again at once")
	p.locked = time.Time{}
	insert(t, pool)
	probe(t, p)
	assert.Equal(t, 2, w.looks)
}

func TestManyEventsAreNoneForAGlance(t *testing.T) {
	pool := newEvents(t)
	p, _ := newProber(t, pool, 0)
	w := watched(t, p)
	exec(t, pool, `INSERT INTO events (body) SELECT 'x' FROM generate_series(1, $1::int)`, glanceMost+1)
	r := probe(t, p)
	assert.Equal(t, r.LastValue, r.Position)
	assert.Equal(t, 1, w.looks)
}

func TestWithoutHole(t *testing.T) {
	t.Parallel()
	last := int64(9)
	for _, test := range []struct {
		above []int64
		want  int64
	}{
		{nil, 5},
		{[]int64{7}, 5},
		{[]int64{6}, 6},
		{[]int64{6, 7, 9}, 7},
		{[]int64{6, 6, 8}, 6}, // a position that was entered by hand a second time
		{[]int64{6, 7, 8, 9, 10}, 9},
	} {
		slots := make([]int32, len(test.above))
		for i, position := range test.above {
			slots[i] = int32(position)
		}
		end, found := sight{value: &last, above: test.above, slots: slots}.withoutHole(5)
		assert.Equal(t, test.want, end, "%v", test.above)
		assert.LessOrEqual(t, slices.Max(append(found, 0)), int32(end), "%v", test.above)
		for _, position := range test.above {
			assert.Equal(t, position <= end, slices.Contains(found, int32(position)), "%v", test.above)
		}
	}
}

// The key of a partitioned table may include more than the position, so a position may be there twice.
func TestAPositionThatIsThereTwiceHidesNoTransaction(t *testing.T) {
	pool := newEvents(t)
	exec(t, pool, `DROP TABLE events`)
	exec(t, pool, `CREATE TABLE events (global_position bigserial, body text, PRIMARY KEY (global_position, body)) PARTITION BY LIST (body)`)
	exec(t, pool, `CREATE TABLE events_x PARTITION OF events DEFAULT`)
	p, _ := newProber(t, pool, 0)
	watched(t, p)
	open := begin(t, dial(t, pool))
	late := insert(t, open)
	exec(t, pool, `INSERT INTO events VALUES ($1, 'by hand')`, late)
	for range 3 {
		assert.Less(t, probe(t, p).Position, late)
	}
	require.NoError(t, open.Commit(t.Context()))
	assert.Equal(t, late, probe(t, p).Position)
}

func TestASlowServerHasMoreTimeToCommit(t *testing.T) {
	t.Parallel()
	p := &Prober{opts: Options{HoleAfter: 10 * time.Millisecond}}
	for glanced, want := range map[time.Duration]time.Duration{
		0: 10 * time.Millisecond, time.Millisecond: 10 * time.Millisecond, 5 * time.Millisecond: 20 * time.Millisecond, time.Second: 40 * time.Millisecond,
	} {
		p.glanced = glanced
		assert.Equal(t, want, p.holeAfter(), glanced)
	}
}
