package actors

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/wakeup"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestWakeUpsWish(t *testing.T) {
	now := time.Now()
	for name, test := range map[string]struct {
		change func(*wakeUps)
		who    pgcoord.WakeUps
		many   bool
		want   wish
	}{
		"nobody asked":               {want: wishAsk},
		"it has asked":               {who: pgcoord.WakeUpsOwn},
		"another has":                {who: pgcoord.WakeUpsOthers},
		"another has, long ago":      {who: pgcoord.WakeUpsOthers, change: func(w *wakeUps) { w.since = now.Add(-wakeUpsTrust) }, want: wishAsk},
		"it has, and many come":      {who: pgcoord.WakeUpsOwn, many: true, want: wishDecline},
		"another has, and many come": {who: pgcoord.WakeUpsOthers, many: true},
		"nobody has, and many come":  {many: true},
		"it is asking":               {change: func(w *wakeUps) { w.asking = true }},
		"no session":                 {change: func(w *wakeUps) { w.connected = false }},
		"no trigger":                 {change: func(w *wakeUps) { w.installed = false }},
	} {
		t.Run(name, func(t *testing.T) {
			w := &wakeUps{connected: true, installed: true, who: test.who, since: now}
			if test.change != nil {
				test.change(w)
			}
			assert.Equal(t, test.want, w.wish(test.many, now))
		})
	}
}

// probing is a horizon that is at a probe.
func probing(who pgcoord.WakeUps) *horizonActor {
	return &horizonActor{
		ctx: context.Background(), log: slog.New(slog.DiscardHandler), probing: true,
		wakeUps: wakeUps{connected: true, installed: true, who: who, asking: true},
	}
}

func TestWhatWasAppendedBeforeAskingIsLookedFor(t *testing.T) {
	for _, who := range []pgcoord.WakeUps{pgcoord.WakeUpsOwn, pgcoord.WakeUpsOthers} {
		h := probing(pgcoord.WakeUpsNobody)
		h.asked(nil, &asked{who: who})
		assert.True(t, h.woken, "the probe in flight began before")
		assert.True(t, h.wakeUps.told())
		assert.False(t, h.wakeUps.asking)
	}
}

// The answer and what happened since may come in either order.
func TestAnswersThatAreOutdated(t *testing.T) {
	h := probing(pgcoord.WakeUpsNobody)
	h.wakeUps.declined()
	h.asked(nil, &asked{who: pgcoord.WakeUpsOthers})
	assert.False(t, h.wakeUps.told(), "the other has declined")

	h = probing(pgcoord.WakeUpsNobody)
	h.wakeUps.reset(true)
	h.wakeUps.installed = true
	h.asked(nil, &asked{who: pgcoord.WakeUpsOwn})
	assert.False(t, h.wakeUps.told(), "that was on another connection")

	h = probing(pgcoord.WakeUpsOthers)
	h.wakeUps.declined()
	assert.False(t, h.wakeUps.told())
	h = probing(pgcoord.WakeUpsOwn)
	h.wakeUps.declined()
	assert.True(t, h.wakeUps.told(), "what another declines is not this one's")
	h.wakeUps.reset(false)
	assert.False(t, h.wakeUps.told())
}

func TestFailedAnswers(t *testing.T) {
	h := probing(pgcoord.WakeUpsNobody)
	h.asked(nil, &asked{err: errors.New("a test")})
	assert.False(t, h.wakeUps.told())
	assert.Equal(t, wishAsk, h.wakeUps.wish(false, time.Now()))
	h = probing(pgcoord.WakeUpsNobody)
	h.asked(nil, &asked{declining: true, err: errors.New("a test")})
	assert.Equal(t, wishDecline, h.wakeUps.wish(true, time.Now()), "the lock is held still")
}

// withTrigger is a fixture whose workers, each alone in its replica set, are told of
// appends and hardly ever look.
func withTrigger(t *testing.T) (f *fixture, seldom func(*Config)) {
	t.Helper()
	pgtest.SkipBehindPooler(t, "nobody is notified")
	f = newFixture(t)
	require.NoError(t, f.events.InstallWakeUp(t.Context(), f.pool))
	return f, func(c *Config) { c.Timing.Poll, c.Timing.Follow = time.Hour, time.Hour }
}

