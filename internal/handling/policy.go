package handling

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Outcome is what becomes of an event that failed.
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
	return classify(p.Classify, err)
}
