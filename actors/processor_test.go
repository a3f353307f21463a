package actors

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
)

func TestEveryEventIsHandledOnceAndInOrder(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 250)
	p := &recorder{name: "p"}
	r := f.start(nil, p)
	f.awaitHandled("p", want)
	want = append(want, f.append("Order", 30)...)
	f.awaitHandled("p", want)
	// They are counted after the commit that shows them.
	eventually(t, func() bool { return r.count("events_handled_total", "projection", "p") >= 280 }, "not all events are counted")
	assert.EqualValues(t, 280, r.count("events_handled_total", "projection", "p"))
	assert.Less(t, r.count("batch_events"), 20.0, "batches are small though handlers are fast")
	eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "the checkpoint stays behind")
}

// failures are the ways in which a handler fails.
var failures = map[string]func() error{
	"error": func() error { return errors.New("no such customer") },
	"panic": func() error { panic("no such customer") },
}

func TestFailingEventIsRetriedAndThenTheRestGoesOn(t *testing.T) {
	t.Parallel()
	for kind, fail := range failures {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.append("Order", 10)
			var repaired atomic.Bool
			p := &recorder{name: "p", before: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent, _ int) error {
				if e.GlobalPosition == want[4] && !repaired.Load() {
					return fail()
				}
				return nil
			}}
			r := f.start(nil, p)
			eventually(t, func() bool { return p.attempts(want[4]) >= 4 }, "the event is not retried")
			assert.Equal(t, want[:4], f.handled("p"), "what came before the failing event is committed, and no more")
			assert.Equal(t, want[3], f.checkpoint("p"))
			assert.Zero(t, p.attempts(want[5]), "an event was handled before the one that fails")
			assert.Equal(t, "retrying", query[string](f, `SELECT state FROM orchestrator_dead_letters WHERE global_position = $1`, want[4]))
			report := r.log.Await(t, "a handler failed")
			assert.Contains(t, report.Attrs["error"], "no such customer")
			assert.Equal(t, fmt.Sprint(want[4]), report.Attrs["position"])
			assert.NotEmpty(t, report.Attrs["event_id"])
			if kind == "panic" {
				assert.Contains(t, report.Attrs["stack"], "processor_test.go")
			}
			assert.EqualValues(t, 1, r.count("retrying", "projection", "p"))

			repaired.Store(true)
			f.awaitHandled("p", want)
			r.log.Await(t, "the event that had failed was handled")
			eventually(t, func() bool {
				return query[string](f, `SELECT state FROM orchestrator_dead_letters WHERE global_position = $1`, want[4]) == "handled"
			}, "the recovery is not recorded")
			assert.Zero(t, r.count("retrying", "projection", "p"))
			assert.Positive(t, r.count("handler_errors_total", "kind", kind))
			assert.Zero(t, r.count("actor_panics_total"), "a handler's panic is no actor's")
		})
	}
}

func TestFailingBatchIsHalvedDownToTheEvent(t *testing.T) {
	t.Parallel()
	for culprit := range 8 {
		t.Run(fmt.Sprint(culprit), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.append("Order", 8)
			var repaired atomic.Bool
			p := &batchRecorder{recorder{name: "p", before: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent, _ int) error {
				if e.GlobalPosition == want[culprit] && !repaired.Load() {
					return errors.New("no such customer")
				}
				return nil
			}}}
			r := f.start(nil, p)
			report := r.log.Await(t, "a handler failed")
			assert.Equal(t, fmt.Sprint(want[culprit]), report.Attrs["position"])
			assert.Equal(t, append([]int64{}, want[:culprit]...), f.handled("p"))
			repaired.Store(true)
			f.awaitHandled("p", want)
		})
	}
}

func TestBatchIsCutByTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 12)
	r := f.start(func(c *Config) { c.Batch.Time = time.Nanosecond }, &recorder{name: "p"})
	f.awaitHandled("p", want)
	eventually(t, func() bool { return r.count("batch_events") == float64(len(want)) }, "every batch is over time after one event")
	assert.Equal(t, want[len(want)-1], f.checkpoint("p"))
}

// gate stops a handler at an event until it is opened, or until the handler's
// context ends.
type gate struct {
	at      int64
	reached chan context.Context
	open    chan struct{}
	once    sync.Once
}

func newGate(at int64) *gate {
	return &gate{at: at, reached: make(chan context.Context, 16), open: make(chan struct{})}
}

