package handling

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Outcome is what becomes of an event that failed. Its zero value is Retry, which is also the outcome where no event fails. Users cannot choose Retry, and the zero
// value of projection.Outcome is Stop. So the two differ by one: FromPublic and Public convert them.
//
// A new outcome is added in these places:
//
//   - projection/errorpolicy.go: the constant that users choose
//   - policy.go and errorpolicy.go here: the constant, its word, and the rule for ErrorPolicy.Then
//   - policychoice.go of the root and projection/config.go: projections that must not have it, and the log at the start
//   - actors/outcome.go: a worker performs it
//   - pgcoord/outcome.go: what a worker's batch writes for it
//   - projection/failing.go, load.go and letters.go: the manual runner performs it, writes it, and finds it again after a restart
//   - migrations and eventstore/migrations: the states of a dead letter, and what the state needs
//   - pgcoord/deadletters.go, reset.go and standing.go: what the letter's state means to workers
//   - admin (filter.go, snapshotread.go, explanations.go, checks.go) and what shows it: cli, statuspage
//   - internal/measure/projections.go: its counter
//   - catchup.go and wait.go of the root, if nothing passes the event
//   - docs/errors.md
type Outcome int

const (
	// Retry handles the event again. Nothing passes it meanwhile.
	Retry Outcome = iota
	// Stop stops the projection at the event.
	Stop
	// Skip leaves the event out.
	Skip
	// Park puts the event aside, and the later events of its aggregate with it.
	Park
)

// String is the outcome in a word, for logs.
func (o Outcome) String() string {
	return map[Outcome]string{Retry: "retry", Stop: "stop", Skip: "skip", Park: "park"}[o]
}

// FromPublic is the outcome that a projection.Outcome stands for.
func FromPublic[O ~int](o O) Outcome { return Stop + Outcome(o) }

// Public is the projection.Outcome of an outcome. That of Retry is none of its constants.
func Public[O ~int](o Outcome) O { return O(o - Stop) }

// Policy says what follows when an event has failed. The zero value retries without end. A projection's error policy becomes one of these,
// see [ErrorPolicy]. Whoever calls [Decide] performs the outcome.
type Policy struct {
	// Attempts is how many failed attempts at one event lead to Then. 0 means that none do.
	Attempts int
	// Backoff is the delay between attempts.
	Backoff dbfault.Backoff
	// Then is the outcome after that many attempts, or after an error that is permanent. Retry means that the event is tried for ever.
	Then Outcome
	// Timeout bounds one call of a handler; 0 for none.
	Timeout time.Duration
	// MaxParked is how many aggregates of the projection may be parked, and MaxParkedEvents how many letters an aggregate may have. Beyond that, Park is Stop.
	MaxParked, MaxParkedEvents int
	// Classify finds the class of a handler's error. Nil means DefaultClass.
	Classify func(error) Class

	classifying *contained.Calls // of Classify
}

// IsZero says whether it is the policy of a projection that has none.
func (p Policy) IsZero() bool { return p.Then == Retry && p.Timeout == 0 && p.Classify == nil }

// After returns the outcome after a number of failed attempts at an event, and the delay before the next attempt. class is that of the last failure.
func (p Policy) After(attempts int, class Class) (Outcome, time.Duration) {
	if p.Then != Retry && (class == ClassPermanent || p.Attempts > 0 && attempts >= p.Attempts) {
		return p.Then, 0
	}
	return Retry, p.Backoff.After(attempts)
}

// classOf is the class of a handler's error. Where nothing depends on it, the error is nothing but a failed attempt.
func (p Policy) classOf(err error) (Class, error) {
	if p.Then == Retry && p.Classify == nil {
		if _, late := asTimeout(err); late {
			return ClassTimeout, err
		}
		return ClassError, err
	}
	return p.classify(err)
}
