package face

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// elsewhere is an Orchestrator as another process has it: with a pool of its own, as small as it may be, and without Run.
func (w *world) elsewhere() *orchestrator.Orchestrator {
	w.t.Helper()
	return w.on(w.ownPool(func(*pgxpool.Config) {}))
}

// ownPool is another pool like the application's.
func (w *world) ownPool(change func(*pgxpool.Config)) *pgxpool.Pool {
	w.t.Helper()
	cfg := w.application().Config().Copy()
	cfg.MaxConns = 3
	change(cfg)
	pool, err := pgxpool.NewWithConfig(w.t.Context(), cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(pool.Close)
	return pool
}

// on is an Orchestrator on a pool that is not run.
func (w *world) on(pool *pgxpool.Pool) *orchestrator.Orchestrator {
	w.t.Helper()
	orch, err := orchestrator.New(pool, w.store, "web", orchestrator.WithLogger(w.logs.Logger()))
	require.NoError(w.t, err)
	return orch
}

// appends stores events of one aggregate and returns the result.
func (w *world) appends(aggregateID string, n int) (result es.AppendResult) {
	w.t.Helper()
	events := make([]es.Event, n)
	for i := range events {
		events[i] = es.Event{BoundedContext: "Identity", AggregateType: "User", AggregateID: aggregateID, EventType: "Something", Payload: []byte("{}")}
	}
	require.NoError(w.t, w.inTx(func(tx pgx.Tx) (err error) {
		result, err = w.store.Append(w.t.Context(), tx, es.Any(), events)
		return err
	}))
	return result
}

func last(r es.AppendResult) int64 { return r.GlobalPositions[len(r.GlobalPositions)-1] }

// handles says whether a projection's read model shows an event.
func (w *world) handles(projection string, position int64) bool {
	w.t.Helper()
	return w.value("SELECT count(*) FROM handled WHERE projection = $1 AND position = $2", projection, position) == "1"
}

// shortly is a context for what must not happen.
func (w *world) shortly() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), 300*time.Millisecond)
	w.t.Cleanup(cancel)
	return ctx
}

// Who waits reads what it has written, in the process that handles it and in another, whoever joins and leaves meanwhile.
func TestWaitersReadTheirOwnWrites(t *testing.T) {
	for kind, of := range both {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			orch, web := w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), w.elsewhere()
			r := start(t, orch, of(recorder{name: "p"}))
			w.awaitRunning("set", 1)
			var writers sync.WaitGroup
			for n := range 4 {
				waiter := map[bool]*orchestrator.Orchestrator{true: orch, false: web}[n%2 == 0]
				writers.Go(func() {
					for i := range 40 {
						result := w.appends(fmt.Sprint("user ", n, i%7), 1+i%3)
						err := waiter.WaitForAppend(w.patiently(), "p", result)
						if i%5 == 0 {
							err = waiter.WaitFor(w.patiently(), "p", last(result))
						}
						if !assert.NoError(t, err) || !assert.True(t, w.handles("p", last(result)), "the read model does not show position %d", last(result)) {
							return
						}
					}
				})
			}
			for range 3 {
				other := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3)), of(recorder{name: "p"}))
				w.awaitRunning("set", 2)
				require.NoError(t, other.stop())
				w.awaitRunning("set", 1)
			}
			writers.Wait()
			w.requireOrder("p")
			require.NoError(t, r.stop())
		})
	}
}

