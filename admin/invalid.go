package admin

import (
	"errors"
	"fmt"
)

// ErrInvalid means that an argument is wrong. The database was not asked.
var ErrInvalid = errors.New("an argument is wrong")

// invalid is an error that wraps ErrInvalid, and does not say so.
type invalid struct{ error }

func wrong(format string, args ...any) error { return invalid{fmt.Errorf(format, args...)} }

// Is says that the error is ErrInvalid.
func (i invalid) Is(target error) bool { return target == ErrInvalid }

// Unwrap is the error as it is told.
func (i invalid) Unwrap() error { return i.error }
