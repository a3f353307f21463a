package horizon

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
)

// mute answers nothing.
type mute struct{}

var errMute = errors.New("it must not be asked")

func (mute) Query(context.Context, string, ...any) (pgx.Rows, error) { return nil, errMute }
func (mute) QueryRow(context.Context, string, ...any) pgx.Row        { return mute{} }
func (mute) SendBatch(context.Context, *pgx.Batch) pgx.BatchResults  { panic(errMute) }
func (mute) Scan(...any) error                                       { return errMute }

// slotted is a prober that has made its first probe, and knows the slots of events: the last digit of the position.
func slotted(t *testing.T, pool *pgxpool.Pool) *Prober {
	t.Helper()
	p, _ := newProber(t, pool, 0)
	p.opts.Slot = "(global_position % 10)"
	probe(t, p)
	return p
}

func TestAGlanceKnowsTheSlots(t *testing.T) {
	pool := newEvents(t)
	p := slotted(t, pool)
	assert.Equal(t, announcement.News{Known: true}, probe(t, p).News)
	first := insert(t, pool)
	second := insert(t, pool)
	r := probe(t, p)
	assert.Equal(t, announcement.News{Known: true, After: first - 1, Slots: []int32{int32(first % 10), int32(second % 10)}}, r.News)
	assert.Equal(t, announcement.News{Known: true, After: second}, probe(t, p).News)

	open := begin(t, dial(t, pool))
	insert(t, open)
	insert(t, pool)
	r = probe(t, p)
	assert.True(t, r.News.Known)
	assert.Equal(t, second, r.News.After)
	assert.Empty(t, r.News.Slots, "nothing behind the hole is of the horizon")
	require.NoError(t, open.Rollback(t.Context()))
	r = probe(t, p)
	assert.Equal(t, r.LastValue, r.Position)
	assert.False(t, r.News.Known, "the locks do not tell what was appended")

	without, _ := newProber(t, pool, 0)
	probe(t, without)
	insert(t, pool)
	assert.False(t, probe(t, without).News.Known)
}

// looks has each probe look at the locks.
func looks(p *Prober) { p.locked = time.Now().Add(time.Hour) }

// announce is what the prober announces of its next reading.
func announce(t *testing.T, p *Prober) announcement.Horizon {
	t.Helper()
	after := p.tracker.Horizon()
	a, run := p.Announce(t.Context(), probe(t, p), after)
	assert.Equal(t, p.server.run(), run)
	return a
}

func TestWhoHearsOfAHorizonAsksNobody(t *testing.T) {
	pool := newEvents(t)
	leader, other := slotted(t, pool), slotted(t, pool)
	first := insert(t, pool)
	db := other.db
	other.db = mute{}
	r, ok := other.Hear(announce(t, leader))
	require.True(t, ok)
	assert.Equal(t, Reading{Position: first, LastValue: first, Table: other.target.table, Epoch: 1, News: announcement.News{Known: true, After: first - 1, Slots: []int32{int32(first % 10)}}}, r)
	second := insert(t, pool)
	missed := announce(t, leader)
	third := insert(t, pool)
	r, ok = other.Hear(announce(t, leader))
	require.True(t, ok)
	assert.Equal(t, third, r.Position)
	assert.False(t, r.News.Known, "the event %d was announced before", second)
	_, ok = other.Hear(missed)
	assert.False(t, ok, "it is higher already")
	other.db = db
	last := insert(t, pool)
	assert.Equal(t, last, probe(t, other).Position)
	assert.EqualValues(t, 1, probe(t, other).Epoch)
}

// What was open when the locks were looked at may draw numbers above what was heard, and holds the horizon there.
func TestATransactionIsWaitedForAboveWhatWasHeard(t *testing.T) {
	pool := newEvents(t)
	leader, other := slotted(t, pool), slotted(t, pool)
	open := begin(t, dial(t, pool))
	exec(t, open, `LOCK TABLE events IN ROW EXCLUSIVE MODE`)
	looks(other)
	require.Equal(t, 1, probe(t, other).Holders)
	first := insert(t, pool)
	r, ok := other.Hear(announce(t, leader))
	require.True(t, ok)
	require.Equal(t, first, r.Position)
	late := insert(t, open)
	last := insert(t, pool)
	for range 3 {
		assert.Less(t, probe(t, other).Position, late)
	}
	require.NoError(t, open.Commit(t.Context()))
	assert.Equal(t, last, probe(t, other).Position)
}

func TestHorizonsOfSomethingElseAreNotHeard(t *testing.T) {
	pool := newEvents(t)
	leader := slotted(t, pool)
	insert(t, pool)
	a := announce(t, leader)
	for name, change := range map[string]func(*Prober, *announcement.Horizon){
		"another server":   func(_ *Prober, a *announcement.Horizon) { a.Started++ },
		"another term":     func(_ *Prober, a *announcement.Horizon) { a.Term++ },
		"another table":    func(_ *Prober, a *announcement.Horizon) { a.Table++ },
		"another sequence": func(_ *Prober, a *announcement.Horizon) { a.Sequence++ },
		"an altered one":   func(_ *Prober, a *announcement.Horizon) { a.Filenode++ },
		"nothing new":      func(_ *Prober, a *announcement.Horizon) { a.Position = 0 },
		"a regression":     func(p *Prober, _ *announcement.Horizon) { p.known.Regression = Regression{Number: 1} },
		"before the start": func(p *Prober, _ *announcement.Horizon) { p.tracker = nil },
		"before a probe":   func(p *Prober, _ *announcement.Horizon) { p.tracker = NewTracker(0) },
		"while it counts":  func(p *Prober, _ *announcement.Horizon) { p.count.on = true },
		"nothing else":     func(*Prober, *announcement.Horizon) {},
	} {
		fresh, _ := newProber(t, pool, 0)
		exec(t, pool, `DELETE FROM events`) // so that its first probe does not find the position
		probe(t, fresh)
		fresh.tracker.horizon, fresh.tracker.reached = 0, 0
		changed := a
		change(fresh, &changed)
		_, ok := fresh.Hear(changed)
		assert.Equal(t, name == "nothing else", ok, name)
	}
}

func TestTheNewsOfALookAreReadForOthers(t *testing.T) {
	pool := newEvents(t)
	p := slotted(t, pool)
	looks(p)
	gone := begin(t, dial(t, pool))
	insert(t, gone)
	require.NoError(t, gone.Rollback(t.Context()))
	first := insert(t, pool)
	a := announce(t, p)
	assert.Equal(t, announcement.News{Known: true, After: first - 2, Slots: []int32{int32(first % 10)}}, a.News)

	exec(t, pool, `INSERT INTO events (body) SELECT 'x' FROM generate_series(1, $1::int)`, announcement.MostNews+1)
	a = announce(t, p)
	assert.Equal(t, first+announcement.MostNews+1, a.Position)
	assert.False(t, a.News.Known, "nearly everybody has some of them")

	exec(t, pool, `DELETE FROM events`)
	insert(t, pool)
	r := probe(t, p)
	p.db = mute{}
	a, _ = p.Announce(t.Context(), r, 0)
	assert.Equal(t, r.Position, a.Position)
	assert.False(t, a.News.Known, "they could not be read")
}
