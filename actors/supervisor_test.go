package actors

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/logbook"
)

// bareSupervisor is a supervisor whose coordinator and heartbeat are probes.
type bareSupervisor struct {
	*supervisor
	probe *actor.PID
}

// inspect runs on the actor's goroutine.
type inspect struct {
	run  func(c actor.Context)
	done chan struct{}
}

func (b *bareSupervisor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		b.coordinator, b.heartbeat = b.probe, b.probe
	case inspect:
		m.run(c)
		close(m.done)
	default:
		b.supervisor.Receive(c)
	}
}

// bench is a bare supervisor in a bubble, and what it says to its coordinator.
type bench struct {
	t      *testing.T
	system *actor.ActorSystem
	top    *actor.PID
	sup    *supervisor
	said   chan any
	log    *logbook.Book
	done   chan struct{}
}

// quietSystem is an actor system for a bubble.
func quietSystem() *actor.ActorSystem {
	return actor.NewActorSystem(actor.WithDeadLetterThrottleInterval(time.Millisecond),
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return slog.New(slog.DiscardHandler) }))
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, system: quietSystem(), said: make(chan any, 100), log: newLog(), done: make(chan struct{})}
	w := &worker{Config: Config{EventStore: eventstore.New(eventstore.WithLogger(nil)), Logger: b.log.Logger(), Timing: Timing{Timing: replicaset.Timing{Stale: 6 * time.Second}, Drain: time.Second}, Batch: BatchConfig{Size: 10}}}
	w.handlers = NewHandlers(time.Minute, nil)
	b.sup = newSupervisor(w, b.done)
	probe := b.system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
		switch c.Message().(type) {
		case *actor.Started, *actor.Stopping, *actor.Stopped:
		default:
			b.said <- c.Message()
		}
	}))
	b.top = b.system.Root.Spawn(properties(kindSupervisor, "bench", nil,
		func() actor.Actor { return &bareSupervisor{supervisor: b.sup, probe: probe} }, actor.WithGuardian(guardian{log: w.Logger})))
	t.Cleanup(func() {
		b.system.Root.Stop(b.top)
		<-b.done
		b.system.Root.Stop(probe)
		pass(time.Second) // of the bubble: the library's throttles end
		b.system.Shutdown()
		synctest.Wait()
	})
	return b
}

// tell sends messages and waits until nothing moves.
func (b *bench) tell(all ...any) {
	for _, m := range all {
		b.system.Root.Send(b.top, m)
	}
	synctest.Wait()
}

// heard is what the coordinator has been told since the last call.
func (b *bench) heard() []any {
	var all []any
	for {
		select {
		case m := <-b.said:
			all = append(all, m)
		default:
			return all
		}
	}
}

// inspect runs on the supervisor's goroutine.
func (b *bench) inspect(run func(c actor.Context)) {
	done := make(chan struct{})
	b.system.Root.Send(b.top, inspect{run: run, done: done})
	<-done
}

// current is the run that is alive; nil if there is none.
func (b *bench) current() (r *run) {
	b.inspect(func(actor.Context) { r = b.sup.run })
	return r
}

// assignment is partitions without projections: they need no database.
func assignment(generation int64) messages.StartPartitions {
	return messages.StartPartitions{Assignment: messages.Assignment{Generation: generation, Partitions: []messages.PartitionAssignment{
		{Partition: slot.Partition{Key: 0, Total: 2}}, {Partition: slot.Partition{Key: 1, Total: 2}},
	}}}
}

// bubble runs a test with a bench in fake time.
func bubble(t *testing.T, test func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newBench(t)) })
}

func leaseUntil(d time.Duration) messages.LeaseRenewed {
	return messages.LeaseRenewed{Until: time.Now().Add(d)}
}

func TestStopPartitionsIsAnsweredWhenNothingRuns(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(messages.StopPartitions{Generation: 7})
		assert.Equal(t, []any{messages.PartitionsStopped{Generation: 7}}, b.heard())
	})
}

func TestPartitionsStartOnlyUnderALease(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(assignment(3))
		assert.Equal(t, []any{messages.PartitionsStopped{Generation: 3}}, b.heard(), "before the lease")
		require.Nil(t, b.current())

		renewed := leaseUntil(time.Minute)
		b.tell(renewed, assignment(3))
		assert.Equal(t, []any{renewed}, b.heard())
		require.NotNil(t, b.current())
		b.tell(leaseUntil(time.Hour))
		assert.Empty(t, b.heard(), "only a lease that was not there is news")

		b.tell(messages.StopPartitions{Generation: 3})
		assert.Equal(t, []any{messages.PartitionsStopped{Generation: 3}}, b.heard())
		b.tell(messages.LeaseExpired{}, assignment(3))
		assert.Equal(t, []any{messages.LeaseExpired{}, messages.PartitionsStopped{Generation: 3}}, b.heard(), "after the lease")
		require.Nil(t, b.current())
	})
}

func TestLeaseExpiredCancelsPartitionsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(time.Minute), assignment(3))
		r := b.current()
		b.heard()
		b.tell(messages.LeaseExpired{})
		assert.ErrorIs(t, context.Cause(r.hard), errUntrusty)
		assert.Equal(t, []any{messages.LeaseExpired{}, messages.PartitionsStopped{Generation: 3}}, b.heard())
		require.Nil(t, b.current())
	})
}

