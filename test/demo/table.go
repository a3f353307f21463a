package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// view is what there is to see at one moment.
type view struct {
	Elapsed  time.Duration
	Snapshot workload.Snapshot
	Writers  workload.WriterStats
	// WriteRate is the committed events per second, lately.
	WriteRate float64
}

// header are the table's columns. Those from numbersFrom on are set right.
var header = []string{"WORKER", "ID", "PID", "STATE", "HEARTBEAT", "PROJECTION", "PARTITION", "POSITION", "LAG", "EVENTS/S"}

const numbersFrom = 7

// table is the view in lines: the generation, the writers, and a row for each worker and projection.
func (v view) table() []string {
	lines := []string{"", v.generation(), v.writers(), ""}
	rows := [][]string{header}
	for _, w := range v.Snapshot.Workers {
		rows = append(rows, workerRows(w)...)
	}
	return append(lines, align(rows)...)
}

// generation says which one it is, and why.
func (v view) generation() string {
	g := v.Snapshot.Current()
	if g.Number == 0 {
		return fmt.Sprintf("%5.1f s  no generation yet", v.Elapsed.Seconds())
	}
	why := g.Cause
	if g.Reason != "" {
		why += ": " + g.Reason
	}
	return fmt.Sprintf("%5.1f s  generation %d is %s (%s)", v.Elapsed.Seconds(), g.Number, g.State, why)
}

// writers says what is written.
func (v view) writers() string {
	return fmt.Sprintf("         writers: %.0f events/s, %d events in %d transactions, %d rolled back; latest position %d",
		v.WriteRate, v.Writers.Events, v.Writers.Committed, v.Writers.RolledBack, v.Snapshot.Latest)
}

// workerRows are a worker's rows: one for each partition of each projection, or one that says what became of it.
func workerRows(w workload.WorkerStatus) [][]string {
	self := []string{w.Name, short(w.ID.String()), strconv.Itoa(w.PID), w.State, fmt.Sprintf("%.1f s ago", w.Heartbeat.Seconds())}
	if gone(w) {
		self[4] = "-"
	}
	if len(w.Assignments) == 0 || gone(w) {
		return [][]string{append(self, "-")}
	}
	var rows [][]string
	for _, a := range w.Assignments {
		rows = append(rows, append(self, a.Projection, a.Partition, strconv.FormatInt(a.Position, 10),
			strconv.FormatInt(a.Lag, 10), strconv.FormatFloat(a.Rate, 'f', 0, 64)))
		self = []string{"", "", "", "", ""}
	}
	return rows
}

// gone says whether the worker has left or was declared dead.
func gone(w workload.WorkerStatus) bool { return w.State == "stopped" || w.State == "dead" }

// short is the end of an id: ids that were drawn within one minute begin alike.
func short(id string) string { return "…" + id[max(len(id)-8, 0):] }

// align sets the rows in columns. Those from numbersFrom on are set right.
func align(rows [][]string) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, len(rows))
	for i, row := range rows {
		var line strings.Builder
		for j, cell := range row {
			padding := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell))
			if j >= numbersFrom {
				line.WriteString("  " + padding + cell)
			} else {
				line.WriteString("  " + cell + padding)
			}
		}
		lines[i] = strings.TrimRight(line.String(), " ")
	}
	return lines
}

// status is the view in one line.
func (v view) status() string {
	states := map[string]int{}
	var rate float64
	var lag int64
	for _, w := range v.Snapshot.Workers {
		states[w.State]++
		if gone(w) {
			continue
		}
		for _, a := range w.Assignments {
			rate += a.Rate
			lag = max(lag, a.Lag)
		}
	}
	generation := "no generation yet"
	if g := v.Snapshot.Current(); g.Number != 0 {
		generation = fmt.Sprintf("generation %d %s", g.Number, g.State)
	}
	return fmt.Sprintf("%5.1f s  status: %s; workers: %s; writing %.0f events/s, handling %.0f/s by all projections; lag at most %d positions",
		v.Elapsed.Seconds(), generation, countStates(states), v.WriteRate, rate, lag)
}

// countStates is how many workers are in each state, in the order of a worker's life.
func countStates(states map[string]int) string {
	var parts []string
	for _, state := range []string{"pending", "ready", "running", "stopping", "stopped", "dead"} {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, state))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}
