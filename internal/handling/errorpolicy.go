package handling

import (
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// ErrorPolicy is projection.ErrorPolicy, which converts to it. O and C are projection.Outcome and projection.Class.
type ErrorPolicy[O, C ~int] struct {
	Attempts        int
	First, Max      time.Duration
	Timeout         time.Duration
	Then            O
	MaxParked       int
	MaxParkedEvents int
	Classify        func(error) C
}

// DefaultMaxParked is MaxParked and MaxParkedEvents where they are 0.
const DefaultMaxParked = 1024

// Bounds of a policy's fields.
const (
	shortestDelay    = time.Millisecond
	longestDelay     = 24 * time.Hour
	highestMaxParked = 1 << 20
)

// Policy returns the policy with its defaults filled in, or an error that names the first field that breaks its rule. backoff is what
// First and Max default to.
func (p ErrorPolicy[O, C]) Policy(backoff dbfault.Backoff) (Policy, error) {
	first, most := p.First, p.Max
	if first == 0 {
		first = backoff.First
	}
	if most == 0 {
		most = backoff.Max
	}
	if p.First == 0 && p.Max != 0 {
		first = min(first, most)
	}
	for _, check := range []struct {
		ok   bool
		text string
		args []any
	}{
		{p.Attempts >= 0, "Attempts must not be negative, got %d", []any{p.Attempts}},
		{p.First == 0 || p.First >= shortestDelay && p.First <= longestDelay, "First must be 0 or between 1ms and 24h, got %s", []any{p.First}},
		{p.Max == 0 || p.Max >= shortestDelay && p.Max <= longestDelay, "Max must be 0 or between 1ms and 24h, got %s", []any{p.Max}},
		{first <= most, "First (%s) must not be above Max (%s): set both", []any{first, most}},
		{p.Timeout == 0 || p.Timeout >= shortestDelay && p.Timeout <= longestDelay, "Timeout must be 0 or between 1ms and 24h, got %s", []any{p.Timeout}},
		{p.Then >= 0 && FromPublic(p.Then) <= Park, "Then must be Stop, Skip or Park, got %d", []any{int(p.Then)}},
		{p.MaxParked >= 0 && p.MaxParked <= highestMaxParked, "MaxParked must be between 0 and %d, got %d", []any{highestMaxParked, p.MaxParked}},
		{p.MaxParkedEvents >= 0 && p.MaxParkedEvents <= highestMaxParked, "MaxParkedEvents must be between 0 and %d, got %d", []any{highestMaxParked, p.MaxParkedEvents}},
	} {
		if !check.ok {
			return Policy{}, fmt.Errorf(check.text, check.args...)
		}
	}
	made := Policy{
		Attempts: p.Attempts, Backoff: dbfault.Backoff{First: first, Max: most}, Timeout: p.Timeout, Then: FromPublic(p.Then),
		MaxParked: orDefault(p.MaxParked), MaxParkedEvents: orDefault(p.MaxParkedEvents),
	}
	if p.Classify != nil {
		made.Classify = func(err error) Class { return Class(p.Classify(err)) }
		made.classifying = contained.NewCalls(classifyPatience, classifyMost)
	}
	if made.Then == Stop && made.Attempts == 0 && made.Classify == nil {
		made.Then = Retry // the zero value retries for ever, whatever the error is
	}
	return made, nil
}

func orDefault(most int) int {
	if most == 0 {
		return DefaultMaxParked
	}
	return most
}

// PolicyOf asks a projection for its error policy. E is projection.ErrorPolicied and P projection.ErrorPolicy. ok is false if it has none.
func PolicyOf[E interface{ ErrorPolicy() P }, P any](p Projection) (policy P, ok bool, err error) {
	defer func() {
		if value := recover(); value != nil {
			ok, err = false, fmt.Errorf("its method ErrorPolicy panicked: %v", value)
		}
	}()
	policied, ok := outermost[E](layersOf(p))
	if !ok {
		return policy, false, nil
	}
	return policied.ErrorPolicy(), true, nil
}
