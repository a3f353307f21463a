package main

import (
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// settings is what the environment asks for.
type settings struct {
	only        measure.Only // figures
	seed        uint64
	repetitions int  // 0 means each scenario's own
	pollOnly    bool // workers without sessions of their own
	verbose     bool // a line for each repetition
}

// readSettings reads the variables ONLY, SEED, REPETITIONS, POLLONLY and VERBOSE. A seed that is not given is drawn from now.
func readSettings(lookup func(string) string, now time.Time) (settings, error) {
	s := settings{seed: uint64(now.UnixNano())}
	env := measure.Environment{Lookup: lookup}
	s.only = env.Names("ONLY", mainFigures())
	env.Seed("SEED", &s.seed)
	env.Int("REPETITIONS", &s.repetitions, 1)
	env.Bool("POLLONLY", &s.pollOnly)
	env.Bool("VERBOSE", &s.verbose)
	return s, env.Err()
}

// wants says whether the figure, or the figure that it belongs to, was asked for.
func (s settings) wants(d definition) bool {
	return s.only.Wants(d.name, d.of)
}

// wantsAny says whether one of the figures was asked for.
func (s settings) wantsAny(names []string) bool {
	return slices.ContainsFunc(catalogue, func(d definition) bool { return slices.Contains(names, d.name) && s.wants(d) })
}
