package face

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// admin makes an Admin of a replica set.
func (w *world) admin(replicaSet string, options ...admin.Option) *admin.Admin {
	w.t.Helper()
	a, err := admin.New(w.application(), w.store, replicaSet, append([]admin.Option{admin.WithActor("anna")}, options...)...)
	require.NoError(w.t, err)
	return a
}

// patiently is a context for what workers have to do.
func (w *world) patiently() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// asks has somebody ask for a retry, and go away when the request is there.
func (w *world) asks(a *admin.Admin, f admin.Filter) (result admin.Result, err error) {
	w.t.Helper()
	before := w.value("SELECT count(*) + 1 FROM orchestrator_operations")
	err = w.givesUp(before, "SELECT count(*) FROM orchestrator_operations", func(ctx context.Context) (err error) {
		result, err = a.Retry(ctx, f, "")
		return err
	})
	return result, err
}

// givesUp runs do, ends its context when the query's answer is as wanted, and returns its error.
func (w *world) givesUp(want, query string, do func(context.Context) error) error {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- do(ctx) }()
	w.await(want, query)
	cancel()
	return await(w.t, ended, "somebody to give up")
}

// waitsForLock says whether somebody waits for a row.
const waitsForLock = `SELECT count(*) > 0 FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE NOT l.granted AND a.datname = current_database()`

// directOnly skips the test behind a pooler, where it would find out nothing more than others do.
func directOnly(t *testing.T) {
	t.Helper()
	if pgtest.BehindPooler() {
		t.Skip("runs without a pooler only")
	}
}

// parkAtOnce is an error policy.
var parkAtOnce = orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park})

// breakable fails on events for as long as wrong says so.
func breakable(wrong func(es.PersistedEvent) error) func(context.Context, es.PersistedEvent) error {
	return func(_ context.Context, event es.PersistedEvent) error { return wrong(event) }
}

// both are a recorder of single events and one of batches.
var both = map[string]func(recorder) projection.Projection{
	"one by one": func(r recorder) projection.Projection { return r },
	"batches":    func(r recorder) projection.Projection { return inBatches{r} },
}

// A poison event parks its aggregate. Its group is listed, a trial fails, the handler is repaired, a trial succeeds and changes nothing, and a retry handles what
// was put aside, in order. Then the aggregate flows again.
func TestRetryHandlesWhatWasPutAside(t *testing.T) {
	for kind, of := range both {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			var broken atomic.Bool
			broken.Store(true)
			var trials atomic.Int64
			p := of(recorder{name: "p", before: func(ctx context.Context, event es.PersistedEvent) error {
				if d, _ := projection.DeliveryFrom(ctx); d.Trial {
					trials.Add(1)
				}
				if broken.Load() && event.GlobalPosition == 4 {
					return fmt.Errorf("the address of %q is too long: %d", event.AggregateID, event.GlobalPosition)
				}
				return nil
			}})
			w.appendInTurn(4, "ada", "grace", "alan") // ada has 1, 4, 7, 10
			r := start(t, w.orchestrator("set", parkAtOnce), p)
			w.await("3", "SELECT letters FROM orchestrator_parked_aggregates")
			a := w.admin("set")

			groups, err := a.FailureGroups(t.Context(), admin.Filter{Projection: "p"})
			require.NoError(t, err)
			require.Len(t, groups, 1)
			g := groups[0]
			assert.Equal(t, "the address of … is too long: …", g.Kind)
			assert.Contains(t, g.Frame, map[string]string{"one by one": "recorder.Handle", "batches": "inBatches.HandleBatch"}[kind])
			assert.Equal(t, []any{1, 1, 3, int64(4), `the address of "ada" is too long: 4`}, []any{g.Events, g.Aggregates, g.Waiting, g.ExamplePosition, g.Example})

			ada := admin.Aggregate{BoundedContext: "Identity", Type: "User", ID: "ada"}
			got, err := a.Try(w.patiently(), admin.Filter{Group: g.Group})
			require.NoError(t, err)
			assert.Equal(t, []admin.Trial{{Projection: "p", Aggregate: ada, Letters: 3, FailedAt: 4, Error: g.Example}}, got)
			broken.Store(false)
			got, err = a.Try(w.patiently(), admin.Filter{Group: g.Group})
			require.NoError(t, err)
			assert.Equal(t, []admin.Trial{{Projection: "p", Aggregate: ada, Letters: 3, Handled: 3}}, got)
			assert.EqualValues(t, 1+3, trials.Load())
			assert.Equal(t, "0", w.value("SELECT count(*) FROM handled WHERE position IN (4, 7, 10)"))

			result, err := a.Retry(w.patiently(), admin.Filter{Group: g.Group}, "the address may be longer now")
			require.NoError(t, err)
			assert.Equal(t, admin.Result{Operation: 3, Aggregates: 1, Succeeded: 1, Events: 3}, result)
			assert.Equal(t, "0 3", w.value("SELECT (SELECT count(*) FROM orchestrator_parked_aggregates), (SELECT count(*) FROM orchestrator_dead_letters WHERE state = 'handled')"))
			w.append("ada", 1)
			w.awaitHandled("p", 13)
			w.requireOrder("p")
			require.NoError(t, r.stop())
			assert.Equal(t, "1 try anna  done, 2 try anna  done, 3 retry anna the address may be longer now done",
				w.value("SELECT id, kind, actor, reason, state FROM orchestrator_operations ORDER BY id"))
			assert.Equal(t, "1 0 3", w.value("SELECT result ->> 'succeeded', result ->> 'failed', result ->> 'events' FROM orchestrator_operations WHERE id = 3"))
		})
	}
}

