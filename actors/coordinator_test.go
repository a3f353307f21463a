package actors

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// A look that hangs, since somebody locks a table or no connection is to be had, shows no appends. The horizon hears that when the
// looks are no longer as frequent as it counts on, not when the look is given up.
func TestALookThatHangsWatchesNoAppends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const observe = 250 * time.Millisecond
		quiet := slog.New(slog.DiscardHandler)
		w := &worker{Config: Config{Logger: quiet, Timing: Timing{Timing: replicaset.Timing{Observe: observe, Poll: observe}}}}
		w.session = pgcoord.OpenSession(t.Context(), pgcoord.SessionConfig{
			Connect: func(ctx context.Context) (*pgx.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
			Logger:  quiet,
		})
		k := newCoordinator(w)
		k.watched = true // as the look before has found
		said := make(chan any, 16)
		system := quietSystem()
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				c.Spawn(actor.PropsFromProducer(func() actor.Actor { return k }))
			case messages.ToSupervisor:
				said <- m
			}
		}))
		pass(observe - time.Millisecond)
		synctest.Wait()
		assert.Empty(t, said, "the look may still be answered in time")
		pass(time.Millisecond)
		synctest.Wait()
		if assert.Len(t, said, 1, "the look is given up much later") {
			assert.Equal(t, messages.AppendsWatched{Watched: false}, <-said)
		}

		system.Root.Stop(parent)
		w.session.Close()
		pass(time.Second) // of the bubble: the library's throttles end
		system.Shutdown()
		synctest.Wait()
	})
}

// The partitions are stopped when it is time, unless they have stopped for another reason.
func TestThePartitionsAreStoppedAfterATime(t *testing.T) {
	for name, test := range map[string]struct {
		then replicaset.Phase
		want int
	}{"they handle": {replicaset.Draining, 1}, "they have stopped": {replicaset.Idle, 0}} {
		synctest.Test(t, func(t *testing.T) {
			k := newCoordinator(&worker{Config: Config{Logger: slog.New(slog.DiscardHandler)}})
			k.state.Partitions, k.state.Generation = replicaset.Draining, 1
			said, child := make(chan messages.StopPartitions, 16), make(chan *actor.PID, 1)
			system := quietSystem()
			parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
				switch m := c.Message().(type) {
				case *actor.Started:
					child <- c.Spawn(actor.PropsFromFunc(func(c actor.Context) {
						switch m := c.Message().(type) {
						case *actor.Started:
							k.stopAfter(c, replicaset.StopPartitions{Generation: 1, Reason: "a test", After: 40 * time.Millisecond})
						case replicaset.Phase:
							k.state.Partitions = m
						case *stopDue:
							k.Receive(c)
						}
					}))
				case messages.StopPartitions:
					said <- m
				}
			}))
			pass(40*time.Millisecond - 1)
			synctest.Wait()
			assert.Empty(t, said, "%s: it is not time yet", name)
			system.Root.Send(<-child, test.then)
			synctest.Wait()
			pass(1)
			synctest.Wait()
			if assert.Len(t, said, test.want, name) && test.want > 0 {
				assert.Equal(t, messages.StopPartitions{Generation: 1, Reason: "a test"}, <-said)
			}

			system.Root.Stop(parent)
			pass(time.Second) // of the bubble: the library's throttles end
			system.Shutdown()
			synctest.Wait()
		})
	}
}

func TestWhoReadsAhead(t *testing.T) {
	for name, test := range map[string]struct {
		phase replicaset.Phase
		state replicaset.GenerationState
		want  int64
	}{
		"who has stopped for it": {replicaset.Idle, replicaset.Preparing, 7},
		"not who handles":        {replicaset.Handling, replicaset.Preparing, 0},
		"not who is stopping":    {replicaset.Draining, replicaset.Preparing, 0},
		"not what is active":     {replicaset.Idle, replicaset.Active, 0},
	} {
		k := &coordinator{state: replicaset.State{Partitions: test.phase}, view: replicaset.View{Generation: replicaset.Generation{Number: 7, State: test.state}}}
		assert.Equal(t, test.want, k.awaited(), name)
	}
}

func TestWhoGlances(t *testing.T) {
	seen := replicaset.View{Generation: replicaset.Generation{Number: 1, State: replicaset.Active}, LeaderLocked: true}
	k := &coordinator{worker: &worker{session: &pgcoord.Session{}}, view: seen}
	assert.False(t, k.glances(), "nothing called for it")
	k.call(true)
	assert.True(t, k.glances())
	k.call(false)
	assert.False(t, k.glances(), "something else called too")
	k.whole = false
	k.view.LeaderLocked = false
	assert.False(t, k.glances(), "somebody must take the lead")
	k.view.LeaderLocked, k.state.LeaderlessSince = true, new(time.Duration)
	assert.False(t, k.glances(), "no live worker leads")
	k.state.LeaderlessSince = nil
	k.view.Leading = true
	assert.False(t, k.glances(), "the leader looks at sessions")
	k.view, k.worker = seen, &worker{}
	assert.False(t, k.glances(), "there are no sessions")

	for i := range 10 {
		k.view.Workers = append(k.view.Workers, replicaset.Worker{ID: uuid.UUID{byte(i)}, State: replicaset.Running, SessionPID: 100 + i})
	}
	k.state.Timing.Follow, k.wholeIn = time.Second, 1
	assert.False(t, k.glancesAfter(time.Second), "every other look of the first is whole")
	assert.True(t, k.glancesAfter(3*time.Second))
	k.wholeIn = 0
	assert.False(t, k.glancesAfter(3*time.Second), "another worker may lead the generation")
}
