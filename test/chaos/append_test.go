package main

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// idle is a projection that does nothing with its events.
type idle struct{}

func (idle) Name() string                                            { return "idle" }
func (idle) Handle(context.Context, pgx.Tx, es.PersistedEvent) error { return nil }

// round is how long one measurement takes.
const round = 1500 * time.Millisecond

// Appending does not wait for workers: no appending session is ever blocked by a worker's, and the throughput of 8 connections
// with workers running is near that without. How near depends on how many processors share the machine with them; both are
// logged.
func TestAppendingIsNotSlowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	appending := w.connect(w.dsn+"&application_name=appending", 8)
	measure := func() float64 {
		t.Helper()
		began := time.Now()
		writers := workload.StartWriters(t.Context(), appending, w.store, workload.WriterOptions{
			Writers: 8, Aggregates: 100_000, MaxAppends: 1, MaxHold: 1, MaxPause: 1,
		})
		<-time.After(round)
		stats := writers.Stop()
		require.NoError(t, stats.Err)
		return float64(stats.Events) / time.Since(began).Seconds()
	}
	var without, with float64
	for range 2 {
		without += measure() / 2
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 2)
		for range cap(ended) {
			orch, err := orchestrator.New(w.connect(w.dsn, 4), w.store, replicaSet)
			require.NoError(t, err)
			go func() { ended <- orch.Run(ctx, []projection.Projection{idle{}}) }()
		}
		w.awaitMembers(cap(ended))
		w.awaitDrained()
		watch := w.watchBlocked(ctx)
		with += measure() / 2
		assert.Zero(t, watch(), "a worker blocked an append")
		stop()
		for range cap(ended) {
			require.NoError(t, <-ended)
		}
	}
	t.Logf("events appended a second by 8 connections: %.0f without workers, %.0f with 2 workers", without, with)
	assert.Greater(t, with, without/5)
}

// awaitMembers waits until the active generation has n members.
func (w *world) awaitMembers(n int) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		s, err := workload.Observe(w.t.Context(), w.pool, replicaSet)
		return err == nil && s.Current().State == "active" && len(s.Current().Members) == n
	}, patience, 20*time.Millisecond, "there are not %d members", n)
}

// watchBlocked looks all the time for appending sessions that wait for a worker's; what it returns ends that, and says how
// often it saw one.
func (w *world) watchBlocked(ctx context.Context) (end func() int) {
	ctx, cancel := context.WithCancel(ctx)
	seen := make(chan int, 1)
	go func() {
		total := 0
		for rest(ctx, 5*time.Millisecond) {
			var n int
			err := w.pool.QueryRow(ctx, `
SELECT count(*) FROM pg_stat_activity AS a
CROSS JOIN unnest(pg_blocking_pids(a.pid)) AS blocker
JOIN pg_stat_activity AS b ON b.pid = blocker
WHERE a.application_name = 'appending' AND a.wait_event_type = 'Lock' AND b.application_name <> 'appending'`).Scan(&n)
			if err == nil {
				total += n
			}
		}
		seen <- total
	}()
	return func() int { cancel(); return <-seen }
}