func (g *gate) before(ctx context.Context, _ pgx.Tx, e es.PersistedEvent, _ int) error {
	if e.GlobalPosition != g.at {
		return nil
	}
	g.reached <- ctx
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) release() { g.once.Do(func() { close(g.open) }) }

func TestSoftStopCommitsWhatWasHandled(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	g := newGate(want[2])
	p := &recorder{name: "p", before: g.before}
	r := f.start(nil, p)
	receive(t, g.reached, "the event is never handled")
	r.Leave()
	eventually(t, func() bool {
		return r.count("actor_messages_total", "actor", kindSupervisor, "message", "StopPartitions") == 1
	},
		"the partitions are not asked to stop")
	g.release()
	r.awaitDone()
	assert.Equal(t, want[:3], f.handled("p"))
	assert.Equal(t, want[2], f.checkpoint("p"))
	assert.Zero(t, p.attempts(want[3]))
	f.awaitState(r, replicaset.Stopped)

	again := f.start(nil, &recorder{name: "p"})
	f.awaitHandled("p", want)
	again.Leave()
	again.awaitDone()
}

func TestHandlerIsCancelledAfterTheDrainTime(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	g := newGate(want[2])
	r := f.start(func(c *Config) { c.Timing.Drain = 50 * time.Millisecond }, &recorder{name: "p", before: g.before})
	ctx := receive(t, g.reached, "the event is never handled")
	require.NoError(t, ctx.Err())
	r.Leave()
	receive(t, ctx.Done(), "the handler is never cancelled")
	assert.ErrorIs(t, context.Cause(ctx), errDrained)
	r.awaitDone()
	assert.Empty(t, f.handled("p"), "a cancelled batch is rolled back")
	f.awaitState(r, replicaset.Stopped)
	assert.Zero(t, r.count("handler_errors_total"), "a cancelled handler has not failed")
}

func TestStopCancelsHandlersAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	g := newGate(want[2])
	r := f.start(func(c *Config) { c.Timing.Drain = time.Hour }, &recorder{name: "p", before: g.before})
	ctx := receive(t, g.reached, "the event is never handled")
	assert.Len(t, r.Busy(), 1)
	r.Stop()
	receive(t, ctx.Done(), "the handler is never cancelled")
	assert.ErrorIs(t, context.Cause(ctx), errShutdown)
	r.awaitDone()
	assert.Empty(t, f.handled("p"))
	assert.Empty(t, r.Busy())
}

func TestCheckpointMovedBySomebodyElse(t *testing.T) {
	t.Parallel()
	t.Run("still its own: it goes on from there", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		want := f.append("Order", 3)
		p := &recorder{name: "p"}
		f.start(nil, p)
		f.awaitHandled("p", want)
		f.exec(`UPDATE orchestrator_checkpoints SET position = $1`, want[2]+1) // the next event is handled, as it were
		next := f.append("Order", 3)
		require.Equal(t, want[2]+1, next[0])
		f.awaitHandled("p", append(want, next[1:]...))
		assert.Zero(t, p.attempts(next[0]))
	})
	t.Run("not its own any more: it is fenced", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t)
		want := f.append("Order", 3)
		p := &recorder{name: "p"}
		r := f.start(nil, p)
		f.awaitHandled("p", want)
		// The look at the replica set does not show it, and the events are handled, as it were.
		f.exec(`UPDATE orchestrator_checkpoints SET position = position + 3, total_partitions = 2`)
		next := f.append("Order", 3)
		r.log.Await(t, "fenced")
		eventually(t, func() bool {
			return r.count("actor_messages_total", "actor", kindCoordinator, "message", "Fenced") == 1
		},
			"the coordinator never hears of it")
		assert.EqualValues(t, 1, r.count("fenced_batches_total"))
		assert.Equal(t, want, f.handled("p"))
		assert.Zero(t, p.attempts(next[0]))
	})
}

func TestPositionsWithoutWantedEventsAreFlushed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Config){
		"after a time":            func(c *Config) { c.Batch.FlushAfter, c.Batch.FlushEvery = 20*time.Millisecond, 1_000_000 },
		"after so many positions": func(c *Config) { c.Batch.FlushAfter, c.Batch.FlushEvery = time.Hour, 10 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := &scopedRecorder{recorder: recorder{name: "p"}, aggregateType: "Invoice"}
			f.start(change, p)
			others := f.append("Order", 10)
			eventually(t, func() bool { return f.checkpoint("p") == others[9] }, "the checkpoint stays behind")
			want := f.append("Invoice", 2)
			f.awaitHandled("p", want)
		})
	}
}

