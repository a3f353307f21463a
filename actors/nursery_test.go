package actors

import (
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
)

func TestCrashesAreForgottenAfterTheWindow(t *testing.T) {
	c := crashes{window: time.Minute}
	now := time.Now()
	assert.Equal(t, 1, c.add(now))
	assert.Equal(t, 2, c.add(now.Add(30*time.Second)))
	assert.Equal(t, 3, c.add(now.Add(time.Minute)), "a crash counts for the whole window")
	assert.Equal(t, 3, c.add(now.Add(61*time.Second)))
	assert.Equal(t, 1, c.add(now.Add(time.Hour)))
}

// brood is a parent: what a test of the nursery needs around it.
type brood struct {
	nursery
	ended chan struct{}
	// onEnd is told of each child that has ended.
	onEnd func(c actor.Context)
}

// order is something to be done on the brood's goroutine.
type order func(c actor.Context, b *brood)

func (b *brood) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case order:
		m(c, b)
	case *respawn:
		b.respawn(c, m)
	case *actor.Terminated:
		b.terminated(c, m.Who)
		if b.onEnd != nil {
			b.onEnd(c)
		}
	case *actor.Stopping:
		b.close()
	case *actor.Stopped:
		close(b.ended)
	}
}

// house is a brood in a bubble.
type house struct {
	t        *testing.T
	system   *actor.ActorSystem
	parent   *actor.PID
	brood    *brood
	log      *logbook.Book
	registry *prometheus.Registry
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, system: quietSystem(), log: newLog(), registry: prometheus.NewRegistry()}
	m, err := measure.New(h.registry)
	require.NoError(t, err)
	recorder := m.ReplicaSet("main")
	h.brood = &brood{nursery: newNursery(h.log.Logger(), recorder), ended: make(chan struct{})}
	h.parent = h.system.Root.Spawn(properties("brood", "brood", recorder, func() actor.Actor { return h.brood },
		actor.WithGuardian(guardian{log: h.log.Logger()})))
	t.Cleanup(func() {
		h.stop()
		pass(time.Minute) // of the bubble: whatever was armed has fired
		h.system.Shutdown()
		synctest.Wait()
	})
	return h
}

func (h *house) stop() {
	h.system.Root.Stop(h.parent)
	<-h.brood.ended
}

// do runs on the brood's goroutine.
func (h *house) do(run order) {
	done := make(chan struct{})
	h.system.Root.Send(h.parent, order(func(c actor.Context, b *brood) {
		run(c, b)
		close(done)
	}))
	<-done
	synctest.Wait()
}

// life is what a test sees of the lives of one child.
type life struct {
	starts  []time.Time
	names   []string
	again   []bool
	alive   atomic.Int32
	zombies atomic.Int32 // messages after Stopped
}

// fragile is a child that panics at messages of one type, for as many lives as
// it is told to.
type fragile struct {
	life   *life
	at     string
	lives  int
	nth    int
	ending bool
}

func (l *life) spec(at string, lives int) childSpec {
	return childSpec{kind: "fragile", key: "0", produce: func(again bool) actor.Actor {
		l.again = append(l.again, again)
		return &fragile{life: l, at: at, lives: lives, nth: len(l.again)}
	}}
}

func (f *fragile) Receive(c actor.Context) {
	if f.ending {
		f.life.zombies.Add(1)
	}
	switch c.Message().(type) {
	case *actor.Started:
		f.life.starts = append(f.life.starts, time.Now())
		f.life.names = append(f.life.names, c.Self().Id)
		f.life.alive.Add(1)
	case *actor.Stopped:
		f.ending = true
		f.life.alive.Add(-1)
	}
	if label := messageName(c.Message()); label == f.at && f.nth <= f.lives {
		panic("fragile at " + label)
	}
}

// hit is a message to a fragile child.
type hit struct{}

func TestPanickingChildIsSpawnedAnewWithGrowingBackoff(t *testing.T) {
	for _, at := range []string{"Started", "hit"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, l := newHouse(t), &life{}
				h.do(func(c actor.Context, b *brood) { b.spawn(c, l.spec(at, 5)) })
				for range 200 {
					h.do(func(c actor.Context, b *brood) { b.send(c, "fragile", hit{}) })
					pass(50 * time.Millisecond)
				}
				require.Len(t, l.starts, 6, "five lives end in a panic, the sixth goes on")
				assert.EqualValues(t, 1, l.alive.Load())
				assert.Equal(t, []bool{false, true, true, true, true, true}, l.again)
				for i := 1; i < len(l.starts); i++ {
					least := h.brood.backoff.Ceiling(i) / 2
					assert.GreaterOrEqual(t, l.starts[i].Sub(l.starts[i-1]), least, "life %d", i+1)
				}
				names := map[string]bool{}
				for _, name := range l.names {
					assert.False(t, names[name], "%s is used twice", name)
					names[name] = true
				}
				assert.Zero(t, l.zombies.Load())
				assert.EqualValues(t, 5, counted(t, h.registry, "actor_respawns_total", "actor", "fragile"))
				assert.EqualValues(t, 5, counted(t, h.registry, "actor_panics_total", "actor", "fragile"))
				assert.Contains(t, h.log.Find("an actor panicked")[0].Attrs["stack"], "nursery_test.go")
			})
		})
	}
}

