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
		took     time.Duration
		came     int64
		expected time.Duration
	}{
		"nothing came":        {took: 400 * time.Microsecond, expected: 800 * time.Microsecond},
		"one came":            {took: 400 * time.Microsecond, came: 1, expected: 1050 * time.Microsecond},
		"many came":           {took: 400 * time.Microsecond, came: 1_000_000, expected: horizonBusy},
		"the server is slow":  {took: time.Second, expected: horizonBusy},
		"there was no one":    {},
		"a few came together": {took: time.Millisecond, came: 8, expected: 4 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			h := &horizonActor{took: test.took, came: test.came}
			assert.Equal(t, test.expected, h.rest())
		})
	}
}
