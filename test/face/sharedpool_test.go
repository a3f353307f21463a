package face

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// greedy is a recorder whose handlers take a second connection from the pool.
type greedy struct {
	recorder
	pool *pgxpool.Pool
	meet func() // waits until the pool's connections are all in use
}

func (g greedy) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	g.meet()
	if _, err := g.pool.Exec(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("taking a second connection: %w", err)
	}
	return g.recorder.Handle(ctx, tx, event)
}

// meeting returns a function that waits until size calls wait, for a second at most. After that it returns at once.
func meeting(size int) func() {
	var mu sync.Mutex
	inside := 0
	over := make(chan struct{})
	end := sync.OnceFunc(func() { close(over) })
	return func() {
		mu.Lock()
		inside++
		switch inside {
		case 1:
			time.AfterFunc(time.Second, end)
		case size:
			end()
		}
		mu.Unlock()
		<-over
	}
}

// Handlers of a worker, and of manual runners beside it, find a second connection in the pool that they share.
func TestWorkersAndManualRunnersShareAPool(t *testing.T) {
	const connections = 4
	w := newWorld(t)
	for i := range 20 {
		w.append(fmt.Sprint("user ", i), 3)
	}
	config := w.config()
	config.MaxConns = connections
	pool := w.open(config)
	meet := meeting(connections)
	orch, err := orchestrator.New(pool, w.store, "set", forPooler(orchestrator.WithPartitionsPerWorker(2), orchestrator.WithLogger(w.logs.Logger()))...)
	require.NoError(t, err)
	r := start(t, orch, greedy{recorder{name: "worker"}, pool, meet})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for k := range 2 {
		processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: pool, EventStore: w.store, Projection: greedy{recorder{name: "by hand"}, pool, meet},
			PartitionKey: k, TotalPartitions: 2, Logger: w.logs.Logger(),
		})
		go func() { ended <- processor.Run(ctx) }()
	}
	w.awaitHandled("worker", 60)
	w.awaitHandled("by hand", 60)
	stop()
	for range 2 {
		require.NoError(t, await(t, ended, "a manual runner to end"))
	}
	require.NoError(t, r.stop())
}