// TestStartAfterAnExpiredLeaseIsNoStop: the coordinator must not believe that
// what was started after a short loss of trust is being stopped.
func TestStartAfterAnExpiredLeaseIsNoStop(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(time.Minute))
		k := newCoordinator(b.sup.worker)
		k.note(messages.LeaseRenewed{})
		b.heard()
		k.starting(3) // the message is on its way, behind these two
		b.tell(messages.LeaseExpired{}, leaseUntil(time.Minute), assignment(3))
		for _, m := range b.heard() {
			k.note(m.(messages.ToCoordinator))
		}
		require.NotNil(t, b.current())
		assert.Equal(t, replicaset.Handling, k.state.Partitions)
		assert.True(t, k.state.Trusted)
	})
}

// blocker is a partition's child, or the partition itself, that ends only when
// it is let go.
type blocker struct{ letGo chan struct{} }

func (p *blocker) Receive(c actor.Context) {
	if _, ok := c.Message().(*actor.Stopping); ok {
		<-p.letGo
	}
}

func TestDrainIsSoftFirstThenHard(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(time.Minute), assignment(3))
		r := b.current()
		slow := &blocker{letGo: make(chan struct{})}
		letGo := sync.OnceFunc(func() { close(slow.letGo) })
		defer letGo()
		b.inspect(func(c actor.Context) {
			b.sup.spawn(c, childSpec{kind: kindPartition, key: "slow", produce: func(bool) actor.Actor { return slow }})
		})
		b.heard()
		b.tell(messages.StopPartitions{Generation: 3, Reason: "a test"})
		require.ErrorIs(t, context.Cause(r.soft), errStopping)
		require.NoError(t, r.hard.Err())
		require.Empty(t, b.heard(), "one partition is still alive")

		pass(999 * time.Millisecond)
		synctest.Wait()
		require.NoError(t, r.hard.Err())
		pass(time.Millisecond)
		synctest.Wait()
		assert.ErrorIs(t, context.Cause(r.hard), errDrained)
		assert.Empty(t, b.heard())

		b.tell(assignment(4))
		assert.Equal(t, []any{messages.PartitionsRunning{Generation: 3, Stopping: true}}, b.heard(), "what is alive is told to who would start more")
		letGo()
		synctest.Wait()
		assert.Equal(t, []any{messages.PartitionsStopped{Generation: 3}}, b.heard())
	})
}

func TestStopNowIsHardAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(time.Minute), assignment(3))
		r := b.current()
		b.heard()
		b.tell(messages.StopPartitions{Generation: 3, Now: true})
		assert.ErrorIs(t, context.Cause(r.hard), errStopping)
		assert.Equal(t, []any{messages.PartitionsStopped{Generation: 3}}, b.heard())
	})
}

// TestLateDrainSparesTheNextRun: the timer of a run that has ended meanwhile.
func TestLateDrainSparesTheNextRun(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(time.Minute), assignment(3))
		first := b.current()
		b.tell(messages.StopPartitions{Generation: 3})
		b.tell(assignment(3))
		second := b.current()
		require.NotSame(t, first, second)
		b.tell(&drainDue{run: first})
		assert.NoError(t, second.soft.Err())
	})
}

// TestLeaseEndsWithoutAHeartbeat: nobody else ends the lease while a heartbeat
// that keeps panicking waits for its next life.
func TestLeaseEndsWithoutAHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		b.tell(leaseUntil(5*time.Second), assignment(3))
		b.inspect(func(c actor.Context) {
			b.sup.backoff = dbfault.Backoff{First: time.Hour, Max: time.Hour}
			b.sup.heartbeat = b.sup.spawn(c, childSpec{kind: kindHeartbeat, key: "0", produce: func(bool) actor.Actor {
				return actor.ReceiveFunc(func(c actor.Context) {
					if _, ok := c.Message().(*actor.Started); ok {
						panic("a heartbeat")
					}
				})
			}})
		})
		synctest.Wait()
		r := b.current()
		b.heard()
		pass(5*time.Second - time.Millisecond)
		synctest.Wait()
		require.NoError(t, r.hard.Err())
		pass(time.Millisecond)
		synctest.Wait()
		require.ErrorIs(t, context.Cause(r.hard), errUntrusty)
		assert.Contains(t, b.heard(), any(messages.LeaseExpired{}))
	})
}

func TestNewCoordinatorIsBriefed(t *testing.T) {
	bubble(t, func(t *testing.T, b *bench) {
		told := func() (told []messages.ToCoordinator) {
			b.inspect(func(actor.Context) { told = b.sup.briefing() })
			return told
		}
		assert.Empty(t, told())
		lease := leaseUntil(time.Minute)
		b.tell(lease, assignment(3), messages.Leave{})
		assert.Equal(t, []messages.ToCoordinator{lease, messages.PartitionsRunning{Generation: 3}, messages.Leave{}}, told())
		k := newCoordinator(b.sup.worker, told()...)
		assert.Equal(t, replicaset.Handling, k.state.Partitions)
		assert.EqualValues(t, 3, k.state.Generation)
		assert.True(t, k.state.Trusted && k.state.Leaving)
	})
}
