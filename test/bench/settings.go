package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings is what the environment asks for.
type settings struct {
	only    []string      // figures; empty means all
	events  int           // in the table
	rounds  int           // of each figure that is compared
	seconds time.Duration // of each figure that is measured over a time
	profile string        // directory; empty for no profiles
	verbose bool
}

// readSettings reads the variables ONLY, EVENTS, ROUNDS, SECONDS, PROFILE and VERBOSE.
func readSettings(lookup func(string) string) (settings, error) {
	s := settings{events: 1_000_000, rounds: 5, seconds: 20 * time.Second, profile: lookup("PROFILE")}
	for name := range strings.FieldsFuncSeq(lookup("ONLY"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.Contains(mainFigures(), name) {
			return s, fmt.Errorf("ONLY names %q; there are %s", name, strings.Join(mainFigures(), ", "))
		}
		s.only = append(s.only, name)
	}
	seconds := int(s.seconds / time.Second)
	for _, number := range []struct {
		name  string
		field *int
		least int
	}{{"EVENTS", &s.events, 10_000}, {"ROUNDS", &s.rounds, 1}, {"SECONDS", &seconds, 1}} {
		text := lookup(number.name)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < number.least {
			return s, fmt.Errorf("%s must be a number of at least %d, got %q", number.name, number.least, text)
		}
		*number.field = n
	}
	s.seconds = time.Duration(seconds) * time.Second
	if text := lookup("VERBOSE"); text != "" {
		var err error
		if s.verbose, err = strconv.ParseBool(text); err != nil {
			return s, fmt.Errorf("VERBOSE must be 0 or 1, got %q", text)
		}
	}
	return s, nil
}

// wants says whether the figure was asked for.
func (s settings) wants(name string) bool { return len(s.only) == 0 || slices.Contains(s.only, name) }

// wantsAny says whether one of the figures was asked for.
func (s settings) wantsAny(names []string) bool { return slices.ContainsFunc(names, s.wants) }
