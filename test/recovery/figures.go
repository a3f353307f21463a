package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// Units of figures.
const (
	unitMS          = "ms"
	unitGenerations = "generations"
	unitStatements  = "statements/s"
	unitConnections = "connections"
	unitRows        = "rows"
)

// definition is a figure: what it measures and what it is to be.
type definition struct {
	name string
	of   string // the figure that it adds detail to; empty for one of its own
	what string
	unit string
	goal float64 // its p99 is to be at most this, or its median if it has typical; NaN if no goal is stated

	typical bool // the goal is the median's
}

// none is the goal of a figure without one.
var none = math.NaN()

// The freezes' stale timeout, so that ten of them do not take long. The heartbeat must fit in three times.
const (
	freezeStale     = 2 * time.Second
	freezeHeartbeat = 500 * time.Millisecond
)

// defaultStale is the library's default stale timeout, which bounds what only a heartbeat tells.
const defaultStale = 30 * time.Second

// catalogue is all figures, in the order in which they are shown. doc.go says exactly what each measures.
var catalogue = []definition{
	{"first-worker", "", "first worker: Run to first event", unitMS, 250, false},
	{"join", "", "a worker joins 3: Run to its first event", unitMS, 300, false},
	{"join-pause", "", "longest pause of the 3 others", unitMS, 100, false},
	{"leave-pause", "", "one of 4 leaves: longest pause of the others", unitMS, 100, false},
	{"leave-return", "", "SIGTERM until the leaver's Run has returned", unitMS, 300, false},
	{"kill", "", "SIGKILL of one of 4 until all is handled again", unitMS, 1000, false},
	{"kill-detected", "kill", "  until it was declared dead", unitMS, none, false},
	{"kill-leader", "kill", "  where it led", unitMS, none, false},
	{"kill-follower", "kill", "  where it followed", unitMS, none, false},
	{"freeze", "", "SIGSTOP of one of 4 until all is handled again", unitMS, measure.Milliseconds(freezeStale + time.Second), false},
	{"freeze-in-batch", "freeze", "  where it held row locks in a batch", unitMS, none, false},
	{"freeze-outside", "freeze", "  where it was anywhere", unitMS, none, false},
	{"freeze-rows", "freeze", "  rows that it changed after SIGCONT", unitRows, 0, false},
	{"freeze-rejoin", "freeze", "  SIGCONT until it handles events again", unitMS, none, false},
	{"host-gone", "", "a host vanishes until all is handled again", unitMS, measure.Milliseconds(defaultStale + time.Second), false},
	{"host-gone-rows", "host-gone", "  rows that it changed when it was back", unitRows, 0, false},
	{"host-gone-rejoin", "host-gone", "  back until it handles events again", unitMS, none, false},
	{"host-vanished", "", "a host's link goes down until all is handled again", unitMS, 6000, false},
	{"host-vanished-rows", "host-vanished", "  rows that it changed when it was back", unitRows, 0, false},
	{"host-vanished-rejoin", "host-vanished", "  back until it handles events again", unitMS, none, false},
	{"db-restart", "", "database accepts until all is handled again", unitMS, 3000, false},
	{"db-restart-generations", "db-restart", "  new generations for 8 workers", unitGenerations, 2, false},
	{"burst", "", "ten workers within a second: generations", unitGenerations, 4, false},
	{"burst-settled", "burst", "  last one's start until all handle events", unitMS, none, false},
	{"rolling", "", "rolling restart of ten: others' summed pause", unitMS, 2000, false},
	{"rolling-generations", "rolling", "  generations", unitGenerations, none, false},
	{"rolling-took", "rolling", "  from the first SIGTERM until all handle events", unitMS, none, false},
	{"many", "", "32 workers, 50 more sets: SIGKILL of one until all is handled again", unitMS, 1000, false},
	{"many-detected", "many", "  until it was declared dead", unitMS, none, false},
	{"many-leader", "many", "  statements of the idle leader", unitStatements, 5, false},
	{"many-worker", "many", "  statements of any other idle worker", unitStatements, 2, false},
	{"many-single", "many", "  statements of an idle worker alone in its set", unitStatements, 5, false},
	{"many-connections", "many", "  connections of a worker with a pool of 4", unitConnections, 5, false},
	{"join/10", "", "a worker joins 10 in one process: Run until all run", unitMS, 200, true},
	{"join/10/pause", "join/10", "  longest pause of the others", unitMS, 100, true},
	{"join/50", "", "a worker joins 50", unitMS, 300, true},
	{"join/50/pause", "join/50", "  longest pause of the others", unitMS, 100, true},
	{"join/100", "", "a worker joins 100", unitMS, 500, true},
	{"join/100/pause", "join/100", "  longest pause of the others", unitMS, 100, true},
}

// mainFigures are the names that ONLY knows.
func mainFigures() []string {
	var names []string
	for _, d := range catalogue {
		if d.of == "" {
			names = append(names, d.name)
		}
	}
	return names
}

// report collects what was measured. Only the goroutine of main uses it.
type report struct {
	values map[string][]float64
}

// add adds a repetition's value to a figure.
func (r *report) add(name string, value float64) {
	if !slices.ContainsFunc(catalogue, func(d definition) bool { return d.name == name }) {
		panic("the catalogue has no figure " + name)
	}
	if r.values == nil {
		r.values = map[string][]float64{}
	}
	r.values[name] = append(r.values[name], value)
}

// addTime adds a repetition's duration to a figure.
func (r *report) addTime(name string, d time.Duration) { r.add(name, measure.Milliseconds(d)) }

// summary is a figure with what was measured.
type summary struct {
	definition
	p50, p99, worst float64
	n               int
}

// summarise makes the summaries of the figures that were asked for and measured. The goals for times are for workers with
// sessions.
func (r *report) summarise(s settings) []summary {
	var all []summary
	for _, d := range catalogue {
		if s.pollOnly && d.unit == unitMS {
			d.goal = none
		}
		if values := r.values[d.name]; len(values) > 0 && s.wants(d) {
			all = append(all, summary{d, measure.Percentile(values, 50), measure.Percentile(values, 99), slices.Max(values), len(values)})
		}
	}
	return all
}

// verdict says whether the goal is met; empty without one.
func (s summary) verdict() string {
	switch {
	case math.IsNaN(s.goal):
		return ""
	case s.typical && s.p50 <= s.goal, !s.typical && s.p99 <= s.goal:
		return "yes"
	}
	return "no"
}

// line is the figure for scripts.
func (s summary) line() string {
	text := fmt.Sprintf("figure %s p50=%.1f p99=%.1f n=%d unit=%s", s.name, s.p50, s.p99, s.n, s.unit)
	if v := s.verdict(); v != "" {
		text += fmt.Sprintf(" goal=%g met=%s", s.goal, v)
	}
	return text
}

// printSummaries prints the table and the lines for scripts.
func printSummaries(w io.Writer, all []summary) error {
	var rows [][]string
	var lines []string
	for _, s := range all {
		goal := ""
		if !math.IsNaN(s.goal) {
			goal = fmt.Sprintf("≤ %g", s.goal)
		}
		rows = append(rows, []string{
			s.name, strings.TrimRight(s.what, " "), one(s.p50), one(s.p99), one(s.worst), strconv.Itoa(s.n), s.unit, goal, s.verdict(),
		})
		lines = append(lines, s.line())
	}
	return measure.Print(w, []string{"figure", "what", "p50", "p99", "worst", "n", "unit", "goal", "met"}, rows, lines)
}

// one is a number with one digit behind the point.
func one(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
