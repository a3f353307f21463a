package main

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// counted counts outside of the transaction how often each event was handled.
type counted struct {
	projection.Projection
	mu    sync.Mutex
	times map[int64]int
}

func newCounted(worker string) *counted {
	return &counted{Projection: workload.NewRecorder(recorded[0], worker), times: map[int64]int{}}
}

// Unwrap lets the recorder keep its scope.
func (c *counted) Unwrap() projection.Projection { return c.Projection }

func (c *counted) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	c.mu.Lock()
	c.times[event.GlobalPosition]++
	c.mu.Unlock()
	return c.Projection.Handle(ctx, tx, event)
}

// seen is how many events were handled, and how many of them more than once.
func (c *counted) seen() (events, repeated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		if times > 1 {
			repeated++
		}
	}
	return len(c.times), repeated
}

// gate lets a projection's handlers wait.
type gate struct {
	projection.Projection
	mu   sync.Mutex
	open chan struct{} // closed while handlers may pass
}

func newGate(p projection.Projection) *gate {
	g := &gate{Projection: p, open: make(chan struct{})}
	close(g.open)
	return g
}

// Unwrap lets the projection keep its scope.
func (g *gate) Unwrap() projection.Projection { return g.Projection }

// shut lets handlers wait from now on, until the function that it returns is called.
func (g *gate) shut() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	open := make(chan struct{})
	g.open = open
	return sync.OnceFunc(func() { close(open) })
}

func (g *gate) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		return g.Projection.Handle(ctx, tx, event)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// The server crashes while batches that it has acknowledged, and shown to others, are not on its disk. Read model and checkpoint
// are lost together, so the events are handled again, and in the tables once.
func TestCrashTakesAsynchronousCommitsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"})
	w.append(60)
	p := newCounted(workerName(0))
	g := newGate(p)
	// Heartbeats are durable, and take what was committed before them to the disk: let them be rare.
	w.start(w.dsn, workerName(0), g, orchestrator.WithHeartbeatInterval(10*time.Second), orchestrator.WithBatchSize(10))
	for crashes := 1; ; crashes++ {
		w.awaitDrained()
		before := w.agreement()
		require.GreaterOrEqual(t, before.checkpoint, before.last) // above it are positions that were rolled back
		release := g.shut()
		t.Cleanup(release) // before the worker is stopped
		w.restart(func() error { return w.cluster.Restart(pgtest.Immediate) })
		after := w.agreement()
		release()
		if after.checkpoint < before.checkpoint {
			assert.Less(t, after.handled, before.handled, "the read model was lost with the checkpoint")
			w.awaitDrained()
			_, repeated := p.seen()
			assert.GreaterOrEqual(t, repeated, before.handled-after.handled, "what was lost is handled again")
			t.Logf("crash %d took the checkpoint back from %d to %d, and %d of %d events with it",
				crashes, before.checkpoint, after.checkpoint, repeated, before.handled)
			break
		}
		require.Less(t, crashes, 10, "no crash took a batch back")
		w.append(60)
	}
	w.prove()
}

// agreement is how far a world's only projection is: by its checkpoint, and by its read model.
type agreement struct{ checkpoint, last, handled int }

// agreement reads it at one moment, and demands that what was handled is what the checkpoint says: every event up to it, and none
// above.
func (w *world) agreement() (a agreement) {
	w.t.Helper()
	var below, counted int
	require.NoError(w.t, w.pool.QueryRow(w.t.Context(), `
SELECT c.position, e.last, l.handled, (SELECT count(*) FROM events WHERE global_position <= c.position), m.counted
FROM (SELECT min(position) AS position FROM orchestrator_checkpoints HAVING min(position) = max(position)) AS c,
     (SELECT coalesce(max(global_position), 0) AS last FROM events) AS e,
     (SELECT count(*) AS handled FROM workload_log) AS l,
     (SELECT coalesce(sum(events), 0) AS counted FROM workload_read_model) AS m`).
		Scan(&a.checkpoint, &a.last, &a.handled, &below, &counted))
	assert.Equal(w.t, below, a.handled, "the checkpoint at %d and the log of what was handled do not agree", a.checkpoint)
	assert.Equal(w.t, below, counted, "the checkpoint at %d and the read model do not agree", a.checkpoint)
	return a
}
