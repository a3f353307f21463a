package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// Units of figures.
const (
	unitEvents     = "events/s"
	unitRows       = "rows/event"
	unitMS         = "ms"
	unitStatements = "statements/s"
	unitPercent    = "%"
	unitMiB        = "MiB"
	unitAllocs     = "allocs/event"
	unitBytes      = "bytes/event"
	unitCost       = "× appends"

	unitMicroseconds = "µs/event"
)

// definition is a figure: what it measures and what it is to be. doc.go says exactly what.
type definition struct {
	name string // the part before a further slash is what ONLY knows, see mainOf
	what string
	unit string
	of   string // what the ratio is to; empty if it is the value itself
	goal goal
}

// goal is what a ratio is to be; the zero value is none.
type goal struct {
	sign  string // "≥" or "≤"
	bound float64
}

func atLeast(bound float64) goal { return goal{"≥", bound} }
func atMost(bound float64) goal  { return goal{"≤", bound} }

// verdict says whether the goal is met; empty without one.
func (g goal) verdict(ratio float64) string {
	switch {
	case g.sign == "":
		return ""
	case g.sign == "≥" && ratio >= g.bound, g.sign == "≤" && ratio <= g.bound:
		return "yes"
	}
	return "no"
}

// allocsGoal is allocations per event: a part of 1,000 events is its records, which is one, its share of the statement, about 5, and one
// for each 64 KiB of values, about 4. A single one for each event, which is what a string or a slice takes, would be 1.
const allocsGoal = 0.02

// catalogue is all figures, in the order in which they are shown.
var catalogue = slices.Concat(mainCatalogue, followDefinitions())

