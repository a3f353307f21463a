// Package contained calls functions of the application that are an aid to the library: a logger, a tracer, the function that classifies errors. Such a
// function may panic, end its goroutine, or not return. None of that keeps the library from handling events.
package contained

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// Calls bounds the calls of one function. It is safe for concurrent use.
type Calls struct {
	patience time.Duration
	most     int32
	late     atomic.Int32 // calls that have not returned in time, and still have not
}

// NewCalls bounds calls of a function. Each is waited for no longer than patience. While so many of them have not returned, no other is made.
func NewCalls(patience time.Duration, most int32) *Calls {
	return &Calls{patience: patience, most: most}
}

var (
	errExited = errors.New("it ended its goroutine")
	errStuck  = errors.New("it was not called, since earlier calls have not returned")
)

// Call calls f on a goroutine of its own and returns its result. It returns an error that says why there is no result if f panicked, ended its goroutine, or
// did not return in time, or if f was not called.
func Call[T any](c *Calls, f func() T) (result T, err error) {
	if c.late.Load() >= c.most {
		return result, errStuck
	}
	type ending struct {
		result T
		fault  error
	}
	done := make(chan ending, 1)
	go func() {
		end := ending{fault: errExited}
		defer func() {
			if value := recover(); value != nil {
				end.fault = fmt.Errorf("it panicked: %v\n%s", value, debug.Stack())
			}
			done <- end
		}()
		end.result = f()
		end.fault = nil
	}()
	patience := time.NewTimer(c.patience)
	defer patience.Stop()
	select {
	case end := <-done:
		return end.result, end.fault
	case <-patience.C:
	}
	c.late.Add(1)
	go func() {
		<-done
		c.late.Add(-1)
	}()
	return result, fmt.Errorf("it did not return within %s", c.patience)
}
