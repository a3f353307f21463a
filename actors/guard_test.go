package actors

import (
	"errors"
	"testing"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

func TestMessageName(t *testing.T) {
	type local struct{}
	for want, message := range map[string]any{
		"Leave":          messages.Leave{},
		"proceed":        &proceed{},
		"local":          local{},
		"drainDue":       (*drainDue)(nil),
		"EventsRead":     messages.EventsRead{},
		"StopPartitions": messages.StopPartitions{Generation: 1},
	} {
		assert.Equal(t, want, messageName(message))
	}
}

func TestGuard(t *testing.T) {
	boom := errors.New("boom")
	panics := func(actor.ReceiverContext, *actor.MessageEnvelope) { panic(boom) }
	for _, test := range []struct {
		message   any
		swallowed bool
	}{
		{&actor.Started{}, false},
		{messages.Leave{}, false},
		{&actor.Stopping{}, true},
		{&actor.Stopped{}, true},
		{&actor.Restarting{}, true},
		{&actor.Terminated{}, true},
	} {
		t.Run(messageName(test.message), func(t *testing.T) {
			registry := prometheus.NewRegistry()
			m, err := measure.New(registry)
			require.NoError(t, err)
			recorder := m.ReplicaSet("main")
			recorder.RegisterMailbox("kind", "name", func() int { return 3 })
			handle := guard("kind", "name", recorder)(panics)
			receive := func() { handle(nil, &actor.MessageEnvelope{Message: test.message}) }
			if test.swallowed {
				assert.NotPanics(t, receive)
			} else {
				assert.PanicsWithError(t, "panic in "+messageName(test.message)+": boom", receive)
			}
			assert.EqualValues(t, 1, counted(t, registry, "actor_panics_total", "actor", "kind"))
			want := 1.0
			if isLifecycle(test.message) {
				want = 0
			}
			assert.InDelta(t, want, counted(t, registry, "actor_messages_total", "actor", "kind", "message", messageName(test.message)), 0)
			_, started := test.message.(*actor.Started)
			assert.Equal(t, started, counted(t, registry, "actor_starts_total", "actor", "kind") == 1)
			_, stopped := test.message.(*actor.Stopped)
			assert.Equal(t, stopped, counted(t, registry, "actors", "actor", "kind") == 0, "its mailbox is forgotten when it has stopped")
		})
	}
}

func TestCrashHasTheStackOfThePanic(t *testing.T) {
	handle := guard("kind", "name", nil)(func(actor.ReceiverContext, *actor.MessageEnvelope) { explode() })
	defer func() {
		var c *crash
		err, _ := recover().(error)
		require.ErrorAs(t, err, &c)
		assert.Contains(t, string(c.Stack), "explode")
		assert.Equal(t, "Leave", c.Message)
	}()
	handle(nil, &actor.MessageEnvelope{Message: messages.Leave{}})
	t.Error("the panic was swallowed")
}

func explode() { panic("boom") }

// TestTrustEndsBeforeOthersGiveUp: a worker stops by itself a margin before
// others may hold it for dead.
func TestTrustEndsBeforeOthersGiveUp(t *testing.T) {
	for _, test := range []struct {
		timing Timing
		want   time.Duration
	}{
		{Timing{Timing: replicaset.Timing{Stale: 30 * time.Second}}, 25 * time.Second},
		{Timing{Timing: replicaset.Timing{Stale: 600 * time.Millisecond}}, 500 * time.Millisecond},
	} {
		assert.Equal(t, test.want, test.timing.trust())
	}
}
