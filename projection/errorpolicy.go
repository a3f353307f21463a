package projection

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// ErrorPolicy says what becomes of an event that the projection's handler fails on. The zero value retries it for ever, with the backoff of
// orchestrator.WithRetryBackoff, while the event's partition of the projection waits: nothing is lost and nothing is out of order.
//
// The first of these that is set applies: orchestrator.WithErrorPolicyFor, the projection's own (see [ErrorPolicied]), and
// orchestrator.WithErrorPolicy. Run returns an error that names the field of a policy that breaks its rule. docs/errors.md explains when to use which.
// The manual runner, PostgresProcessor, takes the same policies, see ProcessorConfig.ErrorPolicy. Without any, its Run returns an error when a handler fails.
type ErrorPolicy struct {
	// Attempts is how many failed attempts at one event lead to Then. Only errors of the handler itself and timeouts count: see
	// [Class]. They are counted over restarts. 0 means that the event is retried for ever, unless its error is permanent. It must not be negative.
	Attempts int

	// First and Max are the delay after the first failed attempt, which doubles up to Max. 0 means that of orchestrator.WithRetryBackoff. First must not be above
	// Max. Each must be 0 or between 1ms and 24h.
	First, Max time.Duration

	// Timeout bounds each call of Handle or HandleBatch: its context ends then, with a cause that says so, and the call counts as a failed attempt if it
	// returns an error. A handler that does not heed its context goes on: it is logged as one that does not return. 0 means no
	// timeout. It must be 0 or between 1ms and 24h.
	Timeout time.Duration

	// Then is what follows after so many attempts, or after an error that is permanent. Defaults to Stop. It has no effect where Attempts is 0, Then is Stop and
	// Classify is nil: that retries for ever, whatever the error is.
	Then Outcome

	// MaxParked is how many aggregates of the projection may be parked; what would park another one stops instead. 0 means 1024. It must be at most 1048576.
	MaxParked int

	// MaxParkedEvents is how many dead letters one parked aggregate may have. Beyond that the projection stops at the aggregate's next
	// event. 0 means 1024. It must be at most 1048576.
	MaxParkedEvents int

	// Classify finds the class of a handler's error. Nil means DefaultClass. It is not asked about failures that the library knows the cause of: a
	// conflict that aborted the transaction, a lost connection, or a stop. If it panics, or returns a class that does not exist, DefaultClass is used.
	// It must return quickly, and may be called by several goroutines at once.
	Classify func(error) Class
}

// Outcome is what becomes of an event that could not be handled.
type Outcome int

const (
	// Stop stops the projection at the event, for the slots of its partition, until an operator decides. The stop is stored: restarts and other numbers of
	// partitions do not undo it. Other partitions and projections go on.
	Stop Outcome = iota
	// Skip leaves the event out: the projection goes on with the next. The event stays in orchestrator_dead_letters with the state skipped.
	Skip
	// Park puts the event and all later events of its aggregate aside, in order, until an operator retries or discards them. Other
	// aggregates go on. A projection that is unpartitioned promises one order across aggregates, so it cannot park.
	Park
)

// String is the outcome in a word.
func (o Outcome) String() string { return handling.FromPublic(o).String() }

// Class is what kind of failure an error is.
type Class int

const (
	// ClassError is an error of the handler itself. It counts as an attempt.
	ClassError Class = iota
	// ClassTimeout is a call that took longer than ErrorPolicy.Timeout. It counts as an attempt.
	ClassTimeout
	// ClassPermanent is an error that no repetition ends. ErrorPolicy.Then follows at once.
	ClassPermanent
	// ClassConflict is a concurrent transaction that was in the way: a deadlock, a serialization failure or a lock that could not be had. It does not
	// count as an attempt, and is retried with a backoff.
	ClassConflict
	// ClassDatabase is a database that could not be reached, or a connection to it that was lost. It does not count as an attempt, and is retried with a backoff.
	ClassDatabase
	// ClassShutdown is a handler that gave up because its worker stops. It does not count as an attempt.
	ClassShutdown
)

// String is the class in a word.
func (c Class) String() string { return handling.Class(c).String() }

// DefaultClass is the class of an error where ErrorPolicy.Classify is nil. It is ClassConflict for the SQLSTATEs 40001, 40P01 and 55P03, ClassPermanent for
// [Permanent], ClassTimeout for a call that took longer than its timeout, ClassDatabase where the driver could not connect or lost its
// connection, ClassShutdown for the cause of a context that ended with the worker, and ClassError for everything else.
func DefaultClass(err error) Class { return Class(handling.DefaultClass(err)) }

// ErrorPolicied is a Projection with an error policy of its own.
type ErrorPolicied interface {
	// ErrorPolicy is the projection's policy. It is asked once, when the projection is run.
	ErrorPolicy() ErrorPolicy
}

// Permanent marks a handler's error as one that no repetition ends, so that ErrorPolicy.Then follows at once. errors.Is and errors.As
// find err in it. Permanent(nil) is nil.
func Permanent(err error) error { return handling.Permanent(err) }

// RetryAfter marks a handler's error with the delay before the next attempt, in place of the policy's backoff. The attempt counts like any other. A delay of 0 or less
// leaves the backoff; one of more than 24h is 24h. errors.Is and errors.As find err in it. RetryAfter(d, nil) is nil.
func RetryAfter(d time.Duration, err error) error { return handling.RetryAfter(d, err) }
