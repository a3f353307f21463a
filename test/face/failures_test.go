package face

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

var errBad = errors.New("the event is bad")

// gate lets a handler fail on the event of one position until it is opened.
type gate struct {
	position int64
	fail     func() error
	opened   atomic.Bool
	failures atomic.Int64
}

func (g *gate) check(_ context.Context, event es.PersistedEvent) error {
	if event.GlobalPosition != g.position || g.opened.Load() {
		return nil
	}
	g.failures.Add(1)
	return g.fail()
}

func TestHandlerThatFails(t *testing.T) {
	for kind, fail := range map[string]func() error{
		"error": func() error { return fmt.Errorf("writing the row: %w", errBad) },
		"panic": func() error { panic(errBad) },
	} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			orch := w.orchestrator("set")
			g := &gate{position: 4, fail: fail}
			w.append("ada", 6)
			r := start(t, orch, recorder{name: "bad", before: g.check}, recorder{name: "good"})

			w.awaitHandled("bad", 3)
			w.awaitHandled("good", 6)
			w.await("true", "SELECT coalesce(bool_or(attempts >= 3), false) FROM orchestrator_dead_letters")
			assert.Equal(t, "bad 4 set Something User ada retrying",
				w.value("SELECT projection, global_position, replica_set, event_type, aggregate_type, aggregate_id, state FROM orchestrator_dead_letters"))
			assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), errBad.Error())
			assert.Equal(t, "bad 3, good 6", w.value("SELECT projection, position FROM orchestrator_checkpoints ORDER BY projection"))
			assert.Equal(t, "1", metric(t, orch, `retrying{partition="0/1",projection="bad",replica_set="set"}`))
			w.append("grace", 2)
			w.awaitHandled("good", 8)
			assert.Equal(t, "3", w.value("SELECT count(*) FROM handled WHERE projection = 'bad'"), "nothing passes the event")

			g.opened.Store(true)
			w.awaitHandled("bad", 8)
			w.await("handled true", "SELECT state, handled_at IS NOT NULL FROM orchestrator_dead_letters")
			failures := fmt.Sprint(g.failures.Load())
			assert.Equal(t, failures, w.value("SELECT attempts FROM orchestrator_dead_letters"))
			w.logs.AwaitLine(t, "had failed was handled")
			assert.Regexp(t, `had failed was handled.* attempts=`+failures+`\b`, w.logs.String(), "the log counts as the table does")
			if kind == "panic" {
				assert.Equal(t, 1, strings.Count(w.logs.String(), " stack="), "its stack is logged once")
			}
			assert.Equal(t, failures, metric(t, orch, `handler_errors_total{kind="`+kind+`",projection="bad",replica_set="set"}`))
			awaitMetric(t, orch, "0", `retrying{partition="0/1",projection="bad",replica_set="set"}`)
			awaitMetric(t, orch, "8", `events_handled_total{projection="bad",replica_set="set"}`)
			assert.Contains(t, []string{"", "0"}, metric(t, orch, `handler_errors_total{kind="`+kind+`",projection="good",replica_set="set"}`))
			require.NoError(t, r.stop())
			w.requireOrder("bad")
		})
	}
}

// What fails in one partition of a projection does not hold up the others.
func TestHandlerThatFailsInOnePartition(t *testing.T) {
	w := newWorld(t)
	g := &gate{position: 1, fail: func() error { return errBad }}
	w.append("ada", 1)
	for i := range 20 {
		w.append(fmt.Sprint("user ", i), 1)
	}
	partition := "(hashtextextended(aggregate_id, 0) & 65535) * 4 / 65536"
	others := w.value("SELECT count(*) FROM events WHERE " + partition + " <> (SELECT " + partition + " FROM events WHERE global_position = 1)")
	require.NotEqual(t, "0", others)
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(4)), recorder{name: "bad", before: g.check})
	w.await("retrying "+others, "SELECT state, (SELECT count(*) FROM handled) FROM orchestrator_dead_letters")
	g.opened.Store(true)
	w.awaitHandled("bad", 21)
	require.NoError(t, r.stop())
}

