package handling

import (
	"errors"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/contained"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// Class is what kind of failure an error is. Package projection has the same numbers.
type Class int

// The classes. Failures of ClassError and ClassTimeout count as attempts, ClassPermanent leads to the policy's outcome at once, and the
// others are retried without counting.
const (
	ClassError Class = iota
	ClassTimeout
	ClassPermanent
	ClassConflict
	ClassDatabase
	ClassShutdown
)

// String is the class in a word, for logs and tables.
func (c Class) String() string {
	switch c {
	case ClassTimeout:
		return "timeout"
	case ClassPermanent:
		return "permanent"
	case ClassConflict:
		return "conflict"
	case ClassDatabase:
		return "database"
	case ClassShutdown:
		return "shutdown"
	default:
		return "error"
	}
}

// DefaultClass is the class of an error by itself: see projection.DefaultClass.
func DefaultClass(err error) Class {
	if _, ok := errors.AsType[StopError](err); ok {
		return ClassShutdown
	}
	_, timeout := asTimeout(err)
	_, permanent := errors.AsType[*permanentError](err)
	switch {
	case batchtx.IsConflict(err):
		return ClassConflict
	case permanent:
		return ClassPermanent
	case timeout:
		return ClassTimeout
	case dbfault.IsDatabaseLost(err):
		return ClassDatabase
	}
	return ClassError
}

// StopError is the cause with which a handler's context ends when its caller stops.
type StopError string

// Error says why the caller stops.
func (e StopError) Error() string { return string(e) }

// permanentError marks an error that no repetition ends.
type permanentError struct{ error }

// Unwrap is the error that was marked.
func (e *permanentError) Unwrap() error { return e.error }

// Permanent marks err as one that no repetition ends; nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

// retryError carries the delay before the next attempt.
type retryError struct {
	error
	after time.Duration
}

// Unwrap is the error that was marked.
func (e *retryError) Unwrap() error { return e.error }

// RetryAfter marks err with the delay before the next attempt; nil stays nil.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return &retryError{err, d}
}

// longestRetry bounds what RetryAfter may ask for.
const longestRetry = 24 * time.Hour

// wishedDelay is the delay that a handler asked for; 0 if it did not.
func wishedDelay(err error) time.Duration {
	wish, ok := errors.AsType[*retryError](err)
	if !ok {
		return 0
	}
	return min(max(wish.after, 0), longestRetry)
}

const (
	// classifyPatience is how long a policy's Classify is waited for. The partition of the projection does nothing else meanwhile, and cannot stop.
	classifyPatience = 2 * time.Second
	// classifyMost is how many calls of it may be left behind, each with its goroutine.
	classifyMost = 16
)

// classify calls a policy's Classify. One that panics, ends its goroutine or does not return in time is replaced by DefaultClass, and the error says so. So
// is one that returns a class that does not exist.
func (p Policy) classify(err error) (class Class, explained error) {
	if p.Classify == nil {
		return DefaultClass(err), err
	}
	calls := p.classifying
	if calls == nil {
		calls = contained.NewCalls(classifyPatience, classifyMost)
	}
	class, fault := contained.Call(calls, func() Class { return p.Classify(err) })
	if fault == nil && (class < ClassError || class > ClassShutdown) {
		fault = fmt.Errorf("it returned the class %d, which does not exist", int(class))
	}
	if fault == nil {
		return class, err
	}
	return DefaultClass(err), fmt.Errorf("%w (the error policy's Classify could not be used, and DefaultClass was: %s)", err, fault.Error())
}
