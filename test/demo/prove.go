package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// figures are a run in numbers.
type figures struct {
	Events, Handled       int64
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
	d.screen.say("", "All workers have left. What the database says, in SQL:")
	checks := workload.Checks()
	for _, name := range frozen {
		checks = append(checks, rejoined(name))
	}
	var failed error
	for _, c := range checks {
		result, err := workload.RunCheck(ctx, d.pool, c)
		if err != nil {
			return figures{}, err
		}
		d.screen.say(shown(result)...)
		if !result.OK() {
			failed = errors.Join(failed, fmt.Errorf("%w: %d, %s", errUnproven, result.Count, c.Title))
		}
	}
	f, err := d.figures(ctx)
	return f, errors.Join(failed, err)
}

// shown is a check with its outcome, in lines.
func shown(r workload.Result) []string {
	want, mark := "must be 0", "ok"
	if r.Some {
		want = "must be above 0"
	}
	if !r.OK() {
		mark = "FAILED"
	}
	lines := []string{"", "-- " + r.Title}
	lines = append(lines, strings.Split(r.SQL+";", "\n")...)
	return append(lines, fmt.Sprintf("  => %d  (%s: %s)", r.Count, want, mark))
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
       (SELECT count(*) FROM workload_log) AS handled,
       (SELECT count(*) FROM orchestrator_generations) AS generations,
       (SELECT count(*) FROM orchestrator_workers) AS workers,
       (SELECT max(activated_at - created_at) FROM orchestrator_generations) AS longest_change,
       wait[1] AS median_wait, wait[2] AS wait_99_percent, wait[3] AS longest_wait
FROM (
    SELECT percentile_disc(array[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY l.handled_at - e.created_at) AS wait
    FROM workload_log AS l JOIN events AS e USING (global_position)) AS waits`

// figures reads the run's numbers, and shows where they come from.
func (d *demo) figures(ctx context.Context) (figures, error) {
	var f figures
	err := d.pool.QueryRow(ctx, sqlFigures).Scan(&f.Events, &f.Handled, &f.Generations, &f.Workers, &f.LongestChange,
		&f.MedianWait, &f.P99, &f.Most)
	if err != nil {
		return f, fmt.Errorf("reading the figures: %w", err)
	}
	d.screen.say("", "-- how long events waited, from the beginning of the transaction that wrote them")
	d.screen.say(strings.Split(sqlFigures+";", "\n")...)
	d.screen.say(fmt.Sprintf("  => %d events, handled %d times; %d generations, %d workers; longest change %s; waits: median %s, 99 %% below %s, longest %s",
		f.Events, f.Handled, f.Generations, f.Workers, milliseconds(f.LongestChange), milliseconds(f.MedianWait), milliseconds(f.P99), milliseconds(f.Most)), "")
	return f, d.generationTable(ctx)
}

const sqlGenerations = `SELECT number, cause, reason, cardinality(members),
       coalesce(activated_at - created_at, interval '0') AS took
FROM orchestrator_generations ORDER BY number`

// generationTable shows the history of the replica set.
func (d *demo) generationTable(ctx context.Context) error {
	rows, err := d.pool.Query(ctx, sqlGenerations)
	if err != nil {
		return fmt.Errorf("reading the generations: %w", err)
	}
	generations, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var number, members int64
		var cause, reason string
		var took time.Duration
		err := row.Scan(&number, &cause, &reason, &members, &took)
		return fmt.Sprintf("  => %3d  %-8s  %s, changed in %s: %s", number, cause, counted(int(members), "worker"), milliseconds(took), reason), err
	})
	if err != nil {
		return fmt.Errorf("reading the generations: %w", err)
	}
	d.screen.say(strings.Split(sqlGenerations+";", "\n")...)
	d.screen.say(append(generations, "")...)
	return nil
}

func milliseconds(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// verdict is the last line. kept is where logs were left.
func verdict(f figures, kept string, took time.Duration, err error) string {
	if err == nil {
		return fmt.Sprintf("demo: OK: %d events, each handled exactly once and in order by each of %d projections that wanted it; %d workers, %d generations, longest change %s, longest wait of an event %s, %.0f s",
			f.Events, len(projections), f.Workers, f.Generations, milliseconds(f.LongestChange), milliseconds(f.Most), took.Seconds())
	}
	text := fmt.Sprintf("demo: FAILED after %.0f s: %s", took.Seconds(), strings.ReplaceAll(err.Error(), "\n", "; "))
	if kept != "" {
		text += "; logs are in " + kept
	}
	return text
}