// What succeeded before a letter that fails is kept, and the aggregate stays parked.
func TestARetryThatFailsKeepsWhatSucceeded(t *testing.T) {
	for kind, of := range both {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			var bad atomic.Int64
			bad.Store(1)
			p := of(recorder{name: "p", before: breakable(func(e es.PersistedEvent) error {
				if e.GlobalPosition == bad.Load() {
					return fmt.Errorf("bad %d", e.GlobalPosition)
				}
				return nil
			})})
			w.append("ada", 40)
			r := start(t, w.orchestrator("set", parkAtOnce), p)
			w.await("40", "SELECT letters FROM orchestrator_parked_aggregates")
			bad.Store(30)
			result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
			require.NoError(t, err)
			ada := admin.Aggregate{BoundedContext: "Identity", Type: "User", ID: "ada"}
			assert.Equal(t, admin.Result{
				Operation: 1, Aggregates: 1, Failed: 1, Events: 29, Failures: []admin.RetryFailure{{Projection: "p", Aggregate: ada, Position: 30, Error: "bad 30"}},
			}, result)
			assert.Equal(t, "30 11", w.value("SELECT global_position, letters FROM orchestrator_parked_aggregates"))
			assert.Equal(t, "30 1 bad 30", w.value("SELECT global_position, attempts, last_error FROM orchestrator_dead_letters WHERE state = 'parked' ORDER BY 1 LIMIT 1"))
			w.append("ada", 1)
			w.await("12", "SELECT letters FROM orchestrator_parked_aggregates")
			bad.Store(0)
			result, err = w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
			require.NoError(t, err)
			assert.EqualValues(t, 12, result.Events)
			w.awaitHandled("p", 41)
			w.requireOrder("p")
			require.NoError(t, r.stop())
		})
	}
}

// Without a worker a retry waits, for all to see. It is done when there is one, whoever asked is gone.
func TestARetryWaitsForAWorker(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	result, err := w.asks(w.admin("set"), admin.Filter{AggregateID: "ada"})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "1 of 1 aggregates still wait for a worker that runs p")
	assert.Equal(t, admin.Result{Operation: 1, Aggregates: 1, Waiting: 1}, result)
	assert.Equal(t, "waiting", w.value("SELECT state FROM orchestrator_operations"))
	require.NoError(t, w.admin("set").Cancel(t.Context(), 1, "not now"))
	require.ErrorContains(t, w.admin("set").Cancel(t.Context(), 1, ""), "there is no such operation that waits")
	require.ErrorContains(t, w.admin("other").Cancel(t.Context(), 1, ""), "there is no such operation that waits")
	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p"})
	w.append("grace", 1)
	w.awaitHandled("p", 1)
	assert.Equal(t, "1", w.value("SELECT count(*) FROM orchestrator_parked_aggregates"), "it was cancelled")
	require.NoError(t, r.stop())

	_, err = w.asks(w.admin("set"), admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	r = start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3)), recorder{name: "p"})
	w.await("done", "SELECT state FROM orchestrator_operations WHERE id = 2")
	w.awaitHandled("p", 3)
	require.NoError(t, r.stop())
	assert.Equal(t, "succeeded 2", w.value("SELECT state, handled FROM orchestrator_requests WHERE operation = 2"))
}

