package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// hang is a handler that does not look at its context: the first attempts of it at some
// events wait until they are released.
type hang struct {
	recorder
	events   []int64
	reached  chan int64
	released chan struct{}
	after    func(ctx context.Context, tx pgx.Tx) error // what it does then; may be nil
}

func newHang(t *testing.T, events ...int64) *hang {
	h := &hang{recorder: recorder{name: "p"}, events: events, reached: make(chan int64, 100), released: make(chan struct{})}
	h.before = func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, attempt int) error {
		if !slices.Contains(h.events, e.GlobalPosition) || attempt > 1 {
			return nil
		}
		h.reached <- e.GlobalPosition
		<-h.released
		if h.after != nil {
			return h.after(ctx, tx)
		}
		return nil
	}
	t.Cleanup(h.release)
	return h
}

func (h *hang) release() {
	select {
	case <-h.released:
	default:
		close(h.released)
	}
}

// impatient cancels handlers soon.
func impatient(c *Config) { c.Timing.Drain = 50 * time.Millisecond }

// abandonedRows is how many abandoned handlers the table has of a worker.
func (f *fixture) abandonedRows(r *testWorker) int {
	return query[int](f, `SELECT count(*)::int FROM orchestrator_abandoned_handlers WHERE worker_id = $1`, r.id)
}

// awaitAbandoned waits until the table has so many abandoned handlers of a worker.
func (f *fixture) awaitAbandoned(r *testWorker, n int) {
	f.t.Helper()
	eventually(f.t, func() bool { return f.abandonedRows(r) == n }, "the table does not have %d abandoned handlers", n)
}

// slots is how many slots of a projection a worker has.
func (f *fixture) slots(name string, r *testWorker) int {
	return query[int](f, `SELECT coalesce(sum(slot_to - slot_from), 0)::int FROM orchestrator_checkpoints WHERE projection = $1 AND worker_id = $2`, name, r.id)
}

// A handler hangs that cannot be recorded, since somebody has renamed the table. The change of generation passes nevertheless, and everything else
// goes on.
func TestAHandlerThatHangsCannotBeRecorded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	p := newHang(t, want[3])
	first := f.start(impatient, p, &recorder{name: "q"})
	receive(t, p.reached, "the event is never handled")
	f.exec(`ALTER TABLE orchestrator_abandoned_handlers RENAME TO elsewhere`)
	second := f.start(impatient, &recorder{name: "p"}, &recorder{name: "q"})
	f.awaitState(second, replicaset.Running)
	assert.Equal(t, 32768, f.slots("q", first), "the worker whose handler hangs is left behind")
	want = append(want, f.append("Order", 20)...)
	eventually(t, func() bool { return f.checkpoint("q") == want[len(want)-1] }, "q stands still")
	eventually(t, func() bool { return strings.Contains(first.log.String(), "orchestrator_abandoned_handlers") }, "the log does not say what cannot be recorded")
	p.release()
	eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still")
}

// Projection p hangs on one of three workers and does not look at its context. Every change of generation passes nevertheless,
// no worker is lost, q goes on everywhere, and p on the others.
func TestAHandlerThatHangsIsAbandoned(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 20)
	p := newHang(t, want[3])
	first := f.start(impatient, p, &recorder{name: "q"})
	receive(t, p.reached, "the event is never handled")
	more := func() {
		t.Helper()
		want = append(want, f.append("Order", 20)...)
		eventually(t, func() bool { return f.checkpoint("q") == want[len(want)-1] }, "q stands still")
	}
	more()
	second := f.start(impatient, &recorder{name: "p"}, &recorder{name: "q"})
	f.awaitAbandoned(first, 1)
	f.awaitState(second, replicaset.Running)
	more()
	third := f.start(impatient, &recorder{name: "p"}, &recorder{name: "q"})
	f.awaitState(third, replicaset.Running)
	more()
	eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still where it does not hang")
	third.Leave()
	third.awaitDone()
	eventually(t, func() bool { return f.slots("p", second) == 65536 }, "p is not the second worker's alone")
	eventually(t, func() bool { return f.slots("q", first) == 32768 }, "the first worker does not have its half of q")
	more()

	assert.Zero(t, query[int](f, `SELECT count(*)::int FROM orchestrator_workers WHERE state = 'dead'`), "a worker was used up")
	assert.Equal(t, want[3], query[int64](f, `SELECT global_position FROM orchestrator_abandoned_handlers WHERE worker_id = $1 AND projection = 'p'`, first.id))
	assert.Equal(t, []string{"p"}, query[[]string](f, `SELECT left_out FROM orchestrator_workers WHERE worker_id = $1`, first.id))
	assert.EqualValues(t, 1, first.count("abandoned_handlers", "projection", "p"))
	log := first.log.Await(t, "was abandoned")
	assert.Equal(t, fmt.Sprint(want[3]), log.Attrs["position"])
	assert.Equal(t, "p", log.Attrs["projection"])
	assert.NotEmpty(t, log.Attrs["event_id"])

	p.release()
	eventually(t, func() bool { return f.slots("p", first) == 32768 }, "the first worker does not take part again")
	more()
	eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still")
	assert.ElementsMatch(t, want, f.handled("p"), "p has lost or repeated events")
	assert.ElementsMatch(t, want, f.handled("q"), "q has lost or repeated events")
	assert.Zero(t, f.abandonedRows(first))
	assert.Zero(t, first.count("abandoned_handlers", "projection", "p"))
	first.log.Await(t, "a handler that was abandoned has returned")
}

