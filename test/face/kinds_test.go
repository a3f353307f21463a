package face

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// whole is a projection that must not be divided.
type whole struct{ recorder }

func (whole) Unpartitioned() bool { return true }

func TestUnpartitionedProjection(t *testing.T) {
	w := newWorld(t)
	for round := range 3 {
		for i := range 20 {
			w.append(fmt.Sprint("user ", i), round+1)
		}
	}
	options := orchestrator.WithPartitionsPerWorker(2)
	first := start(t, w.orchestrator("set", options), whole{recorder{name: "whole"}}, recorder{name: "divided"})
	second := start(t, w.orchestrator("set", options), whole{recorder{name: "whole"}}, recorder{name: "divided"})
	w.awaitRunning("set", 2)
	w.awaitHandled("whole", 120)
	w.awaitHandled("divided", 120)
	assert.Equal(t, "divided 4 2, whole 1 1", w.value(`SELECT projection, max(total_partitions), count(DISTINCT worker_id)
		FROM orchestrator_checkpoints GROUP BY projection ORDER BY projection`))
	assert.Equal(t, "0", w.value(`SELECT count(*) FROM (SELECT position, lag(position) OVER (ORDER BY nth) AS before
		FROM handled WHERE projection = 'whole') AS h WHERE position < before`), "handled out of the stream's order")
	require.NoError(t, first.stop())
	require.NoError(t, second.stop())
	w.requireOrder("divided")
}

// scoped wants only some events.
type scoped struct {
	recorder
	types, contexts []string
}

func (s scoped) AggregateTypes() []string { return s.types }

func (s scoped) BoundedContexts() []string { return s.contexts }

func TestScopedProjections(t *testing.T) {
	w := newWorld(t)
	for i, aggregate := range [][2]string{{"Identity", "User"}, {"Identity", "Group"}, {"Sales", "User"}, {"Sales", "Order"}} {
		w.appendTo(aggregate[0], aggregate[1], fmt.Sprint("aggregate ", i), 10)
	}
	projections := map[string]scoped{
		"everything":   {},
		"users":        {types: []string{"User"}},
		"identity":     {contexts: []string{"Identity"}},
		"sales' users": {types: []string{"User", "Nothing"}, contexts: []string{"Sales"}},
		"nothing":      {types: []string{"Nothing"}},
	}
	run := []projection.Projection{}
	for name, s := range projections {
		s.recorder = recorder{name: name}
		run = append(run, s)
	}
	r := start(t, w.orchestrator("set"), run...)
	last := w.lastPosition()
	for name := range projections { // events out of scope advance the checkpoint too
		w.await(last, "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = $1", name)
	}
	require.NoError(t, r.stop())
	assert.Equal(t, "everything 40, identity 20, sales' users 10, users 20", w.value(`SELECT projection, count(*)
		FROM handled GROUP BY projection ORDER BY projection`))
	assert.Equal(t, "0", w.value(`SELECT count(*) FROM handled h JOIN events e ON e.global_position = h.position WHERE
		h.projection IN ('users', 'sales'' users') AND e.aggregate_type <> 'User' OR
		h.projection = 'sales'' users' AND e.bounded_context <> 'Sales' OR
		h.projection = 'identity' AND e.bounded_context <> 'Identity'`))
}

// unwrapping is a wrapper that counts the events that it is called for.
type unwrapping struct {
	projection.Projection
	calls *atomic.Int64
}

func (u unwrapping) Unwrap() projection.Projection { return u.Projection }

func (u unwrapping) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	u.calls.Add(1)
	return u.Projection.Handle(ctx, tx, event)
}

func TestWrappedProjections(t *testing.T) {
	w := newWorld(t)
	w.appendTo("Identity", "User", "ada", 10)
	w.appendTo("Identity", "Group", "staff", 10)
	var ofBatches, ofScoped, ofWhole atomic.Int64
	inner := &batches{recorder: recorder{name: "batches"}}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)),
		unwrapping{inner, &ofBatches},
		unwrapping{scoped{recorder: recorder{name: "scoped"}, types: []string{"User"}}, &ofScoped},
		unwrapping{unwrapping{whole{recorder{name: "whole"}}, new(atomic.Int64)}, &ofWhole})
	w.awaitHandled("batches", 20)
	w.awaitHandled("scoped", 10)
	w.awaitHandled("whole", 20)
	require.NoError(t, r.stop())
	assert.Zero(t, ofBatches.Load(), "the events go to the inner HandleBatch")
	assert.Equal(t, int64(10), ofScoped.Load())
	assert.GreaterOrEqual(t, ofWhole.Load(), int64(20))
	assert.Equal(t, "1", w.value("SELECT max(total_partitions) FROM orchestrator_checkpoints WHERE projection = 'whole'"))
	w.requireOrder("batches")
}

// A projection that writes elsewhere ignores the transaction.
func TestProjectionThatIgnoresTheTransaction(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	handled := make(chan int64, 3)
	r := start(t, w.orchestrator("set", orchestrator.WithSynchronousCommit(true)),
		function{name: "elsewhere", handle: func(_ context.Context, _ pgx.Tx, event es.PersistedEvent) error {
			handled <- event.GlobalPosition
			return nil
		}})
	for want := range int64(3) {
		assert.Equal(t, want+1, await(t, handled, "an event"))
	}
	require.NoError(t, r.stop())
	assert.Equal(t, "3", w.value("SELECT position FROM orchestrator_checkpoints"))
}