// goesAway ends the caller's context when the workers are notified of a change.
type goesAway struct{ cancel context.CancelFunc }

func (g *goesAway) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (g *goesAway) TraceBatchQuery(_ context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	if strings.Contains(q.SQL, "pg_notify") {
		g.cancel()
	}
}
func (g *goesAway) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (g *goesAway) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (g *goesAway) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A caller whose context ends right after its request learns the operation's number and state.
func TestACallerThatLeavesLearnsTheOperation(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	config, impatient := w.db.Config(), &goesAway{}
	config.ConnConfig.Tracer = impatient
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	w.workers = db
	a := w.admin("set")
	for n := int64(1); n <= 10; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		impatient.cancel = cancel
		result, err := a.Retry(ctx, admin.Filter{AggregateID: "ada"}, "")
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, fmt.Sprintf("operation %d: 1 of 1 aggregates still wait for a worker that runs p", n))
		assert.Equal(t, admin.Result{Operation: n, Aggregates: 1, Waiting: 1}, result)
		require.NoError(t, w.admin("set").Cancel(w.patiently(), n, ""))
	}
}

// Discard leaves out what was put aside, and answers who waits for it. The next event is handled.
func TestDiscardLeavesOutWhatWasPutAside(t *testing.T) {
	w := newWorld(t)
	w.appendInTurn(2, "ada", "grace")
	p := recorder{name: "p", before: poisoned(errBad, 1, 2)}
	r := start(t, w.orchestrator("set", parkAtOnce), p)
	w.await("2 2", "SELECT count(*), sum(letters)::int / 2 FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	_, err := w.asks(w.admin("set"), admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	r = start(t, w.orchestrator("other", parkAtOnce), recorder{name: "q"})
	w.awaitHandled("q", 4)

	result, err := w.admin("set").Discard(t.Context(), admin.Filter{AggregateID: "ada"}, "a test account")
	require.NoError(t, err)
	assert.Equal(t, admin.Result{Operation: 2, Aggregates: 1, Succeeded: 1, Events: 2}, result)
	assert.Equal(t, "ada cancelled discarded, grace waiting ", w.value("SELECT aggregate_id, state, error FROM orchestrator_requests ORDER BY 1"))
	result, err = w.admin("set").Discard(t.Context(), admin.Filter{Projection: "p"}, "")
	require.NoError(t, err)
	assert.EqualValues(t, 2, result.Events)
	assert.Equal(t, "3", w.value("SELECT count(*) FROM orchestrator_operations WHERE state = 'done'"))
	require.NoError(t, r.stop())

	r = start(t, w.orchestrator("set", parkAtOnce), p)
	w.append("ada", 1)
	w.awaitHandled("p", 1)
	assert.Equal(t, "0 0", w.value("SELECT (SELECT count(*) FROM orchestrator_dead_letters), (SELECT count(*) FROM orchestrator_parked_aggregates)"))
	w.append("ada", 1)
	w.awaitHandled("p", 2)
	require.NoError(t, r.stop())
}

// A discard takes what it has found, though more is parked while it waits for the slots.
func TestDiscardLocksWhatItDiscards(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM orchestrator_checkpoints FOR NO KEY UPDATE")
	require.NoError(t, err)
	results := make(chan admin.Result, 1)
	go func() {
		result, err := w.admin("set").Discard(context.WithoutCancel(t.Context()), admin.Filter{}, "")
		assert.NoError(t, err)
		results <- result
	}()
	w.await("1", "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
	_, err = tx.Exec(t.Context(), `INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, last_error, worker_id, generation)
		SELECT projection, 100, replica_set, event_id, event_type, bounded_context, aggregate_type, 'grace', state, last_error, worker_id, generation FROM orchestrator_dead_letters WHERE global_position = 1`)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `INSERT INTO orchestrator_parked_aggregates SELECT projection, bounded_context, aggregate_type, 'grace', replica_set, 100, 1 FROM orchestrator_parked_aggregates`)
	require.NoError(t, err)
	require.NoError(t, tx.Commit(t.Context()))
	assert.Equal(t, 1, await(t, results, "Discard to return").Aggregates)
	assert.Equal(t, "grace", w.value("SELECT aggregate_id FROM orchestrator_parked_aggregates"))
}

// A letter whose event is gone, or whose position has another event, cannot be retried, and says so.
func TestALetterWithoutItsEvent(t *testing.T) {
	directOnly(t)
	for name, gone := range map[string]string{
		"deleted":  "DELETE FROM events WHERE global_position = 2",
		"replaced": "UPDATE events SET event_id = gen_random_uuid() WHERE global_position = 2",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 3)
			r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
			w.await("3", "SELECT letters FROM orchestrator_parked_aggregates")
			w.exec(gone)
			a := w.admin("set")
			trials, err := a.Try(w.patiently(), admin.Filter{})
			require.NoError(t, err)
			require.Len(t, trials, 1)
			assert.EqualValues(t, 1, trials[0].FailedAt, "the handler still fails")
			require.NoError(t, r.stop())
			r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p"})
			trials, err = a.Try(w.patiently(), admin.Filter{})
			require.NoError(t, err)
			require.EqualValues(t, 2, trials[0].FailedAt)
			assert.Contains(t, trials[0].Error, "the events table has no event")
			result, err := a.Retry(w.patiently(), admin.Filter{}, "")
			require.NoError(t, err)
			require.Equal(t, []any{1, int64(1)}, []any{result.Failed, result.Events})
			assert.Contains(t, result.Failures[0].Error, "the events table has no event")
			_, err = a.Discard(t.Context(), admin.Filter{}, "")
			require.NoError(t, err)
			w.append("ada", 1)
			w.await("1, 4", "SELECT position FROM handled ORDER BY 1")
			require.NoError(t, r.stop())
		})
	}
}

