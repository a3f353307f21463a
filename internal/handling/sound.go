package handling

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// mostWrapped bounds how many errors one may wrap, in a tree.
const mostWrapped = 10_000

// sound is what a handler has returned, or panicked with, or an error in its place whose methods can be called.
func sound(err error) error {
	if err == nil {
		return nil // which costs nothing
	}
	return checked(err)
}

// checked is an error whose methods can be called. Whoever decides what follows a failure calls them without a guard, again and again. If one of err's panics, as the
// methods of a nil pointer may that is returned as an error, it is a [*PanicError]. An error that wraps itself is replaced too, since a search in it would not end.
func checked(err error) (safe error) {
	defer func() {
		if value := recover(); value != nil {
			safe = &PanicError{Value: fmt.Errorf("a method of its error, of type %T, panicked: %v", err, value), Stack: debug.Stack()}
		}
	}()
	if left := mostWrapped; !ends(err, &left) {
		return fmt.Errorf("the handler returned an error of type %T that wraps itself, or more than %d others", err, mostWrapped)
	}
	_ = err.Error()
	_ = errors.Is(err, errProbe)
	_, _ = errors.AsType[*probe](err)
	return err
}

// ends says whether an error wraps only so many others.
func ends(err error, left *int) bool {
	if *left--; *left < 0 {
		return false
	}
	if one, is := err.(interface{ Unwrap() error }); is {
		inner := one.Unwrap()
		return inner == nil || ends(inner, left)
	}
	if several, is := err.(interface{ Unwrap() []error }); is {
		for _, inner := range several.Unwrap() {
			if inner != nil && !ends(inner, left) {
				return false
			}
		}
	}
	return true
}

// probe is an error that no handler returns.
type probe struct{}

// Error says what it is.
func (*probe) Error() string { return "a probe" }

var errProbe error = &probe{}
