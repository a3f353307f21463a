// Package measure has what the benchmarks share: settings from the environment, statistics, and the table of figures.
package measure

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Environment reads settings from the environment. A variable that is not set leaves the value as it is, and the first that is wrong
// is what [Environment.Err] returns.
type Environment struct {
	Lookup func(string) string // os.Getenv
	err    error
}

// Err names the first variable that was wrong, and what it may be.
func (e *Environment) Err() error { return e.err }

func (e *Environment) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

// Names returns what a list with commas names of what is known. The first parts of names, up to a slash, name all that begin so.
func (e *Environment) Names(variable string, known []string) (names []string) {
	for text := range strings.FieldsFuncSeq(e.Lookup(variable), func(r rune) bool { return r == ',' || r == ' ' }) {
		found := false
		for _, name := range known {
			if name == text || strings.HasPrefix(name, text+"/") {
				names, found = append(names, name), true
			}
		}
		if !found {
			e.fail("%s names %q; there are %s", variable, text, strings.Join(known, ", "))
		}
	}
	return names
}

// Int reads a number that is no smaller than least.
func (e *Environment) Int(variable string, value *int, least int) {
	if text := e.Lookup(variable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			e.fail("%s must be a number of at least %d, got %q", variable, least, text)
		}
		*value = n
	}
}

// Seed reads a number of 64 bits.
func (e *Environment) Seed(variable string, value *uint64) {
	if text := e.Lookup(variable); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			e.fail("%s must be a number that is not negative, got %q", variable, text)
		}
		*value = n
	}
}

// Bool reads 0 or 1.
func (e *Environment) Bool(variable string, value *bool) {
	if text := e.Lookup(variable); text != "" {
		yes, err := strconv.ParseBool(text)
		if err != nil {
			e.fail("%s must be 0 or 1, got %q", variable, text)
		}
		*value = yes
	}
}

// Only are the names that were asked for; none means all.
type Only []string

// Wants says whether one of the names was asked for.
func (o Only) Wants(names ...string) bool {
	return len(o) == 0 || slices.ContainsFunc(names, func(name string) bool { return slices.Contains(o, name) })
}
