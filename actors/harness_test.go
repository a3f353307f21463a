package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// fixture is a database with all tables, and workers on it.
type fixture struct {
	t      *testing.T
	pool   *pgxpool.Pool
	events *eventstore.Store
	store  *pgcoord.Store
	sent   int // events appended
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	quiet := eventstore.WithLogger(slog.New(slog.DiscardHandler))
	pool := pgtest.NewDatabaseFrom(t, "all tables", func(pool *pgxpool.Pool) error {
		return errors.Join(eventstore.RunMigrations(pool, quiet), migrations.Run(t.Context(), pool, ""))
	})
	f := &fixture{t: t, pool: pool, events: eventstore.New(quiet)}
	f.exec(`CREATE TABLE handled (projection text NOT NULL, position bigint NOT NULL, id bigserial)`)
	resolved, err := f.events.Resolve(t.Context(), pool)
	require.NoError(t, err)
	f.events = resolved
	store, err := pgcoord.Open(t.Context(), pool, "", "main", f.events.EventsTable())
	require.NoError(t, err)
	f.store = store
	return f
}

func (f *fixture) exec(sql string, args ...any) {
	f.t.Helper()
	_, err := f.pool.Exec(f.t.Context(), sql, args...)
	require.NoError(f.t, err)
}

// append stores n events of aggregates of a type and returns their positions.
func (f *fixture) append(aggregateType string, n int) []int64 {
	f.t.Helper()
	var positions []int64
	require.NoError(f.t, pgx.BeginFunc(f.t.Context(), f.pool, func(tx pgx.Tx) error {
		for range n {
			positions = append(positions, f.appendIn(tx, aggregateType)...)
		}
		return nil
	}))
	return positions
}

// appendIn stores an event in a transaction and returns its position.
func (f *fixture) appendIn(tx pgx.Tx, aggregateType string) []int64 {
	f.t.Helper()
	f.sent++
	event := es.Event{
		BoundedContext: "shop", AggregateType: aggregateType, AggregateID: fmt.Sprintf("%d", f.sent%7),
		EventType: "Happened", Payload: []byte("{}"),
	}
	result, err := f.events.Append(f.t.Context(), tx, es.Any(), []es.Event{event})
	require.NoError(f.t, err)
	return result.GlobalPositions
}

// testWorker is a worker of a test.
type testWorker struct {
	*Worker
	t        *testing.T
	id       uuid.UUID
	log      *logbook.Book
	registry *prometheus.Registry
}

// start starts a worker with short intervals; change may alter its configuration.
func (f *fixture) start(change func(*Config), projections ...projection.Projection) *testWorker {
	f.t.Helper()
	r := &testWorker{t: f.t, id: uuid.New(), log: newLog(), registry: prometheus.NewRegistry()}
	m, err := measure.New(r.registry)
	require.NoError(f.t, err)
	names := make([]string, len(projections))
	described := make([]handling.Description, len(projections))
	for i, p := range projections {
		described[i], err = handling.Describe[projection.Wrapper, projection.ErrorPolicied](p)
		require.NoError(f.t, err)
		names[i] = described[i].Name
	}
	cfg := Config{
		Pool: f.pool, EventStore: f.events, Store: f.store, Projections: described,
		Membership: pgcoord.Membership{ID: r.id, Name: "test", Projections: names, Partitions: 1, HasSession: true, Hostname: "h", Version: "v"},
		Connect: func(ctx context.Context) (*pgx.Conn, error) {
			own := f.pool.Config().ConnConfig.Copy()
			own.RuntimeParams["application_name"] = pgcoord.ApplicationName(r.id)
			return pgx.ConnectConfig(ctx, own)
		},
		Timing: Timing{
			Timing: replicaset.Timing{
				Stale: 3 * time.Second, Coordination: 5 * time.Second, Poll: 20 * time.Millisecond, Observe: 50 * time.Millisecond,
				Follow: 100 * time.Millisecond, Settle: 10 * time.Millisecond, SessionGrace: 100 * time.Millisecond,
			},
			Heartbeat: 100 * time.Millisecond, Drain: 2 * time.Second, Grace: 50 * time.Millisecond, History: 1000,
		},
		Batch: BatchConfig{
			Size: 100, Time: 10 * time.Second, Settings: pgcoord.BatchSettings{IdleTimeout: time.Minute},
			RetryFirst: 5 * time.Millisecond, RetryMax: 20 * time.Millisecond, HangAfter: time.Minute,
			FlushAfter: 50 * time.Millisecond, FlushEvery: 10_000,
		},
		Logger:  r.log.Logger(),
		Metrics: m.ReplicaSet("main"),
	}
	if pgtest.BehindPooler() {
		cfg.Connect, cfg.Membership.HasSession = nil, false
	}
	if change != nil {
		change(&cfg)
	}
	r.Worker, err = Start(cfg)
	require.NoError(f.t, err)
	f.t.Cleanup(func() {
		r.Stop()
		r.awaitDone()
		if f.t.Failed() {
			f.t.Logf("the log of worker %s:\n%s", r.id, r.log)
		}
	})
	return r
}

// awaitDone waits for the end of everything.
func (r *testWorker) awaitDone() {
	r.t.Helper()
	select {
	case <-r.Done():
	case <-time.After(deadline):
		require.Fail(r.t, "the worker does not end")
	}
}