var mainCatalogue = []definition{
	{"raw", "raw reader", unitEvents, "", goal{}},
	{"catchup/1x1", "1 worker, 1 projection", unitEvents, "raw", atLeast(0.9)},
	{"catchup/1x8", "1 worker, 8 projections", unitEvents, "1x1", atLeast(4)},
	{"catchup/1x8/rows", "  rows read", unitRows, "", atMost(1.1)},
	{"catchup/4p/cpu", "4 partitions, handler computes 50 µs", unitEvents, "1 partition", atLeast(1.8)},
	{"catchup/4p/wait", "4 partitions, handler waits 1 ms", unitEvents, "1 partition", atLeast(3.5)},
	{"catchup/4w", "4 workers: rows read by all", unitRows, "", atMost(1.1)},
	{"catchup/4w/speed", "  events handled by all", unitEvents, "raw", goal{}},
	{"catchup/4w/index", "  events handled by all, slot index", unitEvents, "raw", atLeast(0.85)},
	{"catchup/16w", "16 workers: the server's processor time", unitMicroseconds, "1 worker", goal{}},
	{"catchup/16w/index", "  with the slot index", unitMicroseconds, "1 worker", atMost(1.5)},
	{"write/row", "handler inserts a row", unitEvents, "by hand", atLeast(0.8)},
	{"write/sql", "handler inserts a row by database/sql", unitEvents, "by hand, so too", atLeast(0.8)},
	{"write/batch", "handler copies its batch", unitEvents, "by hand", atLeast(0.8)},
	{"contended/4w", "1,000 rows in any order, 4 workers", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/4w/batch", "  HandleBatch", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/2w", "  2 workers", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/2w/batch", "  2 workers, HandleBatch", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/apart/batch", "  4 workers, HandleBatch, no shared rows", unitEvents, "1 worker", goal{}},
	{"contended/4p", "  1 worker, 4 partitions", unitEvents, "1 partition", atLeast(0.7)},
	{"contended/hot", "1 row, 4 workers", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/hot/batch", "  HandleBatch", unitEvents, "1 worker", atLeast(0.7)},
	{"contended/hot/batch/index", "  HandleBatch, slot index", unitEvents, "1 worker", atLeast(0.7)},
	{"parked/row", "1,000 aggregates parked: handler inserts a row", unitEvents, "none parked", atLeast(0.9)},
	{"parked/batch", "  handler copies its batch", unitEvents, "none parked", atLeast(0.9)},
	{"parked/others", "commit to Handle, 500/s, one aggregate poisoned: p99", unitMS, "none poisoned", atMost(1.05)},
	{"metrics/row", "metrics: handler inserts a row", unitEvents, "none collected", atLeast(0.97)},
	{"metrics/batch", "  handler copies its batch", unitEvents, "none collected", atLeast(0.97)},
	{"tracing/row", "no tracer provider: handler inserts a row", unitEvents, "one that does nothing", atLeast(0.97)},
	{"tracing/batch", "  handler copies its batch", unitEvents, "one that does nothing", atLeast(0.97)},
	{"latency/50/trigger", "commit to Handle, 50/s, trigger: p99", unitMS, "", atMost(5)},
	{"latency/50/trigger/p50", "  median", unitMS, "", goal{}},
	{"latency/500/trigger", "commit to Handle, 500/s, trigger: p99", unitMS, "", atMost(5)},
	{"latency/500/trigger/p50", "  median", unitMS, "", goal{}},
	{"latency/50/poll", "commit to Handle, 50/s, polling: p99", unitMS, "", atMost(25)},
	{"latency/50/poll/p50", "  median", unitMS, "", goal{}},
	{"latency/500/poll", "commit to Handle, 500/s, polling: p99", unitMS, "", atMost(25)},
	{"latency/500/poll/p50", "  median", unitMS, "", goal{}},
	{"append/trigger", "8 appending connections, 1 worker", unitEvents, "no trigger", atLeast(0.97)},
	{"append/trigger/opened", "  connections that have appended before", unitEvents, "no trigger", goal{}},
	{"append/trigger/alone", "  without a worker", unitEvents, "no trigger", goal{}},
	{"append/trigger/least", "  a trigger that does the least", unitEvents, "no trigger", goal{}},
	{"append/workers", "8 appending connections, 2 workers", unitEvents, "no worker", atLeast(0.9)},
	{"append/index", "8 appending connections, scope index", unitEvents, "no index", goal{}},
	{"append/index/slots", "  slot index", unitEvents, "no index", atLeast(0.97)},
	{"idle/trigger", "idle, 20 projections", unitStatements, "", atMost(5)},
	{"idle/cpu", "  processor", unitPercent, "", atMost(0.5)},
	{"idle/1", "  with 1 projection", unitStatements, "", goal{}},
	{"idle/growth", "  20 projections", unitStatements, "1 projection", atMost(1.1)},
	{"idle/64p", "  64 partitions", unitStatements, "1 partition", atMost(1.1)},
	{"idle/poll", "idle, 20 projections, polling", unitStatements, "", goal{}},
	{"idle/poll/cpu", "  processor", unitPercent, "", goal{}},
	{sharedPool, "idle, 150 workers with a pool of 60", unitStatements, "a pool of 300", atMost(1.2)},
	{"memory/1x8", "peak memory, 1 worker, 8 projections", unitMiB, "", atMost(100)},
	{"memory/far", "  one projection far behind another", unitMiB, "", atMost(100)},
	{"memory/waiting", "  one projection stuck, events come one by one", unitMiB, "", atMost(100)},
	{"memory/large", "  payloads of 1 MiB", unitMiB, "", atMost(200)},
	{"scoped", "1 % of the events wanted: passed over", unitEvents, "raw", atLeast(10)},
	{"scoped/index", "  with the scope index", unitEvents, "raw", atLeast(10)},
	{"allocs", "reading parts of 1,000", unitAllocs, "", atMost(allocsGoal)},
	{"allocs/bytes", "  memory", unitBytes, "", goal{}},
	{"allocs/speed", "  events", unitEvents, "raw", goal{}},
}

// mainOf is the figure that ONLY knows a figure by: the first part of its name, or the first two of those that begin with
// catchup, write or scoped, and of idle/shared-pool.
func mainOf(name string) string {
	parts := strings.Split(name, "/")
	if name == sharedPool || parts[0] == "catchup" || parts[0] == "write" || parts[0] == "scoped" {
		return strings.Join(parts[:min(2, len(parts))], "/")
	}
	return parts[0]
}

// mainFigures are the names that ONLY knows.
func mainFigures() []string {
	var names []string
	for _, d := range catalogue {
		if name := mainOf(d.name); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, name := range append(followNames(), contendedNames()...) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// report collects what was measured. Only the goroutine of main uses it.
type report struct {
	values, ratios map[string][]float64
}

// compare adds a round's value to a figure that is compared with another value.
func (r *report) compare(name string, value, with float64) { r.enter(name, value, value/with) }

// add adds a value to a figure whose goal is stated in it.
func (r *report) add(name string, value float64) { r.enter(name, value, value) }

func (r *report) enter(name string, value, ratio float64) {
	if !slices.ContainsFunc(catalogue, func(d definition) bool { return d.name == name }) {
		panic("the catalogue has no figure " + name)
	}
	if r.values == nil {
		r.values, r.ratios = map[string][]float64{}, map[string][]float64{}
	}
	r.values[name] = append(r.values[name], value)
	r.ratios[name] = append(r.ratios[name], ratio)
}

// summary is a figure with what was measured: medians, and the range of the ratio.
type summary struct {
	definition
	value, ratio float64
	low, high    float64
	n            int
}

// summarise makes the summaries of what was measured.
func (r *report) summarise() []summary {
	var all []summary
	for _, d := range catalogue {
		if ratios := r.ratios[d.name]; len(ratios) > 0 {
			all = append(all, summary{
				d, measure.Median(r.values[d.name]), measure.Median(ratios),
				slices.Min(ratios), slices.Max(ratios), len(ratios),
			})
		}
	}
	return all
}

// line is the figure for scripts.
func (s summary) line() string {
	text := fmt.Sprintf("figure %s value=%s unit=%s ratio=%s", s.name, short(s.value), s.unit, short(s.ratio))
	if v := s.goal.verdict(s.ratio); v != "" {
		text += fmt.Sprintf(" goal%s%g met=%s", map[string]string{"≥": ">=", "≤": "<="}[s.goal.sign], s.goal.bound, v)
	}
	return text
}

// printSummaries prints the table and the lines for scripts.
func printSummaries(w io.Writer, all []summary) error {
	var rows [][]string
	var lines []string
	for _, s := range all {
		ratio, spread, bound := "", "", ""
		if s.of != "" {
			ratio = short(s.ratio)
		}
		if s.n > 1 {
			spread = short(s.low) + "–" + short(s.high)
		}
		if s.goal.sign != "" {
			bound = fmt.Sprintf("%s %g", s.goal.sign, s.goal.bound)
		}
		rows = append(rows, []string{s.name, s.what, short(s.value), s.unit, ratio, s.of, spread, strconv.Itoa(s.n), bound, s.goal.verdict(s.ratio)})
		lines = append(lines, s.line())
	}
	return measure.Print(w, []string{"figure", "what", "value", "unit", "ratio", "to", "range", "rounds", "goal", "met"}, rows, lines)
}

// short is a number with about three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