// However the partitions were stopped, the only worker does not run the projection while its handlers hang, p's rows say so,
// and q goes on.
func TestTheOnlyWorkerLeavesOutWhatHangs(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*fixture, *testWorker){
		"lease expired": func(_ *fixture, r *testWorker) { r.system.Root.Send(r.top, messages.LeaseExpired{}) },
		"declared dead": func(f *fixture, r *testWorker) {
			f.exec(`UPDATE orchestrator_workers SET state = 'dead' WHERE worker_id = $1`, r.id)
		},
		"new generation": func(f *fixture, r *testWorker) {
			r.system.Root.Send(r.top, messages.Fenced{Generation: f.active(1)})
		},
		"the partitions panicked": func(_ *fixture, r *testWorker) {
			for i, key := range []string{"0/2", "1/2"} {
				pid := actor.NewPID(r.top.Address, fmt.Sprintf("%s/%s.%s.%d", r.top.Id, kindPartition, key, 5+i))
				r.system.Root.Send(pid, (*respawn)(nil))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.append("Order", 20)
			p := newHang(t, want...)
			r := f.start(func(c *Config) { impatient(c); c.Membership.Partitions = 2 }, p, &recorder{name: "q"})
			receive(t, p.reached, "no event is handled")
			receive(t, p.reached, "no event of the other partition is handled")
			before := query[int64](f, `SELECT max(number) FROM orchestrator_generations WHERE state = 'active'`)
			stop(f, r)
			f.awaitAbandoned(r, 2)
			eventually(t, func() bool {
				return query[bool](f, `SELECT coalesce(max(number) > $1, false) FROM orchestrator_generations WHERE state = 'active'`, before)
			}, "there is no new generation")
			require.True(t, query[bool](f, `SELECT bool_and(worker_id IS NULL) FROM orchestrator_checkpoints WHERE projection = 'p'`),
				"the projection's rows still have an owner")
			want = append(want, f.append("Order", 20)...)
			eventually(t, func() bool { return f.checkpoint("q") == want[len(want)-1] }, "q stands still")
			assert.EqualValues(t, 2, r.count("abandoned_handlers", "projection", "p"))
			assert.Contains(t, query[string](f, `SELECT reason FROM orchestrator_generations WHERE state = 'active'`), `no worker handles "p"`)
			assert.Empty(t, f.handled("p"))
			assert.Empty(t, p.reached, "a handler was called beside one that hangs")
			p.release()
			eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still after its handlers have returned")
			assert.ElementsMatch(t, want, f.handled("p"))
			assert.ElementsMatch(t, want, f.handled("q"))
		})
	}
}

// ends are what a handler may do after it was abandoned. Nothing of it is committed.
var ends = map[string]func(ctx context.Context, tx pgx.Tx) error{
	"success": nil,
	"error":   func(context.Context, pgx.Tx) error { return errors.New("no such customer") },
	"panic":   func(context.Context, pgx.Tx) error { panic("no such customer") },
	"Goexit":  func(context.Context, pgx.Tx) error { runtime.Goexit(); return nil },
	"statement": func(_ context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(context.Background(), `INSERT INTO handled (projection, position) VALUES ('p', -1)`)
		if err == nil {
			return errors.New("the connection is open")
		}
		return nil
	},
	"commit": func(_ context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(context.Background(), `COMMIT`)
		return err
	},
}

func TestWhatAnAbandonedHandlerDoesIsRolledBack(t *testing.T) {
	t.Parallel()
	for name, after := range ends {
		for _, whole := range []bool{false, true} {
			if pgtest.BehindPooler() && name != "statement" {
				continue // each worker that ends sends cancel requests, of which PgBouncer 1.18 may die
			}
			t.Run(fmt.Sprintf("%s/whole=%t", name, whole), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				want := f.append("Order", 10)
				h := newHang(t, want[4])
				h.after = after
				var p projection.Projection = h
				if whole {
					p = &batchRecorder{recorder{name: "p", before: h.before}}
				}
				first := f.start(impatient, p)
				receive(t, h.reached, "the event is never handled")
				f.start(impatient, &recorder{name: "p"})
				f.awaitHandled("p", want)
				f.awaitAbandoned(first, 1)
				eventually(t, func() bool { // batches of others are idle for moments
					return query[int](f, `SELECT count(*)::int FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND datname = current_database()`) == 0
				}, "the transaction is still open")
				h.release()
				first.log.Await(t, "a handler that was abandoned has returned")
				f.awaitAbandoned(first, 0)
				eventually(t, func() bool { return f.slots("p", first) == 32768 }, "the worker does not take part again")
				want = append(want, f.append("Order", 10)...)
				eventually(t, func() bool { return f.checkpoint("p") == want[len(want)-1] }, "p stands still")
				assert.ElementsMatch(t, want, f.handled("p"))
				assert.Zero(t, first.count("actor_panics_total"))
			})
		}
	}
}