// Nobody is told before the batch commits. A slot of others that is held up holds up only those who wait for all.
func TestWaitsEndWithTheCommit(t *testing.T) {
	w := newWorld(t)
	slow := w.value("SELECT min(n)::text FROM generate_series(1, 100) n WHERE (hashtextextended(n::text, 0) & 65535) < 32768")
	quick := w.value("SELECT min(n)::text FROM generate_series(1, 100) n WHERE (hashtextextended(n::text, 0) & 65535) >= 32768")
	entered, release := make(chan struct{}), make(chan struct{})
	orch, web := w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), w.elsewhere()
	r := start(t, orch, recorder{name: "p", before: func(_ context.Context, e es.PersistedEvent) error {
		if e.AggregateID == slow {
			close(entered)
			<-release
		}
		return nil
	}})
	held := w.appends(slow, 1)
	await(t, entered, "the handler to be called")
	free := w.appends(quick, 1)
	for name, waiter := range map[string]*orchestrator.Orchestrator{"here": orch, "elsewhere": web} {
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", free), name)
		for i, err := range []error{
			waiter.WaitForAppend(w.shortly(), "p", held), waiter.WaitFor(w.shortly(), "p", last(held)), waiter.WaitFor(w.shortly(), "p", last(free)),
		} {
			require.ErrorIs(t, err, context.DeadlineExceeded, name)
			position := []int64{last(held), last(held), last(free)}[i]
			require.ErrorContains(t, err, fmt.Sprintf(`projection "p" is at position 0, and position %d is waited for`, position), name)
		}
	}
	var waits sync.WaitGroup
	for _, waiter := range []*orchestrator.Orchestrator{orch, web} {
		waits.Go(func() {
			assert.NoError(t, waiter.WaitFor(w.patiently(), "p", last(free)))
			assert.True(t, w.handles("p", last(held)) && w.handles("p", last(free)))
		})
	}
	close(release)
	waits.Wait()
	require.NoError(t, r.stop())
}

// An append that is not committed, with a lower position, holds up the wait, since the projection waits for it too. One that is rolled back does not.
func TestWaitsForWhatIsNotYetSettled(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	web := w.elsewhere()
	open, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = w.store.Append(t.Context(), open, es.Any(), []es.Event{{
		BoundedContext: "Identity", AggregateType: "User", AggregateID: "grace", EventType: "Something", Payload: []byte("{}"),
	}})
	require.NoError(t, err)
	result := w.appends("ada", 1)
	require.ErrorIs(t, web.WaitForAppend(w.shortly(), "p", result), context.DeadlineExceeded)
	assert.False(t, w.handles("p", last(result)))
	require.NoError(t, open.Rollback(t.Context()))
	require.NoError(t, web.WaitForAppend(w.patiently(), "p", result))
	assert.True(t, w.handles("p", last(result)))
	require.ErrorIs(t, web.WaitFor(w.shortly(), "p", last(result)+1), context.DeadlineExceeded, "a position that nothing has")
	require.NoError(t, r.stop())
}

// A wait in vain fails at once, and says why.
func TestWaitsInVain(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	web := w.elsewhere()
	first := w.appends("ada", 1)
	err := web.WaitForAppend(w.patiently(), "p", first)
	require.ErrorIs(t, err, orchestrator.ErrNotRunning)
	require.ErrorContains(t, err, `waiting until projection "p" has handled what was appended: no worker runs the projection, and none ever has`)

	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	a := w.admin("set")
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "the mail server is down", time.Time{}))
	second := w.appends("ada", 1)
	for _, err := range []error{web.WaitForAppend(w.patiently(), "p", second), web.WaitFor(w.patiently(), "p", last(second))} {
		require.ErrorIs(t, err, orchestrator.ErrProjectionPaused)
		require.ErrorContains(t, err, "after position 1: by anna: the mail server is down")
	}
	require.NoError(t, web.WaitForAppend(w.patiently(), "p", first), "it is behind the pause")
	require.NoError(t, a.Resume(t.Context(), admin.Target{}, ""))
	require.NoError(t, web.WaitForAppend(w.patiently(), "p", second))
	require.NoError(t, r.stop())

	third := w.appends("ada", 1)
	require.ErrorIs(t, web.WaitForAppend(w.patiently(), "p", third), orchestrator.ErrNotRunning)
	require.NoError(t, web.WaitFor(w.patiently(), "p", last(second)), "it was handled while somebody ran it")

	stop := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Stop})
	orch := w.orchestrator("set", stop)
	r = start(t, orch, recorder{name: "p", before: poisoned(errBad, last(third))})
	for _, waiter := range []*orchestrator.Orchestrator{orch, web} {
		w.await("3", "SELECT stopped_at FROM orchestrator_checkpoints")
		err := waiter.WaitForAppend(w.patiently(), "p", third)
		require.ErrorIs(t, err, orchestrator.ErrProjectionStopped)
		require.ErrorContains(t, err, "at position 3: "+errBad.Error())
	}
	require.NoError(t, r.stop())
}