// A retry waits, and somebody deletes its aggregate's row but not its letters. The retry ends and says so, and the letters stay, whether the worker has read the
// row before or not.
func TestARetryWhoseAggregateWasUnparkedByHandIsRefused(t *testing.T) {
	directOnly(t)
	for name, restarted := range map[string]bool{"read before": false, "never read": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var calls atomic.Int64
			repaired := recorder{name: "p", before: func(context.Context, es.PersistedEvent) error {
				calls.Add(1)
				return nil
			}}
			w.append("ada", 1)
			r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
			w.await("1", "SELECT letters FROM orchestrator_parked_aggregates")
			require.NoError(t, r.stop())
			if restarted {
				w.exec("DELETE FROM orchestrator_parked_aggregates")
			}
			r = start(t, w.orchestrator("set", parkAtOnce), repaired)
			w.awaitRunning("set", 1)
			w.exec("DELETE FROM orchestrator_parked_aggregates")
			w.exec(`WITH o AS (INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('set', 'p', 'retry', '', '', 'waiting') RETURNING id)
				INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind)
				SELECT id, 'p', 'Identity', 'User', 'ada', 'retry' FROM o`)
			w.exec("UPDATE orchestrator_checkpoints SET revision = revision + 1")
			w.await("failed 1 done parked", "SELECT r.state, failed_position, o.state, d.state FROM orchestrator_requests AS r JOIN orchestrator_operations AS o ON id = operation, orchestrator_dead_letters AS d")
			assert.Contains(t, w.value("SELECT error FROM orchestrator_requests"), "the aggregate is not parked, although it has letters")
			assert.LessOrEqual(t, calls.Load(), int64(1))
			w.append("ada", 1)
			w.await("2", "SELECT position FROM handled")
			require.NoError(t, r.stop())
		})
	}
}

