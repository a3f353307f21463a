// Package awaiting is how tests wait for something that no signal tells of.
package awaiting

import (
	"testing"
	"time"
)

// interval is the time between two looks.
const interval = 5 * time.Millisecond

// Until looks again and again whether a condition holds, and fails the test if it does not within patience. describe says what was waited for and what is
// the case instead; it is called only then. holds runs on the caller's goroutine, so it may use t.
func Until(t testing.TB, patience time.Duration, holds func() bool, describe func() string) {
	t.Helper()
	if !Poll(patience, holds) {
		t.Fatalf("waited %s in vain: %s", patience, describe())
	}
}

// Poll looks again and again until a condition holds, and says whether it did within patience. It looks at least once.
func Poll(patience time.Duration, holds func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	look := time.NewTicker(interval)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline.C:
			return holds()
		}
	}
	return true
}

// Value receives a value from a channel, and fails the test if none comes within patience.
func Value[T any](t testing.TB, patience time.Duration, from <-chan T, what string) (value T) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case value = <-from:
	case <-deadline.C:
		t.Fatalf("waited %s in vain: %s", patience, what)
	}
	return value
}