// A worker that stops while an event is failing leaves it to the next one.
func TestHandlerThatFailsOverARestart(t *testing.T) {
	w := newWorld(t)
	g := &gate{position: 2, fail: func() error { return errBad }}
	w.append("ada", 3)
	orch := w.orchestrator("set")
	r := start(t, orch, recorder{name: "bad", before: g.check})
	// What came before the event is committed after the failure is recorded.
	w.await("retrying 1", "SELECT state, (SELECT position FROM orchestrator_checkpoints) FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
	assert.Equal(t, "1", w.value("SELECT position FROM orchestrator_checkpoints"))
	assert.Equal(t, "retrying", w.value("SELECT state FROM orchestrator_dead_letters"))

	failures := g.failures.Load()
	// A restarted worker tries again soon, however often the event has failed before.
	w.exec("UPDATE orchestrator_dead_letters SET attempts = 100")
	r = start(t, w.orchestrator("set", orchestrator.WithRetryBackoff(5*time.Millisecond, time.Hour)), recorder{name: "bad", before: g.check})
	eventually(t, func() bool { return g.failures.Load() > failures+2 }, func() string { return "the event to fail again" })
	attempts := w.value("SELECT attempts FROM orchestrator_dead_letters")
	w.logs.AwaitLine(t, "attempt="+attempts+" ") // the log counts as the table does
	g.opened.Store(true)
	w.awaitHandled("bad", 3)
	w.await("handled", "SELECT state FROM orchestrator_dead_letters")
	require.NoError(t, r.stop())
}

// A handler that writes, then fails, has written nothing; one that hides a
// failed statement has not succeeded.
func TestHandlerWhoseStatementFails(t *testing.T) {
	w := newWorld(t)
	var opened atomic.Bool
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), function{name: "hides", handle: func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
		if err := (recorder{name: "hides"}).Handle(ctx, tx, event); err != nil {
			return err
		}
		if !opened.Load() {
			_, _ = tx.Exec(ctx, "SELECT 1/0")
		}
		return nil
	}})
	w.await("retrying", "SELECT state FROM orchestrator_dead_letters")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM handled"))
	assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), "aborted")
	opened.Store(true)
	w.awaitHandled("hides", 1)
	require.NoError(t, r.stop())
}

// A handler cannot commit the batch.
func TestHandlerThatCommits(t *testing.T) {
	w := newWorld(t)
	var refused atomic.Int64
	w.append("ada", 3)
	r := start(t, w.orchestrator("set"), function{name: "commits", handle: func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
		if err := (recorder{name: "commits"}).Handle(ctx, tx, event); err != nil {
			return err
		}
		if tx.Commit(ctx) != nil && tx.Rollback(ctx) != nil {
			refused.Add(1)
		}
		return nil
	}})
	w.awaitHandled("commits", 3)
	assert.Equal(t, int64(3), refused.Load())
	require.NoError(t, r.stop())
}

// function is a projection made of a function.
type function struct {
	name   string
	handle func(context.Context, pgx.Tx, es.PersistedEvent) error
}

func (f function) Name() string { return f.name }

func (f function) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return f.handle(ctx, tx, event)
}

// batches is a projection that takes whole batches and remembers those that it
// was given.
type batches struct {
	recorder
	mu    sync.Mutex
	given [][]int64
}

func (b *batches) Handle(context.Context, pgx.Tx, es.PersistedEvent) error {
	return errors.New("Handle was called, though there is HandleBatch")
}

func (b *batches) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	positions := make([]int64, len(events))
	for i, event := range events {
		positions[i] = event.GlobalPosition
	}
	b.mu.Lock()
	b.given = append(b.given, positions)
	b.mu.Unlock()
	for _, event := range events {
		if err := b.recorder.Handle(ctx, tx, event); err != nil {
			return err
		}
	}
	return nil
}