// What a handler has deferred to the end of the transaction is part of a trial.
func TestATrialChecksWhatIsDeferred(t *testing.T) {
	directOnly(t)
	skipHostile(t, "session_replication_role checks no foreign keys")
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	w.exec("CREATE TABLE only_odd (position bigint PRIMARY KEY)")
	w.exec("INSERT INTO only_odd VALUES (1)")
	w.exec("ALTER TABLE handled ADD FOREIGN KEY (position) REFERENCES only_odd DEFERRABLE INITIALLY DEFERRED")
	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p"})
	trials, err := w.admin("set").Try(w.patiently(), admin.Filter{})
	require.NoError(t, err)
	require.Len(t, trials, 1)
	require.Contains(t, trials[0].Error, "23503")
	result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
	require.NoError(t, err)
	assert.Equal(t, []any{1, int64(1)}, []any{result.Failed, result.Events})
	assert.EqualValues(t, 2, result.Failures[0].Position)
	require.NoError(t, r.stop())
}

// A letter that fails is answered at once, also where the partitions of the projection take turns: the turn is over then.
func TestARetryThatFailsWhilePartitionsTakeTurns(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	w.exec("INSERT INTO orchestrator_turns VALUES ('p', 'set', now() + interval '1 hour', 3600, 1)")
	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
	require.NoError(t, err)
	assert.Equal(t, 1, result.Failed)
	trials, err := w.admin("set").Try(w.patiently(), admin.Filter{})
	require.NoError(t, err)
	require.Len(t, trials, 1)
	assert.EqualValues(t, 1, trials[0].FailedAt)
	require.NoError(t, r.stop())
}

// What somebody else has cancelled or discarded was not done, and whoever waits for it is told.
func TestWhoWaitsForWhatIsCancelledIsTold(t *testing.T) {
	directOnly(t)
	for name, end := range map[string]func(a *admin.Admin) error{
		"cancelled": func(a *admin.Admin) error { return a.Cancel(t.Context(), 1, "") },
		"discarded": func(a *admin.Admin) error { _, err := a.Discard(t.Context(), admin.Filter{}, ""); return err },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 2)
			r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
			w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
			require.NoError(t, r.stop())
			waited := make(chan error, 1)
			go func() {
				_, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
				waited <- err
			}()
			w.await("1", "SELECT count(*) FROM orchestrator_requests WHERE state = 'waiting'")
			require.NoError(t, end(w.admin("set")))
			require.ErrorIs(t, await(t, waited, "the retry to return"), admin.ErrCancelled)
		})
	}
}

// What was asked for of all projections ends when the last of it is discarded in the replica set that a projection was moved to.
func TestAnOperationEndsThoughItsProjectionWasMoved(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 2)
	r := start(t, w.orchestrator("old", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	_, err := w.asks(w.admin("old"), admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, w.admin("old").Move(t.Context(), "p", "new", ""))
	_, err = w.admin("new").Discard(t.Context(), admin.Filter{}, "")
	require.NoError(t, err)
	assert.Equal(t, "done", w.value("SELECT state FROM orchestrator_operations WHERE kind = 'retry'"))
}

// A function that ends its goroutine, as FailNow does, leaves no transaction open.
func TestAResetWhoseFunctionEndsItsGoroutine(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	w.await("1", "SELECT position FROM orchestrator_checkpoints")
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.admin("set").ResetWith(t.Context(), "p", admin.Start(), "", func(context.Context, pgx.Tx) error {
			runtime.Goexit()
			return nil
		})
	}()
	await(t, ended, "the goroutine to end")
	w.append("ada", 1)
	w.awaitHandled("p", 2)
	require.NoError(t, r.stop())
}

