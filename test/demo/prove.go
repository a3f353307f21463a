package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// figures are a run in numbers.
type figures struct {
	Events                int64
	Generations, Workers  int64
	LongestChange         time.Duration // from a generation's preparation to its activation
	MedianWait, P99, Most time.Duration // from the beginning of an event's transaction to its handling
}

// errUnproven says that a check did not come out.
var errUnproven = errors.New("the database disproves it")

// prove runs every check, and shows it with its outcome.
func (d *demo) prove(ctx context.Context, frozen []string) (figures, error) {
	if err := workload.Analyze(ctx, d.pool); err != nil {
		return figures{}, err
	}
	checks := workload.Checks()
	for _, name := range frozen {
		checks = append(checks, rejoined(name))
	}
	var results []workload.Result
	var failed error
	for _, c := range checks {
		result, err := workload.RunCheck(ctx, d.pool, c)
		if err != nil {
			return figures{}, err
		}
		results = append(results, result)
		if !result.OK() {
			failed = errors.Join(failed, fmt.Errorf("%w: %d, %s", errUnproven, result.Count, c.Title))
		}
	}
	d.screen.say("", "All workers have left. What the tables say now:", "")
	if d.showSQL {
		for _, r := range results {
			d.screen.say(shown(r)...)
		}
	} else {
		d.screen.say(summary(results)...)
		d.screen.say("", "  `make demo SQL=1` shows the statement of each check.")
	}
	f, err := d.figures(ctx)
	return f, errors.Join(failed, err)
}

// summary is the checks with their outcomes, a line each.
func summary(results []workload.Result) []string {
	lines := make([]string, len(results))
	for i, r := range results {
		lines[i] = fmt.Sprintf("  %-6s %6d  %s", mark(r), r.Count, r.Title)
	}
	return lines
}

// mark says in a word whether a check came out.
func mark(r workload.Result) string {
	if r.OK() {
		return "ok"
	}
	return "FAILED"
}

// shown is a check with its statement and its outcome, in lines.
func shown(r workload.Result) []string {
	want := "must be 0"
	if r.Some {
		want = "must be above 0"
	}
	lines := []string{"", "-- " + r.Title}
	lines = append(lines, strings.Split(r.SQL+";", "\n")...)
	return append(lines, fmt.Sprintf("  => %d  (%s: %s)", r.Count, want, mark(r)))
}

// rejoined counts the events that a worker handled after a generation that it had been shut out of.
func rejoined(name string) workload.Check {
	worker := "'" + strings.ReplaceAll(name, "'", "''") + "'"
	return workload.Check{
		Title: "rejoined: events that the frozen worker " + name + " handled after generations without it",
		Some:  true,
		SQL: `SELECT count(*)
FROM workload_log
WHERE worker = ` + worker + ` AND generation > (
    SELECT min(g.number)
    FROM orchestrator_generations AS g
    JOIN orchestrator_workers AS w ON w.name = ` + worker + ` AND w.worker_id <> ALL (g.members)
    WHERE g.activated_at IS NOT NULL
      AND g.number > (SELECT min(generation) FROM workload_log WHERE worker = ` + worker + `))`,
	}
}

const sqlFigures = `SELECT (SELECT count(*) FROM events) AS events,
       (SELECT count(*) FROM orchestrator_workers) AS workers,
       wait[1] AS median_wait, wait[2] AS wait_99_percent, wait[3] AS longest_wait
FROM (
    SELECT percentile_disc(array[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY l.handled_at - e.created_at) AS wait
    FROM workload_log AS l JOIN events AS e USING (global_position)) AS waits`

// figures reads the run's numbers, and shows them.
func (d *demo) figures(ctx context.Context) (figures, error) {
	var f figures
	if err := d.pool.QueryRow(ctx, sqlFigures).Scan(&f.Events, &f.Workers, &f.MedianWait, &f.P99, &f.Most); err != nil {
		return f, fmt.Errorf("reading the figures: %w", err)
	}
	if err := d.projectionFigures(ctx, &f); err != nil {
		return f, err
	}
	return f, d.generationTable(ctx, &f)
}

const sqlHandled = `SELECT s.projection,
       (SELECT count(*) FROM events AS e WHERE s.aggregate_types IS NULL OR e.aggregate_type = ANY (s.aggregate_types)) AS wanted,
       (SELECT count(*) FROM workload_log AS l WHERE l.projection = s.projection) AS handled
FROM workload_scopes AS s ORDER BY s.projection`

// projectionFigures shows how many events each projection wanted, and handled.
func (d *demo) projectionFigures(ctx context.Context, f *figures) error {
	rows, err := d.pool.Query(ctx, sqlHandled) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		return fmt.Errorf("reading what was handled: %w", err)
	}
	var projection string
	var wanted, handled int64
	lines := []string{"", fmt.Sprintf("  %d events were appended.", f.Events)}
	_, err = pgx.ForEachRow(rows, []any{&projection, &wanted, &handled}, func() error {
		lines = append(lines, fmt.Sprintf("  %-10s  wants %d of them, and handled %d.", projection, wanted, handled))
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading what was handled: %w", err)
	}
	d.screen.say(append(lines, fmt.Sprintf("  From the beginning of its transaction to its handling an event took %s (median), %s (99 %%), %s (longest: its worker was frozen).",
		milliseconds(f.MedianWait), milliseconds(f.P99), milliseconds(f.Most)), "")...)
	return nil
}

const sqlGenerations = `SELECT number, cause, reason, cardinality(members),
       coalesce(activated_at - created_at, interval '0') AS took
FROM orchestrator_generations ORDER BY number`

// generationTable shows the history of the replica set.
func (d *demo) generationTable(ctx context.Context, f *figures) error {
	rows, err := d.pool.Query(ctx, sqlGenerations) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		return fmt.Errorf("reading the generations: %w", err)
	}
	table := [][]string{{"GENERATION", "WORKERS", "PAUSE", "WHY"}}
	var number, members int64
	var cause, reason string
	var took time.Duration
	_, err = pgx.ForEachRow(rows, []any{&number, &cause, &reason, &members, &took}, func() error {
		f.Generations++
		f.LongestChange = max(f.LongestChange, took)
		table = append(table, []string{strconv.FormatInt(number, 10), strconv.FormatInt(members, 10), milliseconds(took).String(), reason})
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the generations: %w", err)
	}
	d.screen.say(append(align(table), "")...)
	return nil
}

func milliseconds(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// verdict is the last line. kept is where logs were left.
func verdict(f figures, kept string, took time.Duration, err error) string {
	if err == nil {
		return fmt.Sprintf("demo: OK: %d events, each handled exactly once, and in order, by each of the %d projections that wanted it; %d workers, %d generations, longest change %s, longest wait of an event %s, %.0f s",
			f.Events, len(projections), f.Workers, f.Generations, milliseconds(f.LongestChange), milliseconds(f.Most), took.Seconds())
	}
	if err == errInterrupted { //nolint:errorlint // joined with another one, something was left behind
		return fmt.Sprintf("demo: interrupted after %.0f s: workers and database are gone, and nothing is proved", took.Seconds())
	}
	text := fmt.Sprintf("demo: FAILED after %.0f s: %s", took.Seconds(), strings.ReplaceAll(err.Error(), "\n", "; "))
	if kept != "" {
		text += "; logs are in " + kept
	}
	return text
}