// Those who wait where the projection stops, or the aggregate is parked, are told as it happens.
func TestWaitsFailAsTheEventDoes(t *testing.T) {
	directOnly(t)
	for outcome, want := range map[projection.Outcome]error{projection.Stop: orchestrator.ErrProjectionStopped, projection.Park: orchestrator.ErrAggregateParked} {
		w := newWorld(t)
		entered, release := make(chan struct{}), make(chan struct{})
		orch := w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: outcome}))
		r := start(t, orch, recorder{name: "p", before: func(context.Context, es.PersistedEvent) error {
			close(entered)
			<-release
			return errBad
		}})
		result := w.appends("ada", 1)
		await(t, entered, "the handler to be called")
		ended := make(chan error, 1)
		go func() { ended <- orch.WaitForAppend(w.patiently(), "p", result) }()
		require.ErrorIs(t, orch.WaitForAppend(w.shortly(), "p", result), context.DeadlineExceeded)
		close(release)
		require.ErrorIs(t, await(t, ended, "the wait to end"), want)
		require.NoError(t, r.stop())
	}
}

// Who waits for an event of a parked aggregate is told, before the event is put aside and afterwards. Events from before, of others, and those that were
// skipped or discarded, count as handled.
func TestWaitsForParkedAggregates(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	fine, bad, others := w.appends("ada", 1), w.appends("ada", 2), w.appends("grace", 1)
	orch, web := w.orchestrator("set", parkAtOnce), w.elsewhere()
	r := start(t, orch, recorder{name: "p", before: poisoned(errBad, 2)})
	w.await("4", "SELECT position FROM orchestrator_checkpoints")
	waiters := map[string]*orchestrator.Orchestrator{"here": orch, "elsewhere": web}
	for name, waiter := range waiters {
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", fine), name)
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", others), name)
		require.NoError(t, waiter.WaitFor(w.patiently(), "p", last(others)), name)
		for _, err := range []error{waiter.WaitForAppend(w.patiently(), "p", bad), waiter.WaitFor(w.patiently(), "p", last(bad))} {
			require.ErrorIs(t, err, orchestrator.ErrAggregateParked, name)
			require.ErrorContains(t, err, fmt.Sprintf("the event at position %d failed: %s", last(bad)-1, errBad), name)
		}
		require.ErrorIs(t, waiter.WaitForAppend(w.patiently(), "p", w.appends("ada", 1)), orchestrator.ErrAggregateParked, name)
		more := w.appends("grace", 1)
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", more), name)
		assert.True(t, w.handles("p", last(more)))
	}
	_, err := w.admin("set").Discard(t.Context(), admin.Filter{}, "")
	require.NoError(t, err)
	for name, waiter := range waiters {
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", bad), name)
		require.NoError(t, waiter.WaitForAppend(w.patiently(), "p", w.appends("ada", 1)), name)
	}
	require.NoError(t, r.stop())
	skipped := w.appends("ada", 1)
	skip := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Skip})
	r = start(t, w.orchestrator("set", skip), recorder{name: "p", before: poisoned(errBad, last(skipped))})
	w.awaitRunning("set", 1)
	require.NoError(t, web.WaitForAppend(w.patiently(), "p", skipped))
	require.NoError(t, r.stop())
}

