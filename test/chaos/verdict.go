package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// figures are a run in numbers.
type figures struct {
	Seed                            uint64
	Events, Handled, Repeated       int64
	Generations, Workers            int64
	Kills, Freezes, Restarts, Wires int
	Mishaps                         int64
	Operations, Resets, Letters     int64
	CutOvers, Moves, Skipped        int64
	Late                            int
	Pause                           time.Duration
	Took                            time.Duration
}

const sqlFigures = `
SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM workload_log),
       (SELECT count(*) - count(DISTINCT (projection, position)) FROM chaos_calls),
       (SELECT coalesce(max(number), 0) FROM orchestrator_generations),
       (SELECT count(*) FROM orchestrator_workers),
       (SELECT count(*) FROM chaos_calls WHERE outcome <> 'ok'),
       (SELECT count(*) FROM orchestrator_operations), (SELECT count(*) FROM orchestrator_operations WHERE kind = 'reset' AND state = 'done'),
       (SELECT count(*) FROM orchestrator_successions WHERE cut_over_at IS NOT NULL), (SELECT count(*) FROM orchestrator_operations WHERE kind = 'move' AND state = 'done'),
       (SELECT count(*) FROM orchestrator_dead_letters WHERE state = 'skipped'), (SELECT count(*) FROM orchestrator_dead_letters),
       coalesce((SELECT extract(epoch FROM max(pause)) FROM (
           SELECT handled_at - lag(handled_at) OVER (PARTITION BY projection ORDER BY handled_at) AS pause
           FROM workload_log WHERE handled_at < to_timestamp($1)) AS pauses), 0)::float8`

// figures reads the run's numbers. The longest pause is the longest time in which a projection handled nothing while there were
// faults; prepared transactions and restarts of the database are among its reasons.
func (c *chaos) figures(ctx context.Context) (figures, error) {
	f := figures{Seed: c.options.Seed, Took: time.Since(c.began), Late: c.fleet.late}
	end := c.began.Add(c.options.Duration)
	var pause float64
	err := c.pool.QueryRow(ctx, sqlFigures, float64(end.UnixNano())/1e9).
		Scan(&f.Events, &f.Handled, &f.Repeated, &f.Generations, &f.Workers, &f.Mishaps, &f.Operations, &f.Resets, &f.CutOvers, &f.Moves, &f.Skipped, &f.Letters, &pause)
	if err != nil {
		return f, fmt.Errorf("reading the figures: %w", err)
	}
	f.Pause = time.Duration(pause * float64(time.Second))
	for _, w := range c.fleet.all {
		if w.killed && w.ended.Before(end) {
			f.Kills++
		}
	}
	f.Freezes = c.injections.count(faultFreeze)
	f.Restarts = c.injections.count(faultRestart)
	f.Wires = c.injections.count(faultCut, faultDelay, faultHalfOpen, faultTerminate)
	return f, nil
}

// print writes the report's lines, the verdict last.
func (r report) print(w io.Writer, seed uint64, err error) {
	for _, f := range r.findings {
		fmt.Fprintln(w, f.line())
		for i, row := range f.Rows {
			if i == 5 {
				fmt.Fprintf(w, "  … and more\n")
				break
			}
			fmt.Fprintf(w, "  %s: %s\n", f.Means, row)
		}
	}
	fmt.Fprintln(w, r.verdict(seed, err))
}

// verdict is the last line.
func (r report) verdict(seed uint64, err error) string {
	f := r.figures
	survived := fmt.Sprintf("seed=%d generations=%d workers=%d kills=%d freezes=%d restarts=%d connection-faults=%d failed-calls=%d operations=%d resets=%d cut-overs=%d moves=%d skipped=%d letters=%d events=%d handled=%d repeated-outside-around-faults=%d late-departures=%d longest-pause=%s took=%s",
		seed, f.Generations, f.Workers, f.Kills, f.Freezes, f.Restarts, f.Wires, f.Mishaps, f.Operations, f.Resets, f.CutOvers, f.Moves, f.Skipped, f.Letters, f.Events, f.Handled, f.Repeated, f.Late,
		f.Pause.Round(time.Millisecond), f.Took.Round(time.Second))
	if err == nil && r.ok() {
		if r.kept != "" {
			survived += " evidence=" + r.kept
		}
		return "chaos: OK " + survived
	}
	var names []string
	for _, f := range r.findings {
		if f.Count > 0 {
			names = append(names, f.Name)
		}
	}
	if err != nil {
		names = append(names, "error: "+strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return fmt.Sprintf("chaos: FAILED (%s) %s evidence=%s", strings.Join(names, ", "), survived, r.kept)
}

// preserved are the tables that are kept as evidence, as CSV.
var preserved = []string{
	"orchestrator_generations", "orchestrator_workers", "orchestrator_heartbeats", "orchestrator_checkpoints", "orchestrator_dead_letters",
	"orchestrator_parked_aggregates", "orchestrator_operations", "orchestrator_requests", "orchestrator_drains", "orchestrator_samples", "orchestrator_successions", "orchestrator_waits", "chaos_effects",
	"events", "aggregate_heads", "workload_log", "workload_read_model", "chaos_calls", "chaos_lives", "chaos_deeds", "chaos_ends",
}

// preserve keeps the evidence: what was violated, the tables, the server's log. The workers' logs and journals are there already.
func (c *chaos) preserve(ctx context.Context, r report) error {
	var text strings.Builder
	for _, f := range r.findings {
		fmt.Fprintln(&text, f.line())
		for _, row := range f.Rows {
			fmt.Fprintf(&text, "  %s: %s\n", f.Means, row)
		}
	}
	if err := os.WriteFile(filepath.Join(c.dir, "violations.txt"), []byte(text.String()), 0o600); err != nil {
		return fmt.Errorf("keeping the evidence: %w", err)
	}
	for _, table := range preserved {
		if err := c.dump(ctx, "COPY "+table+" TO STDOUT WITH (FORMAT csv, HEADER)", table+".csv"); err != nil {
			return err
		}
	}
	return c.dump(ctx, "COPY (SELECT pg_read_file('"+logFile+"')) TO STDOUT", "postgresql.csv")
}

// dump copies what a COPY statement writes into a file of the run's directory.
func (c *chaos) dump(ctx context.Context, statement, name string) error {
	file, err := os.OpenFile(filepath.Join(c.dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("keeping the evidence: %w", err)
	}
	defer file.Close()
	conn, err := c.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("keeping the evidence: %w", err)
	}
	defer conn.Release()
	if _, err := conn.Conn().PgConn().CopyTo(ctx, file, statement); err != nil {
		return fmt.Errorf("keeping the evidence: %s: %w", statement, err)
	}
	return nil
}

// askForStacks has all workers that are left write into their logs where each of their goroutines is, which ends them.
func (c *chaos) askForStacks() {
	for _, w := range c.fleet.staying() {
		c.fleet.mu.Lock()
		w.doomed, w.killed = true, true
		c.fleet.mu.Unlock()
		if err := gone(syscall.Kill(w.PID, syscall.SIGQUIT)); err != nil {
			c.say("asking %s where it is: %v", w.Name, err)
		}
		select {
		case <-w.Done():
		case <-time.After(killPatience):
		}
	}
}