// Retries, trials and discards at random, beside failures, other numbers of partitions and workers that come and go: each event is handled once, in the order
// of its aggregate, or is a letter, or was discarded.
func TestRequestsAtRandom(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	ids := make([]string, 12)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var rate atomic.Int64
	rate.Store(20)
	p := recorder{name: "p", before: breakable(func(e es.PersistedEvent) error {
		if rand.Int64N(100) < rate.Load() {
			return errBad
		}
		return nil
	})}
	discarded := int64(0)
	appended := 0
	for round := range 4 {
		workers := []*running{
			start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithPartitionsPerWorker(1+round)), p),
			start(t, w.orchestrator("set", parkAtOnce), inBatches{p}),
		}
		for range 6 {
			w.appendInTurn(2, ids...)
			appended += 2 * len(ids)
			of := admin.Filter{AggregateID: ids[random.IntN(len(ids))]}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			var err error
			switch random.IntN(5) {
			case 0:
				var result admin.Result
				result, err = w.admin("set").Discard(t.Context(), of, "")
				discarded += result.Events
			case 1:
				_, err = w.admin("set").Try(ctx, of)
			default:
				_, err = w.admin("set").Retry(ctx, admin.Filter{}, "")
			}
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				require.NoError(t, err)
			}
		}
		require.NoError(t, workers[round%2].stop())
		require.NoError(t, workers[1-round%2].stop())
	}
	rate.Store(0)
	r := start(t, w.orchestrator("set", parkAtOnce), p)
	w.await("0", "SELECT count(*) FROM orchestrator_operations WHERE state = 'waiting'")
	_, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
	require.NoError(t, err)
	w.await(fmt.Sprint(appended-int(discarded)), "SELECT count(*) FROM handled")
	w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints")
	require.NoError(t, r.stop())
	assert.Equal(t, "0 0", w.value("SELECT (SELECT count(*) FROM orchestrator_parked_aggregates), (SELECT count(*) FROM orchestrator_dead_letters WHERE state <> 'handled')"))
	assert.Equal(t, "0", w.value(`SELECT count(*) FROM (SELECT aggregate_version, lag(aggregate_version) OVER (PARTITION BY aggregate_id ORDER BY nth) AS before FROM handled) AS h
		WHERE aggregate_version <= before`), "out of order")
}

// 1,000 letters of one aggregate are retried within seconds, beside other events.
func TestManyLettersAreRetriedInSeconds(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1000)
	var broken atomic.Bool
	broken.Store(true)
	p := recorder{name: "p", before: breakable(func(e es.PersistedEvent) error {
		if broken.Load() && e.AggregateID == "ada" {
			return errBad
		}
		return nil
	})}
	r := start(t, w.orchestrator("set", parkAtOnce), p)
	w.await("1000", "SELECT letters FROM orchestrator_parked_aggregates")
	broken.Store(false)
	w.append("grace", 100)
	began := time.Now()
	result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
	require.NoError(t, err)
	assert.EqualValues(t, 1000, result.Events)
	t.Logf("1,000 letters took %s", time.Since(began))
	w.awaitHandled("p", 1100)
	require.NoError(t, r.stop())
}

// What a filter or a reason must not be is named.
func TestAdminRefusesWhatItCannotDo(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	now := time.Now()
	for want, f := range map[string]admin.Filter{
		`Filter.State must be empty or one of parked, got "skipped"`: {State: "skipped"},
		"Filter.FailedSince":                      {FailedSince: now, FailedBefore: now},
		"Filter.Projection must be valid UTF-8":   {Projection: "\xff"},
		"Filter.AggregateID must not contain NUL": {AggregateID: "\x00"},
	} {
		_, err := a.Retry(w.patiently(), f, "")
		require.ErrorContains(t, err, want)
	}
	_, err := a.Retry(w.patiently(), admin.Filter{}, string(make([]byte, 5000)))
	require.ErrorContains(t, err, "the reason must have at most 4096 bytes")
	_, err = a.Discard(t.Context(), admin.Filter{State: "handled"}, "")
	require.ErrorContains(t, err, "Filter.State")
	for _, letter := range a.DeadLetters(t.Context(), admin.Filter{State: "nonsense"}) {
		require.ErrorContains(t, letter, "Filter.State")
	}
	for want, replicaSet := range map[string]string{"must not be empty": "", "at most 255": string(slices.Repeat([]byte("x"), 256))} {
		_, err = admin.New(w.db, w.store, replicaSet)
		require.ErrorContains(t, err, want)
	}
	_, err = admin.New(nil, w.store, "set")
	require.Error(t, err)
	_, err = admin.New(w.db, nil, "set")
	require.Error(t, err)
	_, err = admin.New(w.db, w.store, "set", nil)
	require.ErrorContains(t, err, "the option at index 0 is nil")
	_, err = admin.New(w.db, w.store, "set", admin.WithActor(""))
	require.ErrorContains(t, err, "WithActor")
	result, err := a.Retry(w.patiently(), admin.Filter{Projection: "nobody's"}, "")
	require.NoError(t, err, "nothing is parked, so nothing waits")
	assert.Equal(t, admin.Result{Operation: 1}, result)
}

