package face

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// connectElsewhere is the error of a handler that needs another database, which is away.
func connectElsewhere(ctx context.Context) error {
	_, err := pgx.Connect(ctx, "postgres://127.0.0.1:1/elsewhere?connect_timeout=5")
	return err
}

// tried counts how often a handler was called for each position.
type tried struct {
	mu    sync.Mutex
	times map[int64]int
}

func (c *tried) at(position int64) (times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.times == nil {
		c.times = map[int64]int{}
	}
	c.times[position]++
	return c.times[position]
}

func (c *tried) of(position int64) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.times[position]
}

// A handler needs another database for its third event, and that is away. The events before it are committed without it, and their handler is not called again
// at each attempt.
func TestEventsBeforeOneWhoseSystemIsAwayAreCommitted(t *testing.T) {
	t.Parallel()
	directOnly(t)
	w := newWorld(t)
	w.troubled = true // the handler's error is logged as the database's
	w.append("ada", 5)
	var calls tried
	var back atomic.Bool
	fail := func(ctx context.Context, event es.PersistedEvent) error {
		calls.at(event.GlobalPosition)
		if event.GlobalPosition == 3 && !back.Load() {
			return connectElsewhere(ctx)
		}
		return nil
	}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1})), recorder{name: "p", before: fail})
	eventually(t, func() bool { return calls.of(3) >= 5 }, func() string { return "the event to be tried" })
	w.awaitHandled("p", 2)
	assert.LessOrEqual(t, calls.of(1), 2, "an event was handled again at each attempt at a later one")
	back.Store(true)
	w.awaitHandled("p", 5)
	require.NoError(t, r.stop())
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"))
}

// The same handler asks for an hour until the next attempt. A person who moves the checkpoint past the event does not wait for that.
func TestRetryAfterOfASystemThatIsAway(t *testing.T) {
	t.Parallel()
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	w.append("ada", 5)
	var calls tried
	fail := func(ctx context.Context, event es.PersistedEvent) error {
		if calls.at(event.GlobalPosition); event.GlobalPosition == 3 {
			return projection.RetryAfter(time.Hour, connectElsewhere(ctx))
		}
		return nil
	}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1})), recorder{name: "p", before: fail})
	w.logs.AwaitLine(t, "the database failed, trying again", "next_try=59m")
	w.awaitHandled("p", 2)
	w.exec("UPDATE orchestrator_checkpoints SET position = 3, revision = revision + 1")
	w.awaitHandled("p", 4)
	require.NoError(t, r.stop())
	assert.LessOrEqual(t, calls.of(3), 2, "RetryAfter is ignored")
}

// One of two retries needs another database, which is away. The other one is not held up by it, although the first is of more aggregates than a worker lists.
func TestARetryWaitsForNoOtherWhoseSystemIsAway(t *testing.T) {
	t.Parallel()
	directOnly(t)
	w := newWorld(t)
	w.troubled = true
	w.appendTo("Sales", "Order", "a", 3)
	for i := range 120 {
		w.appendTo("Sales", "Order", fmt.Sprint("b", i), 1)
	}
	w.append("grace", 2)
	const broken, away, repaired = 0, 1, 2
	var orders, grace, asked atomic.Int32
	var calls tried
	fail := func(ctx context.Context, event es.PersistedEvent) error {
		state := orders.Load()
		if event.AggregateID == "grace" {
			state = grace.Load()
		}
		switch {
		case state == broken:
			return errBad
		case state == away && event.GlobalPosition > 1:
			asked.Add(1)
			return connectElsewhere(ctx)
		}
		calls.at(event.GlobalPosition)
		return nil
	}
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park})), recorder{name: "p", before: fail})
	w.await("125", "SELECT sum(letters)::int FROM orchestrator_parked_aggregates")
	orders.Store(away)
	grace.Store(repaired)
	first, err := w.asks(w.admin("set"), admin.Filter{AggregateType: "Order"})
	require.Error(t, err, "it waits")
	eventually(t, func() bool { return asked.Load() >= 3 }, func() string { return "the first retry to be tried" })
	second, err := w.admin("set").Retry(w.patiently(), admin.Filter{AggregateID: "grace"}, "")
	require.NoError(t, err)
	assert.Equal(t, 1, second.Succeeded)
	assert.LessOrEqual(t, calls.of(1), 2, "what comes before the letter that cannot be served is kept")
	orders.Store(repaired)
	w.await("done", "SELECT state FROM orchestrator_operations WHERE id = $1", first.Operation)
	require.NoError(t, r.stop())
	w.requireOrder("p")
}
