package face

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/child"
)

// task is what a child of TestEachEffectOnceThoughProcessesAreKilled or TestAResetWhoseProcessIsKilled does: it is a worker that runs both versions, or somebody who
// cuts over, or one that is to die in a reset.
type task struct{ Kind, Database string }

// runChild runs a child.
func runChild(ctx context.Context, task task) error {
	if strings.HasPrefix(task.Kind, "resetting") {
		return resettingChild(ctx, task)
	}
	pool, err := pgxpool.New(ctx, task.Database)
	if err != nil {
		return err
	}
	defer pool.Close()
	if task.Kind == "operator" {
		a, err := admin.New(pool, eventstore.New(), "set", admin.WithCutOverLimits(10_000, 2*time.Second))
		if err != nil {
			return err
		}
		_, err = a.CutOver(ctx, "p1", "p2", "")
		return err
	}
	orch, err := orchestrator.New(pool, eventstore.New(), "set", orchestrator.WithLogger(slog.New(slog.DiscardHandler)), orchestrator.WithPollInterval(20*time.Millisecond))
	if err != nil {
		return err
	}
	next := newVersion()
	next.before = slowly(func() bool { return true }, 8*time.Millisecond) // so that those that cut over must wait
	return orch.Run(ctx, []projection.Projection{oldVersion(), next})
}

// spawn starts a child.
func spawn(t *testing.T, kind, database string) *child.Process {
	t.Helper()
	c, err := child.Start(task{kind, database}, child.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { kill(c) })
	return c
}

// kill ends a child at once.
func kill(c *child.Process) {
	_ = c.Kill()
	_ = c.Outcome()
}

// Processes that handle, and those that cut over, are killed with -9, again and again. Each event has one effect.
func TestEachEffectOnceThoughProcessesAreKilled(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	database := w.db.Config().ConnString()
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	workers := []*child.Process{spawn(t, "worker", database), spawn(t, "worker", database)}
	w.awaitRunning("set", 2)
	total := 0
	appends := func() {
		w.appendInTurn(3, ids...)
		total += 3 * len(ids)
	}
	const over = "SELECT count(*) FROM orchestrator_successions"
	for n := range 6 {
		appends()
		operator := spawn(t, "operator", database)
		if n%2 == 0 { // it is killed when both are held, or soon after, or before
			eventually(t, func() bool { return w.value(holdsBegun) == "true" || w.value(over) == "1" || operator.Ended() }, func() string { return "a cut-over" })
		} else {
			<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond) // to be killed at any moment
		}
		kill(operator)
		kill(workers[n%2])
		workers[n%2] = spawn(t, "worker", database)
	}
	appends()
	eventually(t, func() bool {
		operator := spawn(t, "operator", database)
		<-operator.Done()
		return w.value(over) == "1"
	}, func() string { return "the cut-over" })
	t.Logf("cut-overs: %s", w.value("SELECT state, count(*), sum((arguments ? 'until')::int) FROM orchestrator_operations GROUP BY 1 ORDER BY 1"))
	appends()
	w.await(fmt.Sprint(total), "SELECT count(*) FROM effects")
	w.awaitHandled("p2", total)
	w.requireOrder("p1")
	w.requireOrder("p2")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"), "a handler has failed: it had a second effect of an event")
	assert.Equal(t, "0", w.value(returns))
}
