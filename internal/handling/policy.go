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
	// Stop ends the projection at the event.
	Stop
)

// Policy says what follows when an event has failed. The zero value retries without end. A projection's error policy becomes one of these;
// another outcome is another [Outcome], which whoever calls [Decide] performs.
type Policy struct {
	// Attempts is how many failed attempts at one event lead to Then. 0 means that none do.
	Attempts int
	// Backoff is the delay between attempts.
	Backoff dbfault.Backoff
	// Then is the outcome after that many attempts.
	Then Outcome
}

// after is what follows so many failed attempts at an event, and the delay before the next.
func (p Policy) after(attempts int) (Outcome, time.Duration) {
	if p.Attempts > 0 && attempts >= p.Attempts && p.Then != Retry {
		return p.Then, 0
	}
	return Retry, p.Backoff.After(attempts)
}
