package actors

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

func TestHorizonInterval(t *testing.T) {
	const poll = 250 * time.Millisecond
	for name, test := range map[string]struct {
		still    time.Duration // since the horizon moved
		took     time.Duration
		told     bool
		holders  int
		expected time.Duration
	}{
		"events come":                       {still: time.Millisecond, expected: horizonBusy},
		"the server is slow":                {still: time.Millisecond, took: 10 * time.Millisecond, expected: 50 * time.Millisecond},
		"none came for a while":             {still: 500 * time.Millisecond, expected: 100 * time.Millisecond},
		"none came for long":                {still: time.Hour, expected: poll},
		"it is told of appends":             {still: time.Hour, told: true, expected: horizonIdle},
		"told, but an appender is open":     {still: time.Hour, told: true, holders: 1, expected: poll},
		"told, but events came a while ago": {still: 500 * time.Millisecond, told: true, expected: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			h := &horizonActor{
				worker: &worker{Config: Config{Timing: Timing{Poll: poll}}},
				moved:  time.Now().Add(-test.still), took: test.took,
			}
			assert.InDelta(t, test.expected, h.interval(horizon.Reading{Holders: test.holders}, test.told), float64(10*time.Millisecond))
		})
	}
}

// Whoever is woken all the time leaves the server to others for a while.
func TestHorizonRest(t *testing.T) {
	for name, test := range map[string]struct {
		took, over time.Duration
		came       int64
		expected   time.Duration
	}{
		"one came":                 {took: 400 * time.Microsecond, over: 2 * time.Millisecond, came: 1, expected: 400 * time.Microsecond},
		"a few came together":      {took: 400 * time.Microsecond, over: time.Millisecond, came: 7, expected: 400 * time.Microsecond},
		"many came in a long time": {took: 400 * time.Microsecond, over: time.Second, came: 1000, expected: 400 * time.Microsecond},
		"they come fast":           {took: 400 * time.Microsecond, over: 9 * time.Millisecond, came: 18, expected: horizonBusy},
		"the server is slow":       {took: time.Second, over: time.Second, expected: horizonBusy},
		"there was none before":    {},
	} {
		t.Run(name, func(t *testing.T) {
			h := &horizonActor{took: test.took, over: test.over, came: test.came}
			assert.Equal(t, test.expected, h.rest())
		})
	}
}

// outcomes is a horizon that is given the results of its probes.
type outcomes struct{ *horizonActor }

// Receive passes on what came of a probe; none is made.
func (o outcomes) Receive(c actor.Context) {
	switch c.Message().(type) {
	case *probed, *actor.Stopping:
		o.horizonActor.Receive(c)
	}
}

// What was the horizon of a server that does not answer any more is none of the server that answers next, which may give the same
// positions again: nobody reads up to it before that one was probed, and then all begin with what the tables say.
func TestHorizonIsWithdrawnWhenAProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{Config: Config{Logger: slog.New(slog.DiscardHandler), EventStore: eventstore.New(eventstore.WithLogger(nil))}}
		said := make(chan messages.HorizonAdvanced, 16)
		system := quietSystem()
		var child *actor.PID
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				child = c.Spawn(actor.PropsFromProducer(func() actor.Actor { return outcomes{newHorizon(w, 1)} }))
			case messages.HorizonAdvanced:
				said <- m
			}
		}))
		synctest.Wait()
		var positions []int64
		var epochs []uint64
		for _, m := range []*probed{
			{reading: horizon.Reading{Position: 7, Epoch: 1}},
			{err: assert.AnError},
			{err: assert.AnError},
			{reading: horizon.Reading{Position: 5, Epoch: 2}},
			{reading: horizon.Reading{Position: 6, Epoch: 2}},
			{reading: horizon.Reading{Position: 6, Epoch: 3}},
		} {
			system.Root.Send(child, m)
			synctest.Wait()
			for len(said) > 0 {
				m := <-said
				positions, epochs = append(positions, m.Position), append(epochs, m.Epoch&0xffff)
			}
		}
		assert.Equal(t, []int64{7, 0, 5, 6, 6}, positions)
		assert.Equal(t, []uint64{1, 2, 3, 3, 4}, epochs)
		system.Root.Stop(parent)
		pass(time.Second) // of the bubble: the library's throttles end
		system.Shutdown()
		synctest.Wait()
	})
}
