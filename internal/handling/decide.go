package handling

import (
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
)

// Failure is a batch that was not committed, and why.
type Failure struct {
	// Err is what [Handle] returned, or CommitWith if AtCommit is set.
	Err error
	// AtCommit says that the handlers had succeeded.
	AtCommit bool
	// Cause is the last error that the database gave the handlers; nil if there was none.
	Cause error
	// Conflict says that a conflict with another transaction has aborted the transaction, whatever the handlers made of it.
	Conflict bool
	// Lost says that the connection was lost.
	Lost bool
	// Took is how long the batch took, and Idle for how long its transaction might be idle.
	Took, Idle time.Duration

	// Events is how many events the batch had, and Handled how many of them had been handled before the one that failed; 0 at commit.
	Events, Handled int
	// Whole says that any of the events may be the one that failed.
	Whole bool
	// Position is the position of event Handled.
	Position int64
}

// State is what is remembered of the failures of one projection in one partition.
type State struct {
	// Position is the event that failed last, and Attempts how often in a row.
	Position int64
	Attempts int

	lossPosition int64 // where the connection was lost last
	losses       int   // how often in a row
}

// Committed is the state after the events up to and including upTo were committed.
func (s State) Committed(upTo int64) State {
	s.lossPosition, s.losses = 0, 0
	if upTo >= s.Position {
		s.Position, s.Attempts = 0, 0
	}
	return s
}

// Verdict is what a failure means.
type Verdict int

const (
	// Conflict means that a concurrent transaction was in the way. No event has failed.
	Conflict Verdict = iota + 1
	// Idle means that the handlers sent nothing for too long. The batch is handled again with Decision.Idle.
	Idle
	// Database means that the failure says nothing of the events. They are handled again when the database answers.
	Database
	// Smaller means that one of several events has failed. The next batch has Decision.Size events, to find out which.
	Smaller
	// EventFailed means that the event Decision.Event of the batch has failed. Those before it, if any, are to be committed without it.
	EventFailed
)

// Decision is what follows a failure. The zero value follows a success.
type Decision struct {
	Verdict Verdict
	// Err is the failure's error, explained.
	Err error
	// Idle is how long the next batch's transaction may be idle.
	Idle time.Duration
	// Size is how many events the next batch should have at most; 0 if that is not known.
	Size int
	// Event is the index of the event that has failed.
	Event int
	// Class is the class of a handler's error; ClassError for other failures.
	Class Class
	// Outcome is what the policy says of the event, and Delay how long to wait before the next attempt at it, or at a smaller batch. For Database, Delay is what
	// the handler asked for; 0 if it did not.
	Outcome Outcome
	Delay   time.Duration
}

// lossesMost is how often in a row the connection may be lost at one event before that is the event's failure.
const lossesMost = 3

// Decide says what follows a failure, and what is remembered.
func Decide(p Policy, s State, f Failure) (State, Decision) {
	if f.isConflict() {
		return s, Decision{Verdict: Conflict, Err: f.Err}
	}
	if more, ended := f.idleEnd(); ended {
		return s, Decision{Verdict: Idle, Err: f.Err, Idle: more}
	}
	err, class := f.explained(), ClassError
	switch {
	case f.handlerAtFault():
		class, err = p.classOf(err)
		switch class {
		case ClassConflict:
			return s, Decision{Verdict: Conflict, Class: class, Err: err}
		case ClassDatabase, ClassShutdown:
			return s, f.away(class, err)
		default:
		}
	default:
		if !f.connectionLoss() {
			return s, Decision{Verdict: Database, Err: err}
		}
		if s.lossPosition != f.Position {
			s.lossPosition, s.losses = f.Position, 0
		}
		if s.losses++; s.losses < lossesMost {
			return s, Decision{Verdict: Database, Err: err}
		}
		err = fmt.Errorf("the connection was lost %d times while the event was handled: %w", s.losses, err)
	}
	if f.Events > 1 && (f.Whole || f.AtCommit) {
		return s, Decision{Verdict: Smaller, Class: class, Err: err, Size: f.Events / 2, Delay: wishedDelay(err)}
	}
	if s.Position != f.Position {
		s.Position, s.Attempts = f.Position, 0
	}
	s.Attempts++
	d := Decision{Verdict: EventFailed, Class: class, Err: err, Event: f.Handled, Size: max(1, f.Handled)}
	d.Outcome, d.Delay = p.After(s.Attempts, class)
	if wish := wishedDelay(err); wish > 0 && d.Outcome == Retry {
		d.Delay = wish
	}
	return s, d
}

// away is what follows a handler's error that does not count as an attempt, such as that another system cannot be reached. The events before it are to be
// committed without it, since they would be handled again at every attempt.
func (f Failure) away(class Class, err error) Decision {
	d := Decision{Verdict: Database, Class: class, Err: err}
	if f.Handled > 0 && !f.Whole {
		d.Size = f.Handled
		return d
	}
	d.Delay = wishedDelay(err)
	return d
}

// explained says what ended the batch where the server's error does not.
func (f Failure) explained() error {
	if !batchtx.IsIdleEnd(f.Err) {
		return f.Err
	}
	return fmt.Errorf("the handler sent no statement for longer than idle_in_transaction_session_timeout (it was given %s), "+
		"so the server ended its transaction; a handler that takes so long for one event should do that work elsewhere: %w", f.Idle, f.Err)
}
