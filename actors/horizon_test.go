package actors

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/lag"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// The waits of a horizon whose poll interval is 250 ms.
func TestHorizonInterval(t *testing.T) {
	const poll = 250 * time.Millisecond
	for name, test := range map[string]struct {
		still    time.Duration   // since the horizon moved
		took     time.Duration   // the probe
		streams  bool            // events come as a stream
		often    bool            // they come often
		held     bool            // one is missing
		leads    bool            // this worker looks for others
		without  bool            // the wake-up trigger
		crowd    bool            // they were notified too fast
		told     bool            // of appends, by the trigger, when the probe began
		who      pgcoord.WakeUps // sees to that now
		watched  bool
		holders  int
		expected time.Duration
	}{
		"events come":                 {still: time.Millisecond, expected: horizonBusy},
		"a stream of events comes":    {still: time.Millisecond, streams: true, expected: horizonStream},
		"they come often":             {still: time.Millisecond, often: true, without: true, expected: aloneOften},
		"often, for others too":       {still: time.Millisecond, often: true, without: true, leads: true, expected: leadOften},
		"often, and one is missing":   {still: time.Millisecond, often: true, without: true, held: true, expected: horizonBusy},
		"often, with the trigger":     {still: time.Millisecond, often: true, expected: horizonBusy},
		"a crowd comes":               {still: time.Millisecond, crowd: true, expected: horizonCrowd},
		"a crowd on a slow server":    {still: time.Millisecond, crowd: true, took: 10 * time.Millisecond, expected: 50 * time.Millisecond},
		"a crowd that is a stream":    {still: time.Millisecond, crowd: true, streams: true, expected: horizonStream},
		"the server is slow":          {still: time.Millisecond, took: 10 * time.Millisecond, expected: 50 * time.Millisecond},
		"none came for a while":       {still: 500 * time.Millisecond, expected: 100 * time.Millisecond},
		"none came for long":          {still: time.Hour, expected: poll},
		"told, and events come":       {still: time.Millisecond, told: true, who: pgcoord.WakeUpsOwn, expected: poll},
		"told, none came for long":    {still: time.Hour, told: true, who: pgcoord.WakeUpsOwn, expected: horizonIdle},
		"told, another asked":         {still: time.Hour, told: true, who: pgcoord.WakeUpsOthers, expected: wakeUpsTrust},
		"another asked, and watched":  {still: time.Hour, told: true, who: pgcoord.WakeUpsOthers, watched: true, expected: horizonIdle},
		"told since the probe began":  {still: time.Millisecond, who: pgcoord.WakeUpsOwn, expected: horizonBusy},
		"told no longer":              {still: time.Millisecond, told: true, expected: horizonBusy},
		"told, but an append is open": {still: 100 * time.Millisecond, told: true, who: pgcoord.WakeUpsOwn, holders: 1, expected: 20 * time.Millisecond},
		"told, an append stays open":  {still: time.Hour, told: true, who: pgcoord.WakeUpsOwn, holders: 1, expected: poll},
		"watched, none came for long": {still: time.Hour, watched: true, expected: horizonIdle},
		"watched, one is open":        {still: time.Hour, watched: true, holders: 1, expected: poll},
		"watched, but events come":    {still: time.Millisecond, watched: true, expected: horizonBusy},
	} {
		t.Run(name, func(t *testing.T) {
			h := &horizonActor{
				worker: &worker{Config: Config{Timing: Timing{Timing: replicaset.Timing{Poll: poll}}}},
				moved:  time.Now().Add(-test.still), took: test.took, watched: test.watched,
				wakeUps: wakeUps{connected: true, installed: !test.without, who: test.who}, rate: appendRate{fast: test.streams}, pace: pace{often: test.often},
			}
			if test.crowd {
				h.crowd.since = time.Now()
			}
			if test.leads {
				h.lead = lead{connected: true, seen: messages.ReplicaSetSeen{Leading: true, Workers: 2}}
			}
			m := &probed{reading: horizon.Reading{Holders: test.holders}, told: test.told}
			if test.held {
				m.reading.LastValue = 1
			}
			assert.InDelta(t, test.expected, h.interval(m), float64(min(test.expected/8, 10*time.Millisecond)))
		})
	}
}

// Events that an open transaction holds back are waited for as those that may come any moment: nobody tells of a rollback.
func TestHorizonIntervalWhileEventsAreHeldBack(t *testing.T) {
	h := &horizonActor{
		worker: &worker{Config: Config{Timing: Timing{Timing: replicaset.Timing{Poll: 250 * time.Millisecond}}}},
		moved:  time.Now().Add(-time.Hour), lastAllocated: 5,
		wakeUps: wakeUps{connected: true, installed: true, who: pgcoord.WakeUpsOwn},
	}
	m := &probed{reading: horizon.Reading{Position: 5, LastValue: 6, Holders: 1}, told: true}
	h.measure(m.reading, time.Second)
	assert.Equal(t, horizonBusy, h.interval(m))
	h.moved = time.Now().Add(-time.Hour)
	h.measure(m.reading, time.Second)
	assert.Equal(t, 250*time.Millisecond, h.interval(m), "no more were allocated")
}

// Whoever is woken all the time leaves the server to others for a while.
func TestHorizonRest(t *testing.T) {
	for name, test := range map[string]struct {
		took     time.Duration
		streams  bool
		poll     time.Duration
		expected time.Duration
	}{
		"a few came":             {took: 400 * time.Microsecond, poll: time.Second, expected: 400 * time.Microsecond},
		"they come as a stream":  {took: 400 * time.Microsecond, streams: true, poll: time.Second, expected: horizonStream},
		"and are to come sooner": {took: 400 * time.Microsecond, streams: true, poll: time.Millisecond, expected: time.Millisecond},
		"the server is slow":     {took: time.Second, poll: time.Second, expected: horizonBusy},
		"there was none before":  {},
	} {
		t.Run(name, func(t *testing.T) {
			h := &horizonActor{
				worker: &worker{Config: Config{Timing: Timing{Timing: replicaset.Timing{Poll: test.poll}}}},
				took:   test.took, rate: appendRate{fast: test.streams},
			}
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
		w := &worker{Config: Config{Logger: slog.New(slog.DiscardHandler), EventStore: eventstore.New(eventstore.WithLogger(nil)), Lag: &lag.History{}}}
		said := make(chan messages.HorizonAdvanced, 16)
		system := quietSystem()
		var child *actor.PID
		parent := system.Root.Spawn(actor.PropsFromFunc(func(c actor.Context) {
			switch m := c.Message().(type) {
			case *actor.Started:
				child = c.Spawn(actor.PropsFromProducer(func() actor.Actor {
					h := newHorizon(w, 1)
					h.surveys.busy = true // there is no database
					return outcomes{h}
				}))
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
