package actors

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// watched is the loops of a worker whose seconds are short. One of them can be held up.
type watched struct {
	*health.Loops
	t    *testing.T
	free chan struct{} // closed when what is held up may go on

	mu     sync.Mutex
	held   string
	rounds map[string]int
}

// watchLoops makes a second of a tenth's length for the loops, or another.
func watchLoops(t *testing.T, unit time.Duration) *watched {
	w := &watched{t: t, free: make(chan struct{}), rounds: map[string]int{}}
	w.Loops = health.NewLoops(unit, func(loop string) {
		w.mu.Lock()
		w.rounds[loop]++
		held := w.held == loop
		w.mu.Unlock()
		if held {
			<-w.free
		}
	})
	return w
}

// hold holds up a loop from its next round on, until the test ends.
func (w *watched) hold(loop string) {
	w.mu.Lock()
	w.held = loop
	w.mu.Unlock()
	w.t.Cleanup(func() { close(w.free) })
}

// roundsOf is how many rounds a loop has begun.
func (w *watched) roundsOf(loop string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rounds[loop]
}

// awaitRounds waits until a loop has done so many more rounds.
func (w *watched) awaitRounds(loop string, n int) {
	w.t.Helper()
	until := w.roundsOf(loop) + n
	require.Eventually(w.t, func() bool { return w.roundsOf(loop) >= until }, 15*time.Second, 5*time.Millisecond, "%s does no rounds", loop)
}

// status is how a loop is.
func (w *watched) status(loop string) (s health.Status, is bool) {
	all := w.Status()
	i := slices.IndexFunc(all, func(s health.Status) bool { return s.Name == loop })
	if i < 0 {
		return s, false
	}
	return all[i], true
}

// stuck is the loops that are stuck.
func (w *watched) stuck() (names []string) {
	for _, s := range w.Status() {
		if !s.OK {
			names = append(names, s.Name)
		}
	}
	return names
}

// loopNames are the loops of a worker with the projection p.
func loopNames() []string {
	return []string{"supervisor", "coordinator", "heartbeat", "horizon", "session", "reader", "partition 0/1", "processor p 0/1"}
}

// Each loop of a worker is held up in turn, and, where that is another thing, ended: it is seen soon, whatever the loop.
func TestEachLoopThatStopsIsSeen(t *testing.T) {
	t.Parallel()
	for _, loop := range loopNames() {
		for _, how := range []string{"held up", "ended"} {
			if how == "ended" && !slices.Contains([]string{"coordinator", "heartbeat", "horizon", "reader", "session"}, loop) {
				continue // it ends with others
			}
			t.Run(loop+" "+how, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				loops := watchLoops(t, 50*time.Millisecond)
				r := f.start(func(c *Config) { c.Loops = loops.Loops }, &recorder{name: "p"})
				loops.awaitRounds("processor p 0/1", 3)
				eventually(t, func() bool { return len(loops.stuck()) == 0 }, "some loop is stuck before any was stopped")
				s, _ := loops.status(loop)
				began := time.Now()
				if how == "ended" {
					r.end(loop)
				} else {
					loops.hold(loop)
				}
				eventually(t, func() bool { return slices.Contains(loops.stuck(), loop) }, "it is not seen that %s was %s", loop, how)
				assert.Less(t, time.Since(began), 2*s.Allowed+2*time.Second, "within two intervals, and what a busy machine takes")
			})
		}
	}
}

// end ends a loop that nothing starts again.
func (r *testWorker) end(loop string) {
	r.t.Helper()
	switch loop {
	case "coordinator":
		r.system.Root.Stop(r.coordinatorPID())
	case "heartbeat":
		r.system.Root.Stop(r.heartbeatPID())
	case "horizon":
		r.system.Root.Stop(r.horizonPID())
	case "session":
		r.worker.session.Close()
	case "reader":
		for n := range 50 { // it was spawned when its generation was started
			r.system.Root.Stop(r.pid(kindReader, n))
		}
	}
}

// A handler that hangs is the application's fault, and leaves the loops as they are.
func TestAHungHandlerIsNoStuckLoop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	loops := watchLoops(t, 10*time.Millisecond)
	hung, free := make(chan struct{}), make(chan struct{})
	f.start(func(c *Config) { c.Loops = loops.Loops }, &recorder{name: "p", before: func(context.Context, pgx.Tx, es.PersistedEvent, int) error {
		close(hung)
		<-free
		return nil
	}}, &recorder{name: "q"})
	t.Cleanup(func() { close(free) })
	f.append("Order", 1)
	receive(t, hung, "the handler")
	loops.awaitRounds("supervisor", 50) // of 10ms each, where the processor may take 300ms
	s, is := loops.status("processor p 0/1")
	require.True(t, is)
	assert.True(t, s.OK)
	assert.Zero(t, s.Allowed, "it waits for the handler")
	p, is := loops.status("partition 0/1")
	require.True(t, is)
	assert.True(t, p.OK)
	loops.awaitRounds("processor q 0/1", 5)
}

// While the database is away the loops go on: they try.
func TestNoLoopIsStuckWhileTheDatabaseIsAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	between, pool := newWire(f, func(cfg *pgxpool.Config) { cfg.MaxConns = 6 })
	loops := watchLoops(t, time.Second)
	r := f.start(func(c *Config) {
		c.Loops, c.Pool = loops.Loops, pool
		if c.Connect != nil {
			c.Connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, pool.Config().ConnConfig) }
		}
	}, &recorder{name: "p"})
	f.awaitHandled("p", f.append("Order", 3))
	between.Set(wire.State{Refuse: true})
	between.Cut()
	r.log.Await(t, "the database failed")
	// The coordinator's look waits for the session, for half of what its round may take. The partitions stop when the lease ends.
	for _, loop := range []string{"supervisor", "heartbeat", "horizon", "session"} {
		loops.awaitRounds(loop, 1)
	}
	assert.Empty(t, loops.stuck())
	between.Set(wire.State{})
}

// An actor that panics whenever it is started does no rounds.
func TestALoopThatKeepsPanickingIsSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	broken := health.NewLoops(50*time.Millisecond, func(loop string) {
		if loop == kindHorizon {
			panic("as the test wants it")
		}
	})
	r := f.start(func(c *Config) { c.Loops = broken }, &recorder{name: "p"})
	eventually(t, func() bool {
		return slices.ContainsFunc(broken.Status(), func(s health.Status) bool { return s.Name == kindHorizon && !s.OK })
	}, "it is not seen")
	assert.Greater(t, len(r.log.Find("an actor panicked")), 1)
}
