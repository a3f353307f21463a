package face

import (
	"context"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// newWorldOn makes the tables on a server, and returns a world whose connections go to the server that the address names.
func newWorldOn(t *testing.T, cluster *pgtest.Cluster) (w *world, address *atomic.Pointer[string]) {
	t.Helper()
	dsn, err := cluster.CreateDatabase(t.Context(), "waits")
	require.NoError(t, err)
	address = new(atomic.Pointer[string])
	address.Store(&dsn)
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		to, err := url.Parse(*address.Load())
		if err != nil {
			return err
		}
		port, err := strconv.ParseUint(to.Port(), 10, 16)
		c.Host, c.Port, c.Fallbacks = to.Hostname(), uint16(port), nil
		return err
	}
	db, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	require.NoError(t, orchestrator.RunMigrations(db))
	w = &world{t: t, db: db, store: eventstore.New(), logs: newLogs(), troubled: true}
	w.exec("CREATE TABLE handled (nth bigserial, projection text, position bigint, aggregate_id text, aggregate_version bigint, PRIMARY KEY (projection, position))")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the library's log:\n%s", w.logs.String())
		}
	})
	return w, address
}

// Waits go on while the server is away, while connections lead to a standby, and on the server that takes over. They end when the read model there shows the event.
func TestWaitsOutliveTheServer(t *testing.T) {
	directOnly(t)
	if _, is := hostileMode(); is {
		t.Skip("the server is the test's own")
	}
	t.Parallel()
	primary := pgtest.Own(t, pgtest.Options{})
	w, address := newWorldOn(t, primary)
	standby := pgtest.OwnStandby(t, primary)
	var gate atomic.Pointer[chan struct{}]
	entered := make(chan int64, 100)
	orch, web := w.orchestrator("set"), w.elsewhere()
	r := start(t, orch, recorder{name: "p", before: func(ctx context.Context, e es.PersistedEvent) error {
		select {
		case entered <- e.GlobalPosition:
		default:
		}
		select {
		case <-*gate.Load():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	for fault, strike := range map[string]func(){
		"a restart": func() { require.NoError(t, primary.Restart(pgtest.Fast)) },
		"a crash":   func() { require.NoError(t, primary.Restart(pgtest.Immediate)) },
	} {
		w.waitThrough(t, fault, strike, &gate, entered, orch, web)
	}
	w.waitThrough(t, "a failover", func() {
		require.NoError(t, standby.Detach(t.Context()))
		require.NoError(t, primary.Stop(pgtest.Immediate))
		address.Store(new(standby.DSN("waits")))
		w.logs.AwaitLine(t, "standby") // it is asked, and answers nothing
		require.NoError(t, standby.Promote(t.Context()))
	}, &gate, entered, orch, web)
	w.requireOrder("p")
	require.NoError(t, r.stop())
}

// A wait outlives a server that is away for longer than the stale worker timeout. The worker lives, but had nowhere to write its heartbeat.
func TestWaitsOutliveAnOutageLongerThanTheStaleTimeout(t *testing.T) {
	directOnly(t)
	if _, is := hostileMode(); is {
		t.Skip("the server is the test's own")
	}
	t.Parallel()
	primary := pgtest.Own(t, pgtest.Options{})
	w, _ := newWorldOn(t, primary)
	const stale = 5 * time.Second
	quick := []orchestrator.Option{orchestrator.WithHeartbeatInterval(stale / 4), orchestrator.WithStaleWorkerTimeout(stale), orchestrator.WithLogger(w.logs.Logger())}
	web, err := orchestrator.New(w.ownPool(func(*pgxpool.Config) {}), w.store, "set", quick...)
	require.NoError(t, err)
	gate, entered := make(chan struct{}), make(chan int64, 100)
	r := start(t, w.orchestrator("set", quick...), recorder{name: "p", before: func(ctx context.Context, e es.PersistedEvent) error {
		select {
		case entered <- e.GlobalPosition:
		default:
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}})
	result := w.appends("ada", 1)
	await(t, entered, "the handler to be called")
	require.ErrorIs(t, web.WaitForAppend(w.shortly(), "p", result), context.DeadlineExceeded)
	ended := make(chan error, 1)
	go func() { ended <- web.WaitForAppend(w.patiently(), "p", result) }()
	// After the outage, the worker cannot write its heartbeat before the waiter has looked.
	w.exec("BEGIN; SELECT FROM orchestrator_heartbeats FOR UPDATE; PREPARE TRANSACTION 'heartbeats'")
	require.NoError(t, primary.Stop(pgtest.Fast))
	w.logs.AwaitLine(t, "calls that wait for a projection keep waiting")
	down := time.Now()
	eventually(t, func() bool { return time.Since(down) > stale+time.Second }, func() string { return "the outage to be long enough" })
	require.NoError(t, primary.Start())
	const look = "SELECT coalesce(max(query_start)::text, '') FROM pg_stat_activity WHERE query LIKE '%CuttingOver%' AND pid <> pg_backend_pid()"
	for range 2 { // which shows that the wait goes on after the first
		last := w.value(look)
		eventually(t, func() bool { return w.value(look) != last }, func() string { return "another look" })
	}
	require.Empty(t, ended, "the wait ended though its worker lives")
	w.exec("ROLLBACK PREPARED 'heartbeats'")
	w.await("true", "SELECT bool_or(last_heartbeat > pg_postmaster_start_time()) FROM orchestrator_heartbeats")
	require.Empty(t, ended, "the wait ended though its worker lives")
	close(gate)
	require.NoError(t, await(t, ended, "the wait to end"))
	require.NoError(t, r.stop())
}

// waitThrough has waits begin before a fault of the server, and requires that none of them ends before the event is handled.
func (w *world) waitThrough(t *testing.T, fault string, strike func(), gate *atomic.Pointer[chan struct{}], entered <-chan int64, waiters ...*orchestrator.Orchestrator) {
	t.Helper()
	open := make(chan struct{})
	gate.Store(&open)
	result := w.appends("ada", 1)
	for await(t, entered, "the handler to be called") != last(result) {
	}
	var handled atomic.Bool
	ended := make(chan error, 2*len(waiters))
	for _, waiter := range waiters {
		for _, wait := range []func() error{
			func() error { return waiter.WaitForAppend(w.patiently(), "p", result) },
			func() error { return waiter.WaitFor(w.patiently(), "p", last(result)) },
		} {
			go func() {
				err := wait()
				assert.True(t, err != nil || handled.Load() && w.handles("p", last(result)), "%s: the wait ended, and the read model does not show the event", fault)
				ended <- err
			}()
		}
	}
	require.ErrorIs(t, waiters[1].WaitFor(w.shortly(), "p", last(result)), context.DeadlineExceeded)
	strike()
	require.Empty(t, ended, "a wait ended with the server")
	handled.Store(true)
	close(open)
	for range cap(ended) {
		require.NoError(t, await(t, ended, "the wait to end"), fault)
	}
}
