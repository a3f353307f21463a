package handling

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// mostWrapped bounds how many errors one may wrap, in a tree.
const mostWrapped = 10_000

// sound returns err, which a handler returned or panicked with, if its methods can be called. Otherwise it returns another error in its place.
func sound(err error) error {
	if err == nil {
		return nil // which costs nothing
	}
	return checked(err)
}

// checked is sound for an error. What follows a failure is decided by calling the error's methods, without a guard. If one of them panics, as those of a nil
// pointer may, checked returns a [*PanicError]. It also replaces an error that wraps itself, because a search in it would not end, and one that claims to be
// whatever it is compared with.
func checked(err error) (safe error) {
	defer func() {
		if value := recover(); value != nil {
			safe = &PanicError{Value: fmt.Errorf("a method of its error, of type %T, panicked: %v", err, value), Stack: debug.Stack()}
		}
	}()
	if left := mostWrapped; !ends(err, &left) {
		return fmt.Errorf("the handler returned an error of type %T that wraps itself, or more than %d others", err, mostWrapped)
	}
	text := err.Error()
	if _, claims := errors.AsType[*probe](err); claims || errors.Is(err, errProbe) {
		return fmt.Errorf("%s (a method Is or As of it says yes to whatever it is asked, so it counts as an ordinary error)", text)
	}
	rehearse(err)
	return err
}

// rehearse calls everything that is later called on a handler's error. An error may wrap a nil pointer on which only some of these calls panic.
func rehearse(err error) {
	Decide(Policy{}, State{}, Failure{Err: err, Lost: true, Events: 1})
	DefaultClass(err)
	wishedDelay(err)
	kindOf(err)
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