// sqlAppendMany appends $1 events, each of an aggregate of its own.
const sqlAppendMany = `
WITH stored AS (
	INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload)
	SELECT 'shop', 'Order', gen_random_uuid()::text, 1, gen_random_uuid(), 'Happened', '' FROM generate_series(1, $1)
	RETURNING global_position
)
SELECT array_agg(global_position ORDER BY global_position) FROM stored`

// asked says whether somebody has asked for the notification of appends.
func (f *fixture) asked() bool {
	return query[bool](f, `SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND ((classid::bigint << 32) | objid::bigint) = $1)`, wakeup.Key(f.events.EventsTable()))
}

// The trigger has seen the append when nobody had asked; nothing tells of its commit.
func TestAppendThatWasOpenBeforeAskingIsFound(t *testing.T) {
	t.Parallel()
	f, seldom := withTrigger(t)
	tx, err := f.pool.Begin(t.Context())
	require.NoError(t, err)
	want := f.appendIn(tx, "Order")
	f.start(seldom, &recorder{name: "p"})
	eventually(t, f.asked, "the worker does not ask")
	require.NoError(t, tx.Commit(t.Context()))
	f.awaitHandled("p", want)
}

// While events stream in, nobody is notified; after it, whoever waits is again.
func TestStreamsAreNotNotified(t *testing.T) {
	t.Parallel()
	f, seldom := withTrigger(t)
	f.start(seldom, &batchRecorder{recorder{name: "p"}})
	eventually(t, f.asked, "the worker does not ask")
	var want []int64
	eventually(t, func() bool {
		want = append(want, query[[]int64](f, sqlAppendMany, 200)...)
		return !f.asked()
	}, "the worker does not decline")
	f.awaitHandled("p", want)
	eventually(t, f.asked, "the worker does not ask again")
	want = append(want, f.append("Order", 1)...)
	f.awaitHandled("p", want)
}

// Many notifications in a short time are not waited for to become a stream.
func TestACrowdIsNotNotified(t *testing.T) {
	t.Parallel()
	f, seldom := withTrigger(t)
	f.start(seldom, &recorder{name: "p"})
	eventually(t, f.asked, "the worker does not ask")
	eventually(t, func() bool {
		for range 3 * crowdBucket {
			f.exec(`SELECT pg_notify($1, '')`, wakeup.Channel(f.events.EventsTable()))
		}
		return !f.asked()
	}, "the worker does not decline")
	eventually(t, f.asked, "the worker does not ask again")
	want := f.append("Order", 1)
	f.awaitHandled("p", want)
}

// Workers of two replica sets, of which one has asked and both rely on it, while
// events come one by one and in streams. Nothing else would wake them: an append that is
// missed is found after an hour, or when the next one is notified, and that waits.
func TestNoWakeUpIsMissed(t *testing.T) {
	t.Parallel()
	f, seldom := withTrigger(t)
	other, err := pgcoord.Open(t.Context(), f.pool, "", "other", f.events.EventsTable())
	require.NoError(t, err)
	projections := []string{"p", "q"}
	f.start(seldom, &batchRecorder{recorder{name: "p"}})
	f.start(func(c *Config) { seldom(c); c.Store = other }, &batchRecorder{recorder{name: "q"}})
	eventually(t, f.asked, "nobody asks")
	total := int64(0)
	for _, burst := range []int{1, 1, 30, 1, 200, 1, 1, 5, 1, 100, 1, 1} {
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range burst {
					var positions []int64
					assert.NoError(t, f.pool.QueryRow(t.Context(), sqlAppendMany, 1).Scan(&positions))
				}
			})
		}
		writers.Wait()
		total += int64(4 * burst)
		for _, p := range projections {
			eventually(t, func() bool {
				return query[int64](f, `SELECT count(*) FROM handled WHERE projection = $1`, p) == total
			}, "projection %s has not handled %d events", p, total)
		}
	}
}

func TestWorkerAsksAgainAfterItsSessionBroke(t *testing.T) {
	t.Parallel()
	f, seldom := withTrigger(t)
	f.start(seldom, &recorder{name: "p"})
	eventually(t, f.asked, "the worker does not ask")
	f.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND ((classid::bigint << 32) | objid::bigint) = $1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, wakeup.Key(f.events.EventsTable()))
	eventually(t, f.asked, "the worker does not ask on its next session")
	want := f.append("Order", 1)
	f.awaitHandled("p", want)
}