// A worker that is declared dead, or has sent no heartbeat for long, runs nothing. One that has left out the projection does not run it.
func TestWorkersThatAreGoneRunNothing(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	first := w.appends("ada", 1)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	require.NoError(t, r.stop())
	web := w.elsewhere()
	next := last(first) + 1
	for change, runs := range map[string]bool{
		"state = 'running'":                      true,
		"state = 'pending'":                      true,
		"state = 'dead'":                         false,
		"state = 'stopped'":                      false,
		"left_out = '{p}'":                       false,
		"drained = true":                         false,
		"projections = '{q}'":                    false,
		"replica_set = 'other'":                  false,
		"started_at = started_at - interval '1'": true,
	} {
		w.exec("UPDATE orchestrator_workers SET state = 'running', drained = false, left_out = '{}', projections = '{p}', replica_set = 'set'")
		w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now()")
		w.exec("UPDATE orchestrator_workers SET " + change)
		want := map[bool]error{true: context.DeadlineExceeded, false: orchestrator.ErrNotRunning}[runs]
		require.ErrorIs(t, web.WaitFor(w.shortly(), "p", next), want, change)
	}
	w.exec("UPDATE orchestrator_workers SET state = 'running', drained = false, left_out = '{}', projections = '{p}', replica_set = 'set'")
	w.exec("UPDATE orchestrator_workers SET stale_timeout = '200 ms'")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '1 s'")
	require.ErrorIs(t, w.elsewhere().WaitFor(w.shortly(), "p", next), context.DeadlineExceeded, "whoever waits is more patient")
	hasty, err := orchestrator.New(w.ownPool(func(*pgxpool.Config) {}), w.store, "web", orchestrator.WithHeartbeatInterval(50*time.Millisecond), orchestrator.WithStaleWorkerTimeout(200*time.Millisecond))
	require.NoError(t, err)
	require.ErrorIs(t, hasty.WaitFor(w.shortly(), "p", next), orchestrator.ErrNotRunning)
	w.exec("UPDATE orchestrator_workers SET stale_timeout = '100 years'")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '200 years'")
	require.ErrorIs(t, hasty.WaitFor(w.shortly(), "p", next), context.DeadlineExceeded, "the server has started since")
	w.exec("UPDATE orchestrator_checkpoints SET events_table = 'other.events'")
	require.ErrorContains(t, web.WaitFor(w.patiently(), "p", last(first)), "events table other.events")
}

// The process that is about to run the projection waits for it.
func TestWaitsForTheOwnRun(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	result := w.appends("ada", 1)
	w.troubled = true
	orch := w.orchestrator("set")
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE orchestrator_workers IN SHARE ROW EXCLUSIVE MODE") // the worker cannot join
	require.NoError(t, err)
	r := start(t, orch, recorder{name: "p"})
	w.await("1", "SELECT count(*) FROM orchestrator_checkpoints")
	require.ErrorIs(t, orch.WaitForAppend(w.shortly(), "p", result), context.DeadlineExceeded)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, orch.WaitForAppend(w.patiently(), "p", result))
	require.NoError(t, r.stop())
}

// A wait on a pool that the application has closed ends at once, and so does one that it closes meanwhile.
func TestWaitsOnAClosedPool(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	pool := w.ownPool(func(*pgxpool.Config) {})
	web := w.on(pool)
	ended := make(chan error, 1)
	go func() { ended <- web.WaitFor(w.patiently(), "p", 100) }()
	eventually(t, func() bool { return pool.Stat().AcquireCount() > 2 }, func() string { return "the wait to look" })
	pool.Close()
	require.ErrorIs(t, await(t, ended, "the wait to end"), puddle.ErrClosedPool)
	require.ErrorIs(t, web.WaitFor(w.patiently(), "p", 100), puddle.ErrClosedPool)
}