func (b *batches) all() [][]int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.given)
}

func TestBatchProjection(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 25)
	b := &batches{recorder: recorder{name: "batches"}}
	r := start(t, w.orchestrator("set", orchestrator.WithBatchSize(10)), b)
	w.awaitHandled("batches", 25)
	require.NoError(t, r.stop())
	given := b.all()
	require.NotEmpty(t, given)
	assert.Len(t, given[0], 10, "later ones may be smaller where the machine is slow")
	all := slices.Concat(given...)
	require.Len(t, all, 25)
	assert.True(t, slices.IsSorted(all))
	for _, batch := range given {
		assert.LessOrEqual(t, len(batch), 10)
	}
}

func TestBatchProjectionThatFails(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	g := &gate{position: 6, fail: func() error { panic("a bad batch") }}
	w.append("ada", 9)
	r := start(t, orch, &batches{recorder: recorder{name: "batches", before: g.check}})
	w.awaitHandled("batches", 5)
	w.await("6 retrying", "SELECT global_position, state FROM orchestrator_dead_letters")
	assert.Contains(t, w.value("SELECT last_error FROM orchestrator_dead_letters"), "a bad batch")
	assert.Equal(t, "5", w.value("SELECT position FROM orchestrator_checkpoints"))
	g.opened.Store(true)
	w.awaitHandled("batches", 9)
	w.await("handled", "SELECT state FROM orchestrator_dead_letters")
	assert.NotRegexp(t, `actor_panics_total\{[^}]*\} [1-9]`, scrape(t, orch.MetricsHandler()), "a handler's panic is no actor's")
	require.NoError(t, r.stop())
}

// A handler that commits by SQL commits what it has done so far, and nothing of what comes after: that is handled all the same.
func TestHandlerThatCommitsBySQL(t *testing.T) {
	for name, statement := range map[string]string{"commits": "COMMIT", "commits and begins another": "COMMIT AND CHAIN"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 10)
			var once atomic.Bool
			r := start(t, w.orchestrator("set"), function{name: "commits", handle: func(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
				_, err := tx.Exec(ctx, "INSERT INTO handled (projection, position) VALUES ('commits', $1) ON CONFLICT DO NOTHING", event.GlobalPosition)
				if err != nil {
					return err
				}
				if event.AggregateVersion == 4 && once.CompareAndSwap(false, true) {
					_, err := tx.Exec(ctx, statement)
					return err
				}
				return nil
			}})
			w.await("10", "SELECT count(*) FROM handled WHERE projection = $1", "commits")
			require.NoError(t, r.stop())
		})
	}
}

// straggler fails on its first event, and leaves behind a goroutine that goes on to write.
type straggler struct {
	recorder
	calls *atomic.Int64
	late  chan error
	ended chan struct{} // closed when the batch has been rolled back
}

func (s straggler) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if s.calls.Add(1) > 1 {
		return s.recorder.Handle(ctx, tx, event)
	}
	go func() {
		<-s.ended
		s.late <- s.recorder.Handle(context.WithoutCancel(ctx), tx, event)
	}()
	return errBad
}

// What a handler does after it has failed is not kept, so the event can be handled again.
func TestAHandlerThatGoesOnAfterItsFailure(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	p := straggler{recorder{name: "p"}, new(atomic.Int64), make(chan error, 1), make(chan struct{})}
	orch := w.orchestrator("set", orchestrator.WithFailureHook(func(context.Context, projection.Failure) { close(p.ended) }),
		orchestrator.WithErrorPolicy(projection.ErrorPolicy{First: time.Second, Max: time.Second}))
	r := start(t, orch, p)
	require.ErrorIs(t, await(t, p.late, "the goroutine to write"), pgx.ErrTxClosed)
	w.awaitHandled("p", 1)
	assert.EqualValues(t, 2, p.calls.Load())
	require.NoError(t, r.stop())
}
