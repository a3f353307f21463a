package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
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