// pid is the address of a child of the supervisor that was spawned as the n-th.
func (r *testWorker) pid(kind string, n int) *actor.PID {
	return actor.NewPID(r.top.Address, fmt.Sprintf("%s/%s.0.%d", r.top.Id, kind, n))
}

// The first children of a supervisor.
func (r *testWorker) heartbeatPID() *actor.PID   { return r.pid(kindHeartbeat, 1) }
func (r *testWorker) coordinatorPID() *actor.PID { return r.pid(kindCoordinator, 2) }
func (r *testWorker) horizonPID() *actor.PID     { return r.pid(kindHorizon, 3) }

// count is a counter's value, or a histogram's number of observations, summed
// over the series that have the labels.
func (r *testWorker) count(name string, labels ...string) float64 {
	return counted(r.t, r.registry, name, labels...)
}

// counted is the sum of the series of a registry that have the labels, given as
// names and values in turn.
func counted(t *testing.T, registry *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := registry.Gather()
	require.NoError(t, err)
	sum := 0.0
	for _, family := range families {
		if family.GetName() != metrics.Prefix+name {
			continue
		}
		for _, m := range family.GetMetric() {
			have := map[string]string{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			matches := true
			for i := 0; i < len(labels); i += 2 {
				matches = matches && have[labels[i]] == labels[i+1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

// eventually waits until a condition holds.
func eventually(t *testing.T, holds func() bool, text string, args ...any) {
	t.Helper()
	awaiting.Until(t, deadline, holds, func() string { return fmt.Sprintf(text, args...) })
}

// query is one value of the database. Behind PgBouncer, which may be started again meanwhile, a SELECT that lost its connection is repeated.
func query[T any](f *fixture, sql string, args ...any) T {
	f.t.Helper()
	var value T
	err := f.pool.QueryRow(f.t.Context(), sql, args...).Scan(&value)
	until := time.Now().Add(deadline / 2)
	for pgtest.BehindPooler() && err != nil && dbfault.Code(err) == "" && strings.HasPrefix(sql, "SELECT") && time.Now().Before(until) {
		<-time.After(20 * time.Millisecond)
		err = f.pool.QueryRow(f.t.Context(), sql, args...).Scan(&value)
	}
	require.NoError(f.t, err)
	return value
}

// handled is the positions that a projection has handled and committed, as
// they were written.
func (f *fixture) handled(name string) []int64 {
	f.t.Helper()
	return query[[]int64](f, `SELECT coalesce(array_agg(position ORDER BY id), '{}') FROM handled WHERE projection = $1`, name)
}

// checkpoint is the lowest checkpoint of a projection.
func (f *fixture) checkpoint(name string) int64 {
	f.t.Helper()
	return query[int64](f, `SELECT coalesce(min(position), 0) FROM orchestrator_checkpoints WHERE projection = $1`, name)
}

// awaitHandled waits until a projection has handled so many events, and
// demands that it were these, in order, each once.
func (f *fixture) awaitHandled(name string, want []int64) {
	f.t.Helper()
	eventually(f.t, func() bool { return len(f.handled(name)) >= len(want) }, "projection %s has not handled all events", name)
	assert.Equal(f.t, want, f.handled(name))
}

// active is the number of the active generation with so many members; 0 if
// there is none.
func (f *fixture) active(members int) int64 {
	return query[int64](f, `SELECT coalesce(max(number), 0) FROM orchestrator_generations
		WHERE state = 'active' AND cardinality(members) = $1`, members)
}

// awaitState waits until a worker's row has a state.
func (f *fixture) awaitState(r *testWorker, state replicaset.WorkerState) {
	f.t.Helper()
	eventually(f.t, func() bool {
		return query[string](f, `SELECT coalesce(max(state), '') FROM orchestrator_workers WHERE worker_id = $1`, r.id) == string(state)
	}, "worker %s is never %s", r.id, state)
}

// recorder is a projection that writes down what it handles. before, unless
// nil, is called first with the event and how often it was seen, counted from 1.
type recorder struct {
	name   string
	before func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent, attempt int) error

	mu   sync.Mutex
	seen map[int64]int
}

func (p *recorder) Name() string { return p.name }

// attempt counts an attempt at a position.
func (p *recorder) attempt(position int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil {
		p.seen = map[int64]int{}
	}
	p.seen[position]++
	return p.seen[position]
}

// attempts is how often a position was attempted.
func (p *recorder) attempts(position int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen[position]
}

func (p *recorder) Handle(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	attempt := p.attempt(e.GlobalPosition)
	if p.before != nil {
		if err := p.before(ctx, tx, e, attempt); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `INSERT INTO handled (projection, position) VALUES ($1, $2)`, p.name, e.GlobalPosition)
	return err
}

// batchRecorder is a recorder of whole batches.
type batchRecorder struct{ recorder }

func (p *batchRecorder) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for _, e := range events {
		if err := p.Handle(ctx, tx, e); err != nil {
			return err
		}
	}
	return nil
}

// scopedRecorder is a recorder that wants one type of aggregates only.
type scopedRecorder struct {
	recorder
	aggregateType string
}

func (p *scopedRecorder) AggregateTypes() []string { return []string{p.aggregateType} }

// newLog is a book of all that is logged.
func newLog() *logbook.Book { return logbook.New(slog.LevelDebug, deadline) }

// receive waits for a value.
func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(deadline):
		require.Fail(t, "timeout", what)
		panic("unreachable")
	}
}
