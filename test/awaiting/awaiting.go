// Package awaiting is how tests wait for something that no signal tells of.
package awaiting

import (
	"bytes"
	"runtime/pprof"
	"strings"
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
		t.Fatalf("waited %s in vain: %s\n\n%s", patience, describe(), goroutines())
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
		t.Fatalf("waited %s in vain: %s\n\n%s", patience, what, goroutines())
	}
	return value
}

const (
	module      = "github.com/getpup/pupsourcing-orchestrator/"
	mostOfStack = 64 << 10
)

// goroutines is where the library's and the tests' goroutines stand, those with one stack together. What stands still says so here and nowhere else.
func goroutines() string {
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return "the goroutines cannot be listed: " + err.Error()
	}
	var own strings.Builder
	for stack := range strings.SplitSeq(all.String(), "\n\n") {
		if strings.Contains(stack, module) && own.Len()+len(stack) < mostOfStack {
			own.WriteString(stack + "\n\n")
		}
	}
	return own.String()
}
