package handling

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// Description is what a projection says about itself.
type Description struct {
	// Projection is what is to be run, with the optional interfaces of what it wraps.
	Projection Projection
	// Name is its name.
	Name string
	// Scope is the events that it wants.
	Scope Scope
	// Unpartitioned says that it must not be divided.
	Unpartitioned bool
	// Resettable says that it can empty its read model.
	Resettable bool
	// Replaces is the projection that it is to replace; empty if it is to replace none.
	Replaces string
	// Policy says what follows when an event has failed. Describe leaves it at the zero value: it depends on options too.
	Policy Policy
}

// maxNameLength is the most bytes that a projection's name may have.
const maxNameLength = 255

// NameError says that a projection's name cannot be stored. [Describe] returns it, wrapped.
type NameError struct{ Name string }

// Error is the rule, and how the name begins.
func (e *NameError) Error() string {
	return fmt.Sprintf("must have between 1 and %d bytes of valid UTF-8 without NUL, got %.40q", maxNameLength, e.Name)
}

// isName says whether a projection may have the name.
func isName(name string) bool {
	return name != "" && len(name) <= maxNameLength && utf8.ValidString(name) && !strings.ContainsRune(name, 0)
}

// Describe asks a projection for its name and everything else that its methods say. W is the type of wrappers,
// projection.Wrapper, and E is projection.ErrorPolicied. Describe returns an error for a nil projection, for an optional
// interface that would be ignored (see resolve), for a panic in one of the methods, for a name that does not have
// between 1 and 255 bytes of valid UTF-8 without NUL, and for a scope that is not valid UTF-8 without NUL. A nil pointer
// is an error only if its methods panic.
func Describe[W Wrapper[P], E any, P Projection](p P) (d Description, err error) {
	if any(p) == nil {
		return Description{}, errors.New("it is nil")
	}
	defer func() {
		if value := recover(); value != nil {
			d, err = Description{}, fmt.Errorf("describing itself it panicked: %v", value)
			if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer && v.IsNil() {
				err = fmt.Errorf("it is a nil %T", p)
			}
		}
	}()
	if d.Projection, err = resolve[W, E](p); err != nil {
		return Description{}, err
	}
	d.Scope, d.Name, d.Unpartitioned = scopeOf(d.Projection), d.Projection.Name(), isUnpartitioned(d.Projection)
	d.Resettable, d.Replaces = IsResettable(d.Projection), replacedBy(d.Projection)
	if !isName(d.Name) {
		return Description{}, fmt.Errorf("its name %w", &NameError{Name: d.Name})
	}
	switch {
	case d.Replaces == d.Name:
		return Description{}, fmt.Errorf("its Replaces must name another projection than itself, got %q", d.Replaces)
	case d.Replaces != "" && !isName(d.Replaces):
		return Description{}, fmt.Errorf("the name that its Replaces returns %s", (&NameError{Name: d.Replaces}).Error())
	}
	for field, values := range map[string][]string{"AggregateTypes": d.Scope.AggregateTypes, "BoundedContexts": d.Scope.BoundedContexts} {
		for _, value := range values {
			if !utf8.ValidString(value) || strings.ContainsRune(value, 0) {
				return Description{}, fmt.Errorf("its %s must be valid UTF-8 without NUL, got %.40q", field, value)
			}
		}
	}
	return d, nil
}
