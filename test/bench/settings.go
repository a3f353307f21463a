package main

import (
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// settings is what the environment asks for.
type settings struct {
	only    measure.Only  // figures
	events  int           // in the table
	rounds  int           // of each figure that is compared
	seconds time.Duration // of each figure that is measured over a time
	profile string        // directory; empty for no profiles
	verbose bool
}

// readSettings reads the variables ONLY, EVENTS, ROUNDS, SECONDS, PROFILE and VERBOSE.
func readSettings(lookup func(string) string) (settings, error) {
	s := settings{events: 1_000_000, rounds: 5, seconds: 20 * time.Second, profile: lookup("PROFILE")}
	env := measure.Environment{Lookup: lookup}
	s.only = env.Names("ONLY", mainFigures())
	env.Int("EVENTS", &s.events, 10_000)
	env.Int("ROUNDS", &s.rounds, 1)
	seconds := int(s.seconds / time.Second)
	env.Int("SECONDS", &seconds, 1)
	s.seconds = time.Duration(seconds) * time.Second
	env.Bool("VERBOSE", &s.verbose)
	return s, env.Err()
}

// wants says whether the figure was asked for.
func (s settings) wants(name string) bool { return s.only.Wants(name) }

// wantsAny says whether one of the figures was asked for.
func (s settings) wantsAny(names []string) bool { return s.only.Wants(names...) }
