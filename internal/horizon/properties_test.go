package horizon

import (
	"testing"

	"pgregory.net/rapid"
)

// Promise 1: whatever the interleaving of writers and probers, no event at or
// below a horizon appears later. And the horizon is as high as the rule allows.
func TestPropertyNothingAppearsBelowTheHorizon(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSimulation()
		s.addProber(t)
		for range rapid.IntRange(1, 3000).Draw(t, "steps") {
			s.step(t)
		}
		s.finish(t)
	})
}
