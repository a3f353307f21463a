package projection_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/awaiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

const patience = 30 * time.Second

// configFor is a configuration that polls fast and logs nothing.
func configFor(pool *pgxpool.Pool, store *eventstore.Store, p projection.Projection) projection.ProcessorConfig {
	return projection.ProcessorConfig{
		DB: pool, EventStore: store, Projection: p,
		PollInterval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
}

// recorder is a projection that notes each event.
func recorder(name string) *each {
	return &each{name, func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error { return record(ctx, tx, e, name) }}
}

// start runs a processor until stop is called, which returns what Run returned.
func start(t *testing.T, config projection.ProcessorConfig) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- projection.NewPostgresProcessor(config).Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-result
	})
	t.Cleanup(func() { _ = stop() })
	return stop
}

// eventually waits until the read model has n rows and returns them.
func eventually(t *testing.T, pool *pgxpool.Pool, n int) []int64 {
	t.Helper()
	var count int
	awaiting.Until(t, patience, func() bool {
		return pool.QueryRow(t.Context(), `SELECT count(*) FROM handled`).Scan(&count) == nil && count >= n
	}, func() string { return fmt.Sprintf("%d of %d events are handled", count, n) })
	return handledPositions(t, pool)
}

// untilError runs a processor that ends by itself.
func untilError(t *testing.T, config projection.ProcessorConfig) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := projection.NewPostgresProcessor(config).Run(ctx)
	require.Error(t, err, "the processor did not end by itself")
	return err
}

func TestProcessorValidates(t *testing.T) {
	pool, store := newStore(t)
	tests := map[string]struct {
		spoil func(c *projection.ProcessorConfig)
		says  string
	}{
		"no pool":           {func(c *projection.ProcessorConfig) { c.DB = nil }, "DB must be set"},
		"no store":          {func(c *projection.ProcessorConfig) { c.EventStore = nil }, "EventStore must be set"},
		"no projection":     {func(c *projection.ProcessorConfig) { c.Projection = nil }, "Projection must be set"},
		"no name":           {func(c *projection.ProcessorConfig) { c.Projection = recorder("") }, "its name must have between 1 and 255 bytes"},
		"batch size":        {func(c *projection.ProcessorConfig) { c.BatchSize = -1 }, "BatchSize must be at least 1, got -1"},
		"poll interval":     {func(c *projection.ProcessorConfig) { c.PollInterval = -1 }, "PollInterval must be positive"},
		"too few parts":     {func(c *projection.ProcessorConfig) { c.TotalPartitions = -1 }, "TotalPartitions must be between 1 and 65536"},
		"too many parts":    {func(c *projection.ProcessorConfig) { c.TotalPartitions = 65537 }, "got 65537"},
		"key too high":      {func(c *projection.ProcessorConfig) { c.PartitionKey, c.TotalPartitions = 3, 3 }, "PartitionKey must be between 0 and TotalPartitions-1 (2), got 3"},
		"key negative":      {func(c *projection.ProcessorConfig) { c.PartitionKey = -1 }, "got -1"},
		"key without total": {func(c *projection.ProcessorConfig) { c.PartitionKey = 1 }, "(0), got 1"},
		"must be undivided": {func(c *projection.ProcessorConfig) { c.Projection, c.TotalPartitions = &undivided{each{name: "u"}}, 2 }, "TotalPartitions must be 1, got 2"},
		"bad store":         {func(c *projection.ProcessorConfig) { c.EventStore = eventstore.New(eventstore.WithEventsTable("")) }, "EventStore is misconfigured"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			config := configFor(pool, store, recorder("p"))
			tt.spoil(&config)
			assert.ErrorContains(t, untilError(t, config), tt.says)
		})
	}
}

func TestProcessorChecksTheDatabase(t *testing.T) {
	pool, store := newStore(t)
	_, err := pool.Exec(t.Context(), `ALTER SEQUENCE events_global_position_seq CACHE 10`)
	require.NoError(t, err)
	assert.ErrorContains(t, untilError(t, configFor(pool, store, recorder("p"))), "CACHE 10")
}