// While an event fails, a restart begins at it.
func TestTheCheckpointIsWrittenBeforeAFailingEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	others := f.append("Order", 10)
	want := f.append("Invoice", 1)
	p := &scopedRecorder{recorder: recorder{name: "p", before: func(context.Context, pgx.Tx, es.PersistedEvent, int) error {
		return errors.New("no such customer")
	}}, aggregateType: "Invoice"}
	f.start(func(c *Config) { c.Batch.RetryFirst, c.Batch.RetryMax = time.Hour, time.Hour }, p)
	eventually(t, func() bool { return f.checkpoint("p") == others[9] }, "the checkpoint stays behind")
	assert.Equal(t, 1, p.attempts(want[0]))
}

func TestNewEpochReadsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	g := newGate(want[10])
	r := f.start(func(c *Config) { c.Batch.Size = 5 }, &recorder{name: "p", before: g.before})
	receive(t, g.reached, "the event is never handled") // what comes next is read already
	r.system.Root.Send(r.horizonPID(), (*probed)(nil))
	eventually(t, func() bool { return r.count("actor_respawns_total", "actor", kindHorizon) == 1 }, "the horizon is not respawned")
	g.release()
	f.awaitHandled("p", want)
	want = append(want, f.append("Order", 20)...)
	f.awaitHandled("p", want)
}

func TestHangingHandlerIsNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 3)
	g := newGate(want[1])
	r := f.start(func(c *Config) { c.Batch.HangAfter = 20 * time.Millisecond }, &recorder{name: "p", before: g.before})
	receive(t, g.reached, "the event is never handled")
	ofIt := func() []logbook.Record { // a busy machine takes long for the event before, too
		return slices.DeleteFunc(r.log.Find("a handler does not return"), func(l logbook.Record) bool { return l.Attrs["position"] != fmt.Sprint(want[1]) })
	}
	eventually(t, func() bool { return len(ofIt()) >= 2 }, "it is not logged again and again")
	record := ofIt()[1]
	assert.Equal(t, "p", record.Attrs["projection"])
	assert.NotEmpty(t, record.Attrs["event_id"])
	require.Len(t, r.Busy(), 1)
	assert.Contains(t, r.Busy()[0], fmt.Sprintf("position %d", want[1]))
	g.release()
	f.awaitHandled("p", want)
	eventually(t, func() bool { return len(r.Busy()) == 0 }, "a handler that has returned counts as busy")
}

func TestPoisonousEventStopsOnlyItsProjection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	poison := want[3] // the handler looks while want grows
	poisoned := &recorder{name: "poisoned", before: func(_ context.Context, _ pgx.Tx, e es.PersistedEvent, _ int) error {
		if e.GlobalPosition == poison {
			panic("poison")
		}
		return nil
	}}
	f.start(nil, poisoned, &recorder{name: "healthy"})
	f.awaitHandled("healthy", want)
	eventually(t, func() bool { return poisoned.attempts(poison) >= 3 }, "the event is not retried")
	want = append(want, f.append("Order", 5)...)
	f.awaitHandled("healthy", want)
	assert.Equal(t, want[:3], f.handled("poisoned"))
}

func TestTerminatedBackendIsNoFailureOfTheEvent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	p := &recorder{name: "p", before: func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, attempt int) error {
		if e.GlobalPosition == want[5] && attempt == 1 {
			var backend int
			if err := tx.QueryRow(ctx, `SELECT pg_backend_pid()`).Scan(&backend); err != nil {
				return err
			}
			_, err := f.pool.Exec(ctx, `SELECT pg_terminate_backend($1, 5000)`, backend)
			return err
		}
		return nil
	}}
	r := f.start(nil, p)
	f.awaitHandled("p", want)
	assert.Equal(t, 2, p.attempts(want[0]), "the whole batch is handled again")
	r.log.Await(t, "the database failed")
	assert.Empty(t, r.log.Find("a handler failed"))
	assert.Zero(t, query[int](f, `SELECT count(*) FROM orchestrator_dead_letters`))
}

// TestLagOfAWaitingPartitionIsShown: a partition that has committed nothing since
// its worker started shows how far it is behind.
func TestLagOfAWaitingPartitionIsShown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 10)
	r := f.start(nil, &recorder{name: "p", before: func(context.Context, pgx.Tx, es.PersistedEvent, int) error {
		return errors.New("not today")
	}})
	eventually(t, func() bool { return r.count("lag_events", "projection", "p") == float64(want[9]) }, "the lag is not shown")
}
