package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
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
	goal float64 // its p99 is to be at most this; NaN if no goal is stated
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
	{"first-worker", "", "first worker: Run to first event", unitMS, 250},
	{"join", "", "a worker joins 3: Run to its first event", unitMS, 300},
	{"join-pause", "", "longest pause of the 3 others", unitMS, 100},
	{"leave-pause", "", "one of 4 leaves: longest pause of the others", unitMS, 100},
	{"leave-return", "", "SIGTERM until the leaver's Run has returned", unitMS, 300},
	{"kill", "", "SIGKILL of one of 4 until all is handled again", unitMS, 1000},
	{"kill-detected", "kill", "  until it was declared dead", unitMS, none},
	{"kill-leader", "kill", "  where it led", unitMS, none},
	{"kill-follower", "kill", "  where it followed", unitMS, none},
	{"freeze", "", "SIGSTOP of one of 4 until all is handled again", unitMS, ms(freezeStale + time.Second)},
	{"freeze-in-batch", "freeze", "  where it held row locks in a batch", unitMS, none},
	{"freeze-outside", "freeze", "  where it was anywhere", unitMS, none},
	{"freeze-rows", "freeze", "  rows that it changed after SIGCONT", unitRows, 0},
	{"freeze-rejoin", "freeze", "  SIGCONT until it handles events again", unitMS, none},
	{"host-gone", "", "a host vanishes until all is handled again", unitMS, ms(defaultStale + time.Second)},
	{"host-gone-rows", "host-gone", "  rows that it changed when it was back", unitRows, 0},
	{"host-gone-rejoin", "host-gone", "  back until it handles events again", unitMS, none},
	{"host-vanished", "", "a host's link goes down until all is handled again", unitMS, 6000},
	{"host-vanished-rows", "host-vanished", "  rows that it changed when it was back", unitRows, 0},
	{"host-vanished-rejoin", "host-vanished", "  back until it handles events again", unitMS, none},
	{"db-restart", "", "database accepts until all is handled again", unitMS, 3000},
	{"db-restart-generations", "db-restart", "  new generations for 8 workers", unitGenerations, 2},
	{"burst", "", "ten workers within a second: generations", unitGenerations, 4},
	{"burst-settled", "burst", "  last one's start until all handle events", unitMS, none},
	{"rolling", "", "rolling restart of ten: others' summed pause", unitMS, 2000},
	{"rolling-generations", "rolling", "  generations", unitGenerations, none},
	{"rolling-took", "rolling", "  from the first SIGTERM until all handle events", unitMS, none},
	{"many", "", "32 workers, 50 more sets: SIGKILL of one until all is handled again", unitMS, 1000},
	{"many-detected", "many", "  until it was declared dead", unitMS, none},
	{"many-leader", "many", "  statements of the idle leader", unitStatements, 5},
	{"many-worker", "many", "  statements of any other idle worker", unitStatements, 2},
	{"many-single", "many", "  statements of an idle worker alone in its set", unitStatements, 5},
	{"many-connections", "many", "  connections of a worker with a pool of 4", unitConnections, 5},
}

// ms is a duration in milliseconds.
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

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
func (r *report) addTime(name string, d time.Duration) { r.add(name, ms(d)) }

// percentile is the least of the values that p percent of them do not exceed (the nearest rank); NaN without values.
func percentile(values []float64, p float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

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
			all = append(all, summary{d, percentile(values, 50), percentile(values, 99), slices.Max(values), len(values)})
		}
	}
	return all
}

// verdict says whether the goal is met; empty without one.
func (s summary) verdict() string {
	switch {
	case math.IsNaN(s.goal):
		return ""
	case s.p99 <= s.goal:
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
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "figure\twhat\tp50\tp99\tworst\tn\tunit\tgoal\tmet")
	for _, s := range all {
		goal := ""
		if !math.IsNaN(s.goal) {
			goal = fmt.Sprintf("≤ %g", s.goal)
		}
		fmt.Fprintf(table, "%s\t%s\t%.1f\t%.1f\t%.1f\t%d\t%s\t%s\t%s\n", s.name, strings.TrimRight(s.what, " "), s.p50, s.p99, s.worst, s.n, s.unit, goal, s.verdict())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, s := range all {
		if _, err := fmt.Fprintln(w, s.line()); err != nil {
			return err
		}
	}
	return nil
}