func TestProcessorHandlesEverythingInOrderOnce(t *testing.T) {
	pool, store := newStore(t)
	want := appendEvents(t, pool, store, "Order", 25)
	config := configFor(pool, store, recorder("orders"))
	config.BatchSize = 10
	stop := start(t, config)
	eventually(t, pool, len(want))
	want = append(want, appendEvents(t, pool, store, "Order", 7)...)
	assert.Equal(t, want, eventually(t, pool, len(want)))
	require.NoError(t, stop())
	assert.Equal(t, want[len(want)-1], checkpointOf(t, pool, "orders"))

	stop = start(t, config)
	want = append(want, appendEvents(t, pool, store, "Order", 1)...)
	assert.Equal(t, want, eventually(t, pool, len(want)), "a second run goes on from the checkpoint")
	require.NoError(t, stop())
}

func TestProcessorContinuesACheckpoint(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 10)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders', $1)`, positions[5])
	require.NoError(t, err)
	stop := start(t, configFor(pool, store, recorder("orders")))
	assert.Equal(t, positions[6:], eventually(t, pool, 4))
	require.NoError(t, stop())
}

func TestProcessorScope(t *testing.T) {
	pool, store := newStore(t)
	appendEvents(t, pool, store, "Order", 5)
	users := appendEvents(t, pool, store, "User", 5)
	appendEvents(t, pool, store, "Order", 5)
	more := appendEvents(t, pool, store, "User", 1)
	config := configFor(pool, store, &scoped{*recorder("users"), []string{"User"}, []string{"shop"}})
	config.BatchSize = 2
	stop := start(t, config)
	assert.Equal(t, append(users, more...), eventually(t, pool, 6))
	require.NoError(t, stop())
}

