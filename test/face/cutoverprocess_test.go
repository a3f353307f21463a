package face

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
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
)

// What the variables make of this program: a worker that runs both versions, or somebody who cuts over.
const (
	childVariable    = "CUT_OVER_CHILD"
	databaseVariable = "CUT_OVER_DATABASE"
)

// child runs a child of TestEachEffectOnceThoughProcessesAreKilled or TestAResetWhoseProcessIsKilled. It ends with its parent.
func child(kind string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if strings.HasPrefix(kind, "resetting") {
		return resettingChild(ctx, kind)
	}
	pool, err := pgxpool.New(ctx, os.Getenv(databaseVariable))
	if err != nil {
		return err
	}
	defer pool.Close()
	if kind == "operator" {
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

// childProcess is a running child.
type childProcess struct {
	process *os.Process
	ended   chan struct{}
}

// spawn starts a child.
func spawn(t *testing.T, kind, database string) childProcess {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+kind, databaseVariable+"="+database)
	_, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	c := childProcess{cmd.Process, make(chan struct{})}
	go func() {
		defer close(c.ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(c.kill)
	return c
}

// kill ends a child at once.
func (c childProcess) kill() {
	_ = c.process.Kill()
	<-c.ended
}

// alive says whether a child still runs.
func (c childProcess) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
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
	workers := []childProcess{spawn(t, "worker", database), spawn(t, "worker", database)}
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
			eventually(t, func() bool { return w.value(holdsBegun) == "true" || w.value(over) == "1" || !operator.alive() }, func() string { return "a cut-over" })
		} else {
			<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond) // to be killed at any moment
		}
		operator.kill()
		workers[n%2].kill()
		workers[n%2] = spawn(t, "worker", database)
	}
	appends()
	eventually(t, func() bool {
		operator := spawn(t, "operator", database)
		<-operator.ended
		return w.value(over) == "1"
	}, func() string { return "the cut-over" })
	t.Logf("cut-overs: %s", w.value("SELECT state, count(*), sum((arguments ? 'until')::int) FROM orchestrator_operations GROUP BY 1 ORDER BY 1"))
	appends()
	w.await(fmt.Sprint(total), "SELECT count(*) FROM effects")
	w.awaitHandled("p2", total)
	w.requireOrder("p1")
	w.requireOrder("p2")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"), "a handler has failed: it had a second effect of an event")
	assert.Equal(t, "true", w.value("SELECT max(position) FILTER (WHERE by = 'p1') < min(position) FILTER (WHERE by = 'p2') FROM effects"))
}
