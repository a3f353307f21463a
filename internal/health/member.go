package health

import (
	"fmt"
	"sync"
	"time"
)

// Phase is what has become of Run.
type Phase string

// The phases.
const (
	New      Phase = "new"      // Run was not called
	Starting Phase = "starting" // it looks for the database and the tables
	Running  Phase = "running"
	Leaving  Phase = "leaving" // its context has ended
	Ended    Phase = "ended"   // it has returned nil
	Failed   Phase = "failed"  // it has returned an error
)

// Member is what is known of the worker as a member of its replica set. It is a value.
type Member struct {
	Phase Phase
	// State is the worker's state in its row at the last look, and Generation that of the replica set.
	State      string
	Generation int64
	// Trusted says that a heartbeat has succeeded lately.
	Trusted bool
	// Looked is when the last look was, and Handled when the last one was that showed the worker running in an active generation.
	Looked, Handled time.Time
}

// Ready says whether the worker can do its work at that time, and why not. It stays ready while the generation changes, for up to patience.
func (m Member) Ready(now time.Time, patience time.Duration) (why string, ready bool) {
	switch {
	case m.Phase != Running:
		return map[Phase]string{
			New: "Run has not been called", Starting: "the database and the tables are being looked for", Leaving: "the worker is leaving",
			Ended: "Run has returned", Failed: "Run has returned an error",
		}[m.Phase], false
	case m.State == "dead":
		return "the worker was declared dead, and joins again", false
	case m.Handled.IsZero():
		return "the worker is not yet a member of an active generation", false
	case !m.Trusted:
		return "no heartbeat has succeeded for too long", false
	case now.Sub(m.Handled) <= patience:
		return "", true
	case now.Sub(m.Looked) > patience:
		return fmt.Sprintf("the replica set could not be looked at for %s", patience), false
	}
	return fmt.Sprintf("the generation has been changing for longer than %s", patience), false
}

// Membership keeps a Member. It is safe for concurrent use. Its methods do nothing on nil.
type Membership struct {
	mu     sync.Mutex
	member Member
}

// Now is what is known.
func (m *Membership) Now() Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.member
	if now.Phase == "" {
		now.Phase = New
	}
	return now
}

// change changes what is known.
func (m *Membership) change(change func(*Member)) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.member)
}

// Begin begins a new worker.
func (m *Membership) Begin() { m.change(func(now *Member) { *now = Member{Phase: Starting} }) }

// Enter says what has become of Run. What was known of a worker that has ended is forgotten.
func (m *Membership) Enter(p Phase) {
	m.change(func(now *Member) {
		if now.Phase = p; p == Ended || p == Failed {
			*now = Member{Phase: p}
		}
	})
}

// Trust says whether a heartbeat has succeeded lately.
func (m *Membership) Trust(trusted bool) { m.change(func(now *Member) { now.Trusted = trusted }) }

// Look says what a look at the replica set has shown: the worker's state, the generation, and whether the worker handles its partitions of it.
func (m *Membership) Look(state string, generation int64, handles bool) {
	m.change(func(now *Member) {
		now.State, now.Generation, now.Looked = state, generation, time.Now()
		if handles {
			now.Handled = now.Looked
		}
	})
}
