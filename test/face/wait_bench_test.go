package face

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// announcing notifies of each event that it handles, which arrives when the batch commits.
type announcing struct{}

func (announcing) Name() string { return "p" }

func (announcing) Handle(ctx context.Context, tx pgx.Tx, e es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "SELECT pg_notify('committed', $1)", strconv.FormatInt(e.GlobalPosition, 10))
	return err
}

// BenchmarkWaitForAppend reports how long after the handler's commit a wait returns, and the looks a second, beside so many others that wait.
func BenchmarkWaitForAppend(b *testing.B) {
	for _, pooled := range []bool{false, true} {
		for _, here := range []bool{true, false} {
			for _, others := range []int{0, 1000} {
				name := fmt.Sprintf("%s/%s/others=%d", map[bool]string{true: "pooled", false: "direct"}[pooled], map[bool]string{true: "here", false: "elsewhere"}[here], others)
				b.Run(name, func(b *testing.B) { benchmarkWait(b, pooled, here, others) })
			}
		}
	}
}

func benchmarkWait(b *testing.B, pooled, here bool, others int) {
	pgtest.SkipBehindPooler(b, "it starts a pooler of its own")
	db := pgtest.NewDatabase(b)
	store := eventstore.New(eventstore.WithLogger(nil))
	require.NoError(b, eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	require.NoError(b, orchestrator.RunMigrations(db, orchestrator.WithLogger(newLogs().Logger())))
	reached, options := db, []orchestrator.Option{orchestrator.WithLogger(newLogs().Logger()), orchestrator.WithPollInterval(5 * time.Millisecond)}
	if pooled {
		pooler := pgtest.OwnBouncer(b, db.Config().ConnString(), pgtest.TransactionMode, nil)
		config, err := pgxpool.ParseConfig(pooler.DSN(db.Config().ConnConfig.Database))
		require.NoError(b, err)
		reached, options = pgtest.PoolInMode(b, config, pgx.QueryExecModeExec), append(options, orchestrator.WithPollOnly())
	}
	orch, err := orchestrator.New(reached, store, "set", options...)
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(ctx, []projection.Projection{announcing{}}) }()
	waiter, pool := orch, reached
	if !here {
		pool, err = pgxpool.NewWithConfig(ctx, reached.Config())
		require.NoError(b, err)
		b.Cleanup(pool.Close)
		waiter, err = orchestrator.New(pool, store, "set", orchestrator.WithLogger(newLogs().Logger()))
		require.NoError(b, err)
	}
	var mu sync.Mutex
	committed := map[string]time.Time{}
	listening, err := pgx.ConnectConfig(ctx, db.Config().ConnConfig)
	require.NoError(b, err)
	_, err = listening.Exec(ctx, "LISTEN committed")
	require.NoError(b, err)
	heard := make(chan struct{}, 1)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			n, err := listening.WaitForNotification(ctx)
			if err != nil {
				return
			}
			mu.Lock()
			committed[n.Payload] = time.Now()
			mu.Unlock()
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	})
	appendOne := func(i int) (result es.AppendResult) {
		require.NoError(b, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			result, err = store.Append(ctx, tx, es.Any(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: strconv.Itoa(i % 100), EventType: "Something", Payload: []byte("{}"),
			}})
			return err
		}))
		return result
	}
	require.Eventually(b, func() bool { return waiter.WaitForAppend(ctx, "p", appendOne(0)) == nil }, time.Minute, 10*time.Millisecond)
	for range others {
		all.Go(func() { _ = waiter.WaitFor(ctx, "p", 1<<40) })
	}
	var took []time.Duration
	before, began := pool.Stat().AcquireCount(), time.Now()
	for i := 0; b.Loop(); i++ {
		result := appendOne(i)
		require.NoError(b, waiter.WaitForAppend(ctx, "p", result))
		returned, key := time.Now(), strconv.FormatInt(result.GlobalPositions[0], 10)
		for {
			mu.Lock()
			at, known := committed[key]
			delete(committed, key)
			mu.Unlock()
			if known {
				took = append(took, max(0, returned.Sub(at)))
				break
			}
			<-heard
		}
	}
	if !here {
		b.ReportMetric(float64(pool.Stat().AcquireCount()-before)/time.Since(began).Seconds(), "looks/s")
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e6, "ms-p50")
	b.ReportMetric(float64(took[len(took)*99/100])/1e6, "ms-p99")
	stop()
	require.NoError(b, <-ended)
	all.Wait()
	require.NoError(b, listening.Close(context.WithoutCancel(ctx)))
}
