package projection

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// ErrorPolicy says what happens to an event that the projection's handler fails on. The zero value retries the event
// forever, with the backoff of orchestrator.WithRetryBackoff. The event's partition of the projection waits, so nothing
// is lost and nothing is out of order.
//
// The first of these that is set applies: orchestrator.WithErrorPolicyFor, the projection's own policy (see
// [ErrorPolicied]), orchestrator.WithErrorPolicy. If a policy breaks a rule, Run returns an error that names the field.
// docs/errors.md explains when to use which policy.
//
// The manual runner, [PostgresProcessor], takes the same policies (see ProcessorConfig.ErrorPolicy). Without a policy,
// its Run returns an error when a handler fails.
type ErrorPolicy struct {
	// Attempts is how many failed attempts at one event lead to Then. Only errors of the handler itself and timeouts
	// count (see [Class]). The count survives restarts. 0 retries the event forever, unless its error is permanent. It
	// must not be negative.
	Attempts int

	// First is the delay after the first failed attempt. Later delays double, up to Max. 0 means the delay of
	// orchestrator.WithRetryBackoff. First must not be above Max. Each must be 0 or between 1ms and 24h.
	First, Max time.Duration

	// Timeout bounds each call of Handle or HandleBatch. When it passes, the call's context ends with a cause that says
	// so. The call counts as a failed attempt if it returns an error. A handler that ignores its context keeps running,
	// and is logged as one that does not return. 0 means no timeout. It must be 0 or between 1ms and 24h.
	Timeout time.Duration

	// Then is the outcome after the last attempt, or after a permanent error. Defaults to Stop. If Attempts is 0, Then
	// is Stop and Classify is nil, the event is retried forever, whatever the error is.
	Then Outcome

	// MaxParked is how many aggregates of the projection may be parked. At the limit, an event that would park another
	// aggregate stops the projection instead. 0 means 1024. It must be at most 1048576.
	MaxParked int

	// MaxParkedEvents is how many dead letters one parked aggregate may have. At the limit, the projection stops at the
	// aggregate's next event. 0 means 1024. It must be at most 1048576.
	MaxParkedEvents int

	// Classify returns the class of a handler's error. Nil means DefaultClass. It is not called for failures whose cause
	// the library knows: a conflict that aborted the transaction, a lost connection, or a stop. If it panics, takes
	// longer than 2s, or returns a class that does not exist, DefaultClass is used, and the error's text says so. It must
	// return quickly. Several goroutines may call it at once.
	Classify func(error) Class
}

// Outcome is what happens to an event that could not be handled.
type Outcome int

const (
	// Stop stops the projection at the event, for the slots of its partition, until an operator decides. The stop is
	// stored, so neither a restart nor another number of partitions undoes it. Other partitions and projections
	// continue.
	Stop Outcome = iota
	// Skip skips the event, and the projection continues with the next one. The event stays in orchestrator_dead_letters
	// with the state skipped.
	Skip
	// Park sets the event and all later events of its aggregate aside, in order, until an operator retries or discards
	// them. Other aggregates continue. An unpartitioned projection promises one order across aggregates, so it cannot
	// park.
	Park
)

// String returns the outcome as one word.
func (o Outcome) String() string { return handling.FromPublic(o).String() }

// Class is the kind of failure that an error is.
type Class int

const (
	// ClassError is an error of the handler itself. It counts as an attempt.
	ClassError Class = iota
	// ClassTimeout is a call that took longer than ErrorPolicy.Timeout. It counts as an attempt.
	ClassTimeout
	// ClassPermanent is an error that a retry cannot fix. ErrorPolicy.Then applies at once.
	ClassPermanent
	// ClassConflict is a conflict with a concurrent transaction: a deadlock, a serialization failure, or a lock that
	// could not be acquired. It does not count as an attempt, and is retried with a backoff.
	ClassConflict
	// ClassDatabase is a database that could not be reached, a lost connection to it, a server whose disk is full or
	// broken, or a prepared statement that an ALTER TABLE has outdated. It does not count as an attempt, and is retried
	// with a backoff.
	ClassDatabase
	// ClassShutdown is a handler that gave up because its worker is stopping. It does not count as an attempt.
	ClassShutdown
)

// String returns the class as one word.
func (c Class) String() string { return handling.Class(c).String() }

// DefaultClass returns the class of an error. It is used if ErrorPolicy.Classify is nil. The class is ClassConflict for
// the SQLSTATEs 40001, 40P01 and 55P03, ClassPermanent for an error marked by [Permanent], ClassTimeout for a call that
// exceeded its timeout, ClassDatabase if the driver could not connect or lost its connection, for the SQLSTATEs 53100
// (disk full) and 58030 (I/O error), and if an ALTER TABLE has outdated a prepared statement ("cached plan must not
// change result type"), ClassShutdown for the cause of a context that ended with the worker, and ClassError for
// everything else.
func DefaultClass(err error) Class { return Class(handling.DefaultClass(err)) }

// ErrorPolicied is a Projection with an error policy of its own.
type ErrorPolicied interface {
	// ErrorPolicy returns the projection's policy. It is called once, when the projection is run.
	ErrorPolicy() ErrorPolicy
}

// Permanent marks a handler's error as one that a retry cannot fix, so that ErrorPolicy.Then applies at once. errors.Is
// and errors.As find err in it. Permanent(nil) is nil.
func Permanent(err error) error { return handling.Permanent(err) }

// RetryAfter marks a handler's error with the delay before the next attempt. It replaces the policy's backoff, and the
// backoff of ClassDatabase. The attempt counts as any other of the error's class does. With a delay of 0 or less the
// backoff applies. A delay of more than 24h becomes 24h. errors.Is and errors.As find err in it. RetryAfter(d, nil) is
// nil.
func RetryAfter(d time.Duration, err error) error { return handling.RetryAfter(d, err) }