// More requests than are read at once are served one after the other.
func TestManyRequestsAreServed(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), recorder{name: "p"})
	w.awaitRunning("set", 1)
	w.exec(`WITH o AS (INSERT INTO orchestrator_operations (replica_set, projection, kind, actor, reason, state) VALUES ('set', 'p', 'retry', '', '', 'waiting') RETURNING id)
		INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind)
		SELECT id, 'p', 'c', 't', 'not parked ' || i, CASE WHEN i % 2 = 0 THEN 'retry' ELSE 'try' END FROM o, generate_series(1, 350) AS i`)
	w.exec("UPDATE orchestrator_checkpoints SET revision = revision + 1")
	w.await("done 350", "SELECT state, result ->> 'succeeded' FROM orchestrator_operations")
	require.NoError(t, r.stop())
}

// DeadLetters lists what failed, page by page.
func TestDeadLettersAreListed(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 700)
	w.append("grace", 2)
	r := start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 1, 702)}, recorder{name: "q", before: poisoned(errBad, 2)})
	w.await("2 701, 1 699", "SELECT count(*), sum(letters)::int FROM orchestrator_parked_aggregates GROUP BY projection ORDER BY projection")
	require.NoError(t, r.stop())
	count := func(f admin.Filter) (n int, last admin.DeadLetter) {
		for letter, err := range w.admin("set").DeadLetters(t.Context(), f) {
			require.NoError(t, err)
			assert.True(t, last.Projection < letter.Projection || last.Projection == letter.Projection && last.Position < letter.Position)
			n, last = n+1, letter
		}
		return n, last
	}
	n, last := count(admin.Filter{})
	assert.Equal(t, 1400, n)
	assert.Equal(t, []any{"q", int64(700), "parked", 0, ""}, []any{last.Projection, last.Position, last.State, last.Attempts, last.Group})
	n, last = count(admin.Filter{Projection: "p", AggregateID: "grace"})
	assert.Equal(t, 1, n)
	assert.Equal(t, []any{int64(702), 1, errBad.Error()}, []any{last.Position, last.Attempts, last.Error})
	assert.Len(t, last.Group, 16)
	n, _ = count(admin.Filter{Group: last.Group})
	assert.Equal(t, 3, n, "the handlers are of one type, and the error is the same")
	n, _ = count(admin.Filter{FailedBefore: time.Now().Add(-time.Hour)})
	assert.Zero(t, n)
	n, _ = count(admin.Filter{State: "handled"})
	assert.Zero(t, n)
	for _, err := range w.admin("set").DeadLetters(t.Context(), admin.Filter{}) {
		require.NoError(t, err)
		break // a caller may stop
	}
}

// A retry may end with a batch that is as full as it may be. The worker knows then that the aggregate is not parked any more, and handles what comes next once.
func TestARetryOfAFullBatchOfLetters(t *testing.T) {
	directOnly(t)
	for _, before := range []int{1, 3} { // the worker's own batch after the retry has one of grace's events and ada's: two others come before the retry, or none
		t.Run(fmt.Sprint(before), func(t *testing.T) {
			w := newWorld(t)
			var broken atomic.Bool
			var calls atomic.Int64
			broken.Store(true)
			p := recorder{name: "p", before: breakable(func(e es.PersistedEvent) error {
				if e.AggregateID == "grace" {
					calls.Add(1)
				}
				if broken.Load() && e.AggregateID == "ada" {
					return errBad
				}
				return nil
			})}
			r := start(t, w.orchestrator("set", parkAtOnce, orchestrator.WithBatchSize(2)), p)
			w.append("ada", 16) // as many as the first batch of a retry has
			w.await("16", "SELECT letters FROM orchestrator_parked_aggregates")
			a := w.admin("set")
			require.NoError(t, a.Pause(w.patiently(), admin.Target{Projection: "p"}, "", time.Time{}))
			broken.Store(false)
			w.append("grace", before)
			w.append("ada", 1)
			_, err := w.asks(a, admin.Filter{})
			require.ErrorIs(t, err, context.Canceled)
			require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
			w.awaitHandled("p", 17+before)
			w.requireOrder("p")
			assert.EqualValues(t, before, calls.Load())
			require.NoError(t, r.stop())
		})
	}
}