// TestPanicWhileEndingEndsTheChild: it was to end, so it is not spawned again,
// and its parent does not wait for it.
func TestPanicWhileEndingEndsTheChild(t *testing.T) {
	for _, at := range []string{"Stopping", "Stopped"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, l := newHouse(t), &life{}
				h.do(func(c actor.Context, b *brood) { b.spawn(c, l.spec(at, 1)) })
				h.do(func(c actor.Context, b *brood) { assert.True(t, b.stop(c, "fragile")) })
				pass(time.Minute)
				assert.Zero(t, l.alive.Load())
				assert.Len(t, l.starts, 1)
				h.do(func(_ actor.Context, b *brood) { assert.Zero(t, b.count("fragile")) })
				assert.EqualValues(t, 1, counted(t, h.registry, "actor_panics_total"))
			})
		})
	}
}

func TestStopDuringBackoffIsFinal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := newHouse(t), &life{}
		h.do(func(c actor.Context, b *brood) { b.spawn(c, l.spec("Started", 100)) })
		require.Len(t, h.brood.waiting, 1)
		h.do(func(c actor.Context, b *brood) { assert.False(t, b.stop(c, "fragile"), "it waits, it is not alive") })
		pass(time.Minute)
		assert.Len(t, l.starts, 1)
	})
}

// TestPanicOfAChildWhoseParentEnds: it must not wait for a next life.
func TestPanicOfAChildWhoseParentEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		entered, letGo := make(chan struct{}), make(chan struct{})
		h.do(func(c actor.Context, b *brood) {
			b.spawn(c, childSpec{kind: "fragile", key: "0", produce: func(bool) actor.Actor {
				return actor.ReceiveFunc(func(c actor.Context) {
					if _, ok := c.Message().(*actor.Started); ok {
						close(entered)
						<-letGo
						panic("too late")
					}
				})
			}})
		})
		<-entered
		h.system.Root.Stop(h.parent)
		synctest.Wait()
		close(letGo)
		<-h.brood.ended
		assert.Empty(t, h.brood.waiting)
		assert.Zero(t, counted(t, h.registry, "actor_respawns_total"))
	})
}

func TestCrashLoopIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, l := newHouse(t), &life{}
		h.do(func(c actor.Context, b *brood) {
			b.budget, b.backoff = 3, dbfault.Backoff{First: time.Millisecond, Max: time.Second}
			b.spawn(c, l.spec("Started", 1000))
		})
		pass(10500 * time.Millisecond)
		reports := h.log.Find("an actor keeps panicking")
		require.NotEmpty(t, reports)
		assert.Equal(t, slog.LevelError, reports[0].Level)
		assert.Equal(t, "4", reports[0].Attrs["panics"])
		assert.Len(t, l.starts, 14, "three at once, the fourth, and one a second from then on")
	})
}

// TestRandomGenerationsWithRandomPanics is the life of a supervisor: children
// that panic anywhere, again and again replaced by others.
func TestRandomGenerationsWithRandomPanics(t *testing.T) {
	const generations, most = 500, 6
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		random := rand.New(rand.NewPCG(rand.Uint64(), 2))
		var alive [most]atomic.Int32
		var duplicates, zombies, handled atomic.Int64
		wanted := 0
		fill := func(c actor.Context) {
			for k := range wanted {
				h.brood.spawn(c, childSpec{kind: "partition", key: string(rune('a' + k)), produce: func(bool) actor.Actor {
					return &restless{alive: &alive[k], duplicates: &duplicates, zombies: &zombies, handled: &handled, seed: rand.Uint64()}
				}})
			}
		}
		due := false // the next generation waits for the end of this one
		h.brood.onEnd = func(c actor.Context) {
			if due && h.brood.count("partition") == 0 {
				due = false
				fill(c)
			}
		}
		h.brood.backoff = dbfault.Backoff{First: time.Millisecond, Max: 8 * time.Millisecond}
		for range generations {
			h.do(func(c actor.Context, b *brood) {
				wanted = random.IntN(most + 1)
				if due = b.stop(c, "partition"); !due {
					fill(c)
				}
			})
			pass(time.Duration(random.IntN(20)) * time.Millisecond)
		}
		h.stop()
		for k := range alive {
			assert.Zero(t, alive[k].Load(), "partition %d outlives its parent", k)
		}
		assert.Zero(t, duplicates.Load(), "two of one partition were alive at once")
		assert.Zero(t, zombies.Load(), "a message was handled after Stopped")
		assert.Greater(t, handled.Load(), int64(generations))
		assert.Positive(t, counted(t, h.registry, "actor_respawns_total"))
	})
}

// restless sends itself messages and panics now and then, anywhere.
type restless struct {
	alive                        *atomic.Int32
	duplicates, zombies, handled *atomic.Int64
	seed                         uint64
	random                       *rand.Rand
	gone                         bool
}

func (r *restless) Receive(c actor.Context) {
	if r.gone {
		r.zombies.Add(1)
	}
	odds := 10
	switch c.Message().(type) {
	case *actor.Started:
		r.random = rand.New(rand.NewPCG(r.seed, 3))
		if r.alive.Add(1) > 1 {
			r.duplicates.Add(1)
		}
		c.Send(c.Self(), hit{})
	case hit:
		r.handled.Add(1)
		pass(time.Duration(r.random.IntN(3000)) * time.Microsecond)
		c.Send(c.Self(), hit{})
	case *actor.Stopping:
		odds = 3
	case *actor.Stopped:
		odds = 3
		r.alive.Add(-1)
		r.gone = true
	}
	if r.random.IntN(odds) == 0 {
		panic("restless")
	}
}