func TestProcessorPartitions(t *testing.T) {
	const total = 3
	pool, store := newStore(t)
	done := appendEvents(t, pool, store, "Old", 3)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders', $1)`, done[2])
	require.NoError(t, err)
	want := appendEvents(t, pool, store, "Order", 60)

	var by sync.Map // aggregate → partition
	for k := range total {
		config := configFor(pool, store, &each{"orders", func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
			if was, known := by.LoadOrStore(e.AggregateID, k); known && was != k {
				return fmt.Errorf("%s was seen by partitions %v and %d", e.AggregateID, was, k)
			}
			return record(ctx, tx, e, fmt.Sprint(k))
		}})
		config.PartitionKey, config.TotalPartitions, config.BatchSize = k, total, 7
		start(t, config)
	}
	want = append(want, appendEvents(t, pool, store, "Order", 60)...)
	got := eventually(t, pool, len(want))
	slices.Sort(got)
	assert.Equal(t, want, got, "each event after the unpartitioned checkpoint, once")
	var partitions int
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT count(DISTINCT by) FROM handled`).Scan(&partitions))
	assert.Equal(t, total, partitions)
	for k := range total {
		assert.Positive(t, checkpointOf(t, pool, fmt.Sprintf("orders[%d/%d]", k, total)))
	}
	assert.EqualValues(t, -1, checkpointOf(t, pool, "orders"), "its row is replaced")
}

// A handler that takes a second connection must not wait for batches whose handlers do the same.
func TestProcessorsLeaveAConnectionForHandlers(t *testing.T) {
	const total = 4
	pool, store := newStore(t)
	small := sameDatabase(t, pool, func(c *pgxpool.Config) { c.MaxConns = total })
	all := make(chan struct{})
	var inside atomic.Int32
	for k := range total {
		var together sync.Once
		config := configFor(small, store, &each{"orders", func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
			together.Do(func() { // as many batches as there may be
				if inside.Add(1) == total {
					close(all)
				}
				select {
				case <-all:
				case <-time.After(time.Second):
				}
			})
			if _, err := small.Exec(ctx, "SELECT 1"); err != nil {
				return err
			}
			return record(ctx, tx, e, fmt.Sprint(k))
		}})
		config.PartitionKey, config.TotalPartitions = k, total
		start(t, config)
	}
	awaiting.Until(t, patience, func() bool {
		var rows int
		return pool.QueryRow(t.Context(), `SELECT count(*) FROM projection_checkpoints`).Scan(&rows) == nil && rows == total
	}, func() string { return "not all processors have begun" })
	want := appendEvents(t, pool, store, "Order", 60)
	got := eventually(t, pool, len(want))
	slices.Sort(got)
	assert.Equal(t, want, got)
}

// failing is the error of a run over ten events of which bad ones fail.
func failing(t *testing.T, construct func(fail func(position int64) error) projection.Projection, fault func() error) (positions []int64, bad int64, pool *pgxpool.Pool, err error) {
	t.Helper()
	pool, store := newStore(t)
	positions = appendEvents(t, pool, store, "Order", 10)
	bad = positions[6]
	p := construct(func(position int64) error {
		if position == bad {
			return fault()
		}
		return nil
	})
	return positions, bad, pool, untilError(t, configFor(pool, store, p))
}

func eachFailing(fail func(int64) error) projection.Projection {
	return &each{"orders", func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if err := record(ctx, tx, e, "orders"); err != nil {
			return err
		}
		return fail(e.GlobalPosition)
	}}
}

func wholeFailing(fail func(int64) error) projection.Projection {
	return &whole{each{name: "orders"}, func(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
		for _, e := range events {
			if err := record(ctx, tx, e, "orders"); err != nil {
				return err
			}
			if err := fail(e.GlobalPosition); err != nil {
				return err
			}
		}
		return nil
	}}
}

func TestProcessorStopsAtABadEvent(t *testing.T) {
	projections := map[string]func(func(int64) error) projection.Projection{"one by one": eachFailing, "in batches": wholeFailing}
	faults := map[string]struct {
		fault func() error
		check func(t *testing.T, err error)
	}{
		"an error": {func() error { return errBad }, func(t *testing.T, err error) { assert.ErrorIs(t, err, errBad) }},
		"a panic": {func() error { panic("boom") }, func(t *testing.T, err error) {
			var panicked *projection.PanicError
			require.ErrorAs(t, err, &panicked)
			assert.NotEmpty(t, panicked.Stack)
		}},
		"its own timeout": {func() error { return context.DeadlineExceeded }, func(t *testing.T, err error) {
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		}},
	}
	for kind, construct := range projections {
		for name, tt := range faults {
			t.Run(name+", "+kind, func(t *testing.T) {
				positions, bad, pool, err := failing(t, construct, tt.fault)
				require.ErrorIs(t, err, projection.ErrProjectionStopped)
				tt.check(t, err)
				var stopped *projection.StoppedError
				require.ErrorAs(t, err, &stopped)
				assert.Equal(t, "orders", stopped.Projection)
				assert.Equal(t, bad, stopped.Position)
				assert.NotZero(t, stopped.EventID)
				assert.Equal(t, "OrderChanged", stopped.EventType)
				for _, says := range []string{`"orders"`, fmt.Sprint(bad), stopped.EventID.String(), "OrderChanged"} {
					assert.ErrorContains(t, err, says)
				}
				assert.Equal(t, positions[:6], handledPositions(t, pool), "what came before is committed, once")
				assert.Equal(t, positions[5], checkpointOf(t, pool, "orders"))
			})
		}
	}
}

func TestProcessorGoesOnAfterABadEventIsRepaired(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 5)
	var repaired atomic.Bool
	p := eachFailing(func(position int64) error {
		if position == positions[2] && !repaired.Load() {
			return errBad
		}
		return nil
	})
	require.ErrorIs(t, untilError(t, configFor(pool, store, p)), errBad)
	repaired.Store(true)
	stop := start(t, configFor(pool, store, p))
	assert.Equal(t, positions, eventually(t, pool, 5))
	require.NoError(t, stop())
}

func TestProcessorHandlerCannotCommit(t *testing.T) {
	pool, store := newStore(t)
	appendEvents(t, pool, store, "Order", 2)
	p := &each{"orders", func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if err := record(ctx, tx, e, "orders"); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}}
	require.ErrorIs(t, untilError(t, configFor(pool, store, p)), projection.ErrBatchTransaction)
	assert.Empty(t, handledPositions(t, pool))
	assert.Zero(t, checkpointOf(t, pool, "orders"))
}

// Two processors of one partition: no event is handled twice in the database.
func TestProcessorsOfOnePartition(t *testing.T) {
	pool, store := newStore(t)
	var want []int64
	for range 3 {
		config := configFor(pool, store, recorder("orders"))
		config.BatchSize = 3
		start(t, config)
	}
	for range 10 {
		want = append(want, appendEvents(t, pool, store, "Order", 12)...)
	}
	assert.Equal(t, want, eventually(t, pool, len(want)))
}

// A processor that waits behind another's batch, with a larger one of its own, finds that it was late.
func TestProcessorBehindAnotherHandlesNothingTwice(t *testing.T) {
	pool, store := newStore(t)
	want := appendEvents(t, pool, store, "Order", 12)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders', 0)`)
	require.NoError(t, err)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), `SELECT FROM projection_checkpoints FOR UPDATE`)
	require.NoError(t, err)
	for i, size := range []int{3, 5} {
		config := configFor(pool, store, recorder("orders"))
		config.BatchSize = size
		start(t, config)
		require.Eventually(t, func() bool {
			var waiting int
			err := pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
				WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0`).Scan(&waiting)
			return err == nil && waiting == i+1
		}, patience, 5*time.Millisecond, "the processor does not wait for the checkpoint's row")
	}
	require.NoError(t, tx.Rollback(t.Context()))
	assert.Equal(t, want, eventually(t, pool, len(want)))
}

// Writers whose commits overlap: nothing is lost, and one aggregate's events stay in order.
func TestProcessorLosesNothingUnderConcurrentWriters(t *testing.T) {
	pool, store := newStore(t)
	start(t, configFor(pool, store, recorder("orders")))
	var group sync.WaitGroup
	var mu sync.Mutex
	var want []int64
	for w := range 8 {
		group.Go(func() {
			for i := range 15 {
				err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
					event := es.Event{BoundedContext: "shop", AggregateType: "Order", AggregateID: fmt.Sprint(w), EventType: "Changed", Payload: []byte("{}")}
					result, err := store.Append(t.Context(), tx, es.Any(), []es.Event{event})
					if err != nil {
						return err
					}
					if _, err = tx.Exec(t.Context(), `SELECT pg_sleep($1)`, float64((w*7+i*3)%10)/1000); err != nil || i%5 == 4 {
						return errors.Join(err, pgx.ErrTxCommitRollback) // every fifth is rolled back
					}
					mu.Lock()
					defer mu.Unlock()
					want = append(want, result.GlobalPositions...)
					return nil
				})
				if err != nil && !errors.Is(err, pgx.ErrTxCommitRollback) {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	slices.Sort(want)
	assert.Equal(t, want, eventually(t, pool, len(want)))
}

func TestProcessorSurvivesARestartOfTheServer(t *testing.T) {
	cluster := pgtest.Own(t, pgtest.Options{})
	dsn, err := cluster.CreateDatabase(t.Context(), "app")
	require.NoError(t, err)
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, eventstore.RunMigrations(pool))
	_, err = pool.Exec(t.Context(), `CREATE TABLE handled (position bigint, aggregate_id text, by text, n bigserial)`)
	require.NoError(t, err)
	store := eventstore.New()
	want := appendEvents(t, pool, store, "Order", 20)

	handling, resume := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(handling); <-resume })
	stop := start(t, configFor(pool, store, &each{"orders", func(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
		if e.GlobalPosition == want[10] {
			once()
		}
		return record(ctx, tx, e, "orders")
	}}))
	<-handling
	require.NoError(t, cluster.Restart(pgtest.Immediate))
	close(resume)
	assert.Equal(t, want, eventually(t, pool, len(want)))
	require.NoError(t, stop())
}

func TestProcessorRefusesACheckpointAheadOfTheEvents(t *testing.T) {
	pool, store := newStore(t)
	positions := appendEvents(t, pool, store, "Order", 3)
	_, err := pool.Exec(t.Context(), `INSERT INTO projection_checkpoints VALUES ('orders', $1)`, positions[2]+1)
	require.NoError(t, err)
	var regressed *horizon.RegressionError
	require.ErrorAs(t, untilError(t, configFor(pool, store, recorder("orders"))), &regressed)
	assert.True(t, regressed.Floor)
}

func TestProcessorStopsWhileHandling(t *testing.T) {
	pool, store := newStore(t)
	appendEvents(t, pool, store, "Order", 2)
	handling := make(chan struct{})
	stop := start(t, configFor(pool, store, &each{"orders", func(ctx context.Context, _ pgx.Tx, _ es.PersistedEvent) error {
		close(handling)
		<-ctx.Done()
		return ctx.Err()
	}}))
	<-handling
	require.NoError(t, stop())
	assert.Zero(t, checkpointOf(t, pool, "orders"))
}
