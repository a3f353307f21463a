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
	only        []string // figures; empty means all
	seed        uint64
	repetitions int  // 0 means each scenario's own
	pollOnly    bool // workers without sessions of their own
	verbose     bool // a line for each repetition
}

// readSettings reads the variables ONLY, SEED, REPETITIONS, POLLONLY and VERBOSE. A seed that is not given is drawn from now.
func readSettings(lookup func(string) string, now time.Time) (settings, error) {
	s := settings{seed: uint64(now.UnixNano())}
	for name := range strings.FieldsFuncSeq(lookup("ONLY"), func(r rune) bool { return r == ',' || r == ' ' }) {
		if !slices.ContainsFunc(catalogue, func(d definition) bool { return d.name == name && d.of == "" }) {
			return s, fmt.Errorf("ONLY names %q; there are %s", name, strings.Join(mainFigures(), ", "))
		}
		s.only = append(s.only, name)
	}
	var err error
	if text := lookup("SEED"); text != "" {
		if s.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			return s, fmt.Errorf("SEED must be a number that is not negative, got %q", text)
		}
	}
	if text := lookup("REPETITIONS"); text != "" {
		if s.repetitions, err = strconv.Atoi(text); err != nil || s.repetitions < 1 {
			return s, fmt.Errorf("REPETITIONS must be a number above 0, got %q", text)
		}
	}
	for _, flag := range []struct {
		name  string
		field *bool
	}{{"POLLONLY", &s.pollOnly}, {"VERBOSE", &s.verbose}} {
		text := lookup(flag.name)
		if text == "" {
			continue
		}
		if *flag.field, err = strconv.ParseBool(text); err != nil {
			return s, fmt.Errorf("%s must be 0 or 1, got %q", flag.name, text)
		}
	}
	return s, nil
}

// wants says whether the figure, or the figure that it belongs to, was asked for.
func (s settings) wants(d definition) bool {
	return len(s.only) == 0 || slices.Contains(s.only, d.name) || slices.Contains(s.only, d.of)
}

// wantsAny says whether one of the figures was asked for.
func (s settings) wantsAny(names []string) bool {
	return slices.ContainsFunc(catalogue, func(d definition) bool { return slices.Contains(names, d.name) && s.wants(d) })
}