// A thousand who wait take one connection, and a hundred statements a second.
func TestAThousandWait(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	release := make(chan struct{})
	r := start(t, w.orchestrator("set"), recorder{name: "p", before: func(context.Context, es.PersistedEvent) error {
		<-release
		return nil
	}})
	pool := w.ownPool(func(*pgxpool.Config) {})
	web := w.on(pool)
	results := make([]es.AppendResult, 20)
	for i := range results {
		results[i] = w.appends(fmt.Sprint("user ", i), 1)
	}
	w.awaitRunning("set", 1)
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			if i%2 == 0 {
				assert.NoError(t, web.WaitFor(w.patiently(), "p", 20))
				return
			}
			assert.NoError(t, web.WaitForAppend(w.patiently(), "p", results[i%20]))
		})
	}
	require.ErrorIs(t, web.WaitFor(w.shortly(), "p", 20), context.DeadlineExceeded)
	began, before := time.Now(), pool.Stat().AcquireCount()
	require.ErrorIs(t, web.WaitFor(w.shortly(), "p", 20), context.DeadlineExceeded)
	assert.LessOrEqual(t, pool.Stat().AcquireCount()-before, 20+int64(time.Since(began)/(10*time.Millisecond)))
	assert.EqualValues(t, 1, pool.Stat().TotalConns())
	close(release)
	all.Wait()
	require.NoError(t, r.stop())
}

// Connections that are lost while somebody waits do not end the wait.
func TestWaitsOutliveLostConnections(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	web := w.on(w.ownPool(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["application_name"] = "web" }))
	ended := make(chan error, 1)
	go func() { ended <- web.WaitFor(w.patiently(), "p", 1) }()
	for range 5 {
		w.await("true", "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'web'")
	}
	w.append("ada", 1)
	require.NoError(t, await(t, ended, "the wait to end"))
	require.NoError(t, r.stop())
}

// Waiting needs the right to read some tables, and nothing else. The error names what is missing.
func TestWhoWaitsNeedsFewRights(t *testing.T) {
	pgtest.SkipBehindPooler(t, "the roles that connect are its own")
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	result := w.appends("ada", 1)
	w.awaitHandled("p", 1)
	web := w.role("web", "")
	w.exec("REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO " + web)
	tables := []string{"schema_version", "workers", "heartbeats", "checkpoints", "parked_aggregates", "dead_letters", "successions"}
	for i := range tables {
		tables[i] = "orchestrator_" + tables[i]
		w.exec("GRANT SELECT ON " + tables[i] + " TO " + web)
	}
	pool := w.as(web)
	wait := func() error { return w.on(pool).WaitForAppend(w.patiently(), "p", result) } // who has waited before knows where the tables are
	require.NoError(t, wait())
	eachRight(t, w, web, onEach([]string{"SELECT"}, tables...), wait)
	require.NoError(t, wait())
	require.NoError(t, r.stop())
}

func TestWaitsRefuseWhatIsNoWait(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	web := w.elsewhere()
	require.ErrorContains(t, web.WaitFor(t.Context(), "", 1), "the projection's name must have between 1 and")
	require.ErrorContains(t, web.WaitFor(t.Context(), "p", -1), "the position must not be negative, got -1")
	require.ErrorContains(t, web.WaitFor(nil, "p", 1), "ctx must not be nil") //nolint:staticcheck // that is the point
	require.ErrorContains(t, web.WaitForAppend(t.Context(), "p", es.AppendResult{}), "the result has no events")
	result := w.appends("ada", 2)
	other := w.appends("grace", 1)
	mixed := es.AppendResult{Events: append(result.Events[:1:1], other.Events...)}
	require.ErrorContains(t, web.WaitForAppend(t.Context(), "p", mixed), "that at index 0 is not")
	turned := es.AppendResult{Events: []es.PersistedEvent{result.Events[1], result.Events[0]}}
	require.ErrorContains(t, web.WaitForAppend(t.Context(), "p", turned), "that at index 0 is not")
	require.ErrorContains(t, web.WaitForAppend(t.Context(), "p", es.AppendResult{Events: make([]es.PersistedEvent, 1)}), "must have their positions")
	w.exec("DROP TABLE orchestrator_heartbeats CASCADE")
	require.Error(t, web.WaitFor(w.patiently(), "p", 1))
	w.exec("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
	require.ErrorIs(t, w.elsewhere().WaitFor(w.patiently(), "p", 1), orchestrator.ErrMigrationsMissing)
}