// The backend of a statement whose context does not end is ended, and so the handler returns.
func TestAStatementThatHangsIsEnded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 3)
	reached := make(chan struct{}, 1)
	r := f.start(impatient, &recorder{name: "p", before: func(_ context.Context, tx pgx.Tx, e es.PersistedEvent, attempt int) error {
		if e.GlobalPosition != want[1] || attempt > 1 {
			return nil
		}
		reached <- struct{}{}
		_, err := tx.Exec(context.Background(), `SELECT pg_sleep(600)`)
		return err
	}})
	receive(t, reached, "the event is never handled")
	r.Leave()
	r.awaitDone()
	eventually(t, func() bool { return len(r.Busy()) == 0 }, "the handler does not return")
	if pgtest.BehindPooler() {
		return // the pooler's backend is not known
	}
	eventually(t, func() bool {
		return query[int](f, `SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()`) == 0
	}, "the statement goes on")
}

// When a worker has ended, its pool can be closed, though a handler hangs.
func TestAnAbandonedHandlerKeepsNoConnectionOfThePool(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testWorker){"leave": func(r *testWorker) { r.Leave() }, "stop": func(r *testWorker) { r.Stop() }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			want := f.append("Order", 3)
			p := newHang(t, want[1])
			own, err := pgxpool.NewWithConfig(t.Context(), f.pool.Config())
			require.NoError(t, err)
			r := f.start(func(c *Config) { impatient(c); c.Pool = own }, p)
			receive(t, p.reached, "the event is never handled")
			end(r)
			r.awaitDone()
			require.Len(t, r.Busy(), 1)
			assert.Contains(t, r.Busy()[0], fmt.Sprintf("position %d", want[1]))
			closed := make(chan struct{})
			go func() { own.Close(); close(closed) }()
			receive(t, closed, "closing the pool waits for the handler")
			p.release()
			r.log.Await(t, "a handler that was abandoned has returned")
		})
	}
}

// A handler that hangs again after each return is left out longer each time: it does not cause one change of generation
// after the other.
func TestAHandlerThatHangsAgainIsLeftOutLonger(t *testing.T) {
	t.Parallel()
	h := NewHandlers(time.Minute, nil)
	var changes atomic.Int32
	h.notify(func() { changes.Add(1) })
	h.pause = dbfault.Backoff{First: time.Hour, Max: 2 * time.Hour}
	p := &processor{log: slog.New(slog.DiscardHandler), fence: pgcoord.Fence{Projection: "p"}}
	abandon := func() {
		w := h.watch(p, packed.Pack([]es.PersistedEvent{{GlobalPosition: 1}}))
		w.abandon()
		assert.True(t, h.hasAbandoned("p"))
		w.returned(nil)
	}
	abandon()
	assert.False(t, h.hasAbandoned("p"), "the first time the projection is taken up again at once")
	abandon()
	assert.True(t, h.hasAbandoned("p"))
	assert.Empty(t, h.running())
	assert.EqualValues(t, 3, changes.Load())
}

// A handler that hangs is counted before it is told to stop, until it returns.
func TestAHandlerThatHangsIsCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 3)
	p := newHang(t, want[1])
	r := f.start(func(c *Config) { c.Batch.HangAfter = 20 * time.Millisecond }, p)
	receive(t, p.reached, "the event is never handled")
	hanging := func() float64 { return r.count("hanging_handlers", "projection", p.Name()) }
	eventually(t, func() bool { return hanging() == 1 }, "the handler is not counted")
	assert.Zero(t, r.count("abandoned_handlers", "projection", p.Name()))
	p.release()
	eventually(t, func() bool { return hanging() == 0 }, "it is counted after it has returned")
}

// While a handler runs, the horizon advances a thousand times, and hardly a message waits for the processor.
func TestNoMailboxGrowsWhileAHandlerRuns(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 3)
	p := newHang(t, want[1])
	r := f.start(nil, p)
	receive(t, p.reached, "the event is never handled")
	const many = 1000
	for i := range many {
		r.system.Root.Send(r.top, messages.HorizonAdvanced{Position: int64(i % 2), Epoch: 1})
	}
	eventually(t, func() bool {
		return r.count("actor_messages_total", "actor", kindPartition, "message", "HorizonAdvanced") >= many
	}, "the partition does not take the messages in")
	assert.LessOrEqual(t, r.count("actor_mailbox_length", "actor", kindProcessor), 3.0)
	p.release()
	f.awaitHandled("p", want)
	f.awaitHandled("p", append(want, f.append("Order", 3)...)) // it hears of the horizons that follow
}
