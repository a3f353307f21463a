package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// The figures of follow: each rate of appends with each number of workers.
var (
	followRates   = []int{10, 100, 1000}
	followWorkers = []int{1, 8, 32}
)

// followFigure is the name of a figure.
func followFigure(rate, workers int, trigger bool) string {
	name := fmt.Sprintf("follow/%d/%d", rate, workers)
	if trigger {
		name += "/trigger"
	}
	return name
}

// followNames are the names that ONLY knows: follow for all figures, or those of one rate and one number of workers.
func followNames() []string {
	names := []string{"follow"}
	for _, w := range slices.Backward(wakings) {
		for _, rate := range followRates {
			for _, workers := range followWorkers {
				names = append(names, followFigure(rate, workers, w.trigger))
			}
		}
	}
	return names
}

// followGoals are the goals of a number of workers: of the server's cost, and of the 99th percentile.
func followGoals(rate, workers int, trigger bool) (cost, late goal) {
	switch {
	case workers == 8:
		return goal{}, goal{}
	case workers == 1 && trigger:
		return atMost(0.7), atMost(5)
	case workers == 1:
		return atMost(0.7), atMost(25)
	}
	cost, late = atMost(2), atMost(25)
	if rate == 10 {
		cost = atMost(4)
	}
	if trigger {
		late = atMost(10)
	}
	return cost, late
}

// followDefinitions are the figures of follow for the catalogue.
func followDefinitions() []definition {
	var all []definition
	for _, w := range slices.Backward(wakings) {
		for _, rate := range followRates {
			for _, workers := range followWorkers {
				name := followFigure(rate, workers, w.trigger)
				cost, late := followGoals(rate, workers, w.trigger)
				all = append(all,
					definition{name, fmt.Sprintf("%d/s, %d workers, %s: server", rate, workers, w.name), unitCost, "", cost},
					definition{name + "/workers", "  the workers' processes", unitCost, "", cost},
					definition{name + "/p50", "  commit to Handle: median", unitMS, "", goal{}},
					definition{name + "/p99", "  p99", unitMS, "", late})
			}
		}
	}
	return all
}

// followed is what one run of follow has used, in seconds of a processor for each second.
type followed struct {
	server, workers float64
	late            []float64
	statements      float64 // a second
}

// measureFollowing measures follow.
func measureFollowing(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	for _, w := range slices.Backward(wakings) {
		if err := d.trigger(ctx, w.trigger); err != nil {
			return err
		}
		for _, rate := range followRates {
			asked := slices.DeleteFunc(slices.Clone(followWorkers), func(workers int) bool {
				return !b.env.wantsAny([]string{"follow", followFigure(rate, workers, w.trigger)})
			})
			if len(asked) == 0 {
				continue
			}
			if err := b.follow(ctx, d, rate, asked, w.trigger); err != nil {
				return fmt.Errorf("measuring %s: %w", followFigure(rate, 0, w.trigger), err)
			}
		}
	}
	return nil
}

// follow measures the figures of one rate.
func (b *bench) follow(ctx context.Context, d *database, rate int, numbers []int, trigger bool) error {
	alone, err := b.followBy(ctx, d, rate, 0, "")
	if err != nil {
		return err
	}
	for _, workers := range numbers {
		name := followFigure(rate, workers, trigger)
		f, err := b.followBy(ctx, d, rate, workers, name)
		if err != nil {
			return err
		}
		b.report.add(name, (f.server-alone.server)/alone.server)
		b.report.add(name+"/workers", f.workers/alone.server)
		b.report.add(name+"/p50", measure.Percentile(f.late, 50))
		b.report.add(name+"/p99", measure.Percentile(f.late, 99))
		b.tell("%s: server %.1f %% of a processor (appends alone %.1f %%), workers %.1f %%, %.0f statements/s, p50 %.1f ms, p99 %.1f ms", name,
			100*f.server, 100*alone.server, 100*f.workers, f.statements, measure.Percentile(f.late, 50), measure.Percentile(f.late, 99))
	}
	return nil
}

// followBy appends at a rate while workers follow, and returns what that has used.
func (b *bench) followBy(ctx context.Context, d *database, rate, workers int, name string) (f followed, err error) {
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return f, err
	}
	var p *process
	if workers > 0 {
		if p, err = b.standing(ctx, d, job{Handler: "note", Projections: 1, Workers: workers, Profile: b.profileOf(name)}); err != nil {
			return f, err
		}
		defer p.kill()
	}
	if err := wait(ctx, settling); err != nil {
		return f, err
	}
	before := int64(appenders) // events that are appended and not measured
	if p != nil {
		warmed, err := b.warm(ctx, d, workers)
		if err != nil {
			return f, err
		}
		before += warmed
	}
	appender, err := start(job{Kind: "append", DSN: d.dsn, Rate: rate, Opened: true, Seconds: int(b.env.seconds / time.Second)})
	if err != nil {
		return f, err
	}
	defer appender.kill()
	if err := d.exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
		return f, err
	}
	begin, err := b.usageWhen(ctx, d, p, appender, func(o outcome) bool { return o.Began > 0 })
	if err != nil {
		return f, err
	}
	end, err := b.usageWhen(ctx, d, p, appender, func(o outcome) bool { return o.Done })
	if err != nil {
		return f, err
	}
	appended, err := appender.stop()
	if err != nil {
		return f, err
	}
	seconds := end.at.Sub(begin.at).Seconds()
	f.server = (end.server - begin.server).Seconds() / seconds
	f.workers = (end.workers - begin.workers).Seconds() / seconds
	f.statements = float64(end.statements-begin.statements) / seconds
	if p == nil {
		return f, nil
	}
	if err := b.tellStatements(ctx, d, seconds); err != nil {
		return f, err
	}
	f.late, err = lateness(ctx, p, appended, before)
	return f, err
}

const (
	// warmRate is how many events are appended a second to warm workers up.
	warmRate = 200
	// warmSeconds is how long: for each worker a part of a second, and the least.
	warmEach  = time.Second / 2
	warmLeast = 3 * time.Second
)

// warm appends, so that every connection of the workers has planned its statements, which the server does afresh in the first five executions. It
// returns how many events they were.
func (b *bench) warm(ctx context.Context, d *database, workers int) (int64, error) {
	seconds := max(warmLeast, time.Duration(workers)*warmEach) / time.Second
	appender, err := start(job{Kind: "append", DSN: d.dsn, Rate: warmRate, Opened: true, Seconds: int(seconds)})
	if err != nil {
		return 0, err
	}
	defer appender.kill()
	if err := appender.until(ctx, func(o outcome) bool { return o.Done }); err != nil {
		return 0, err
	}
	warmed, err := appender.stop()
	return warmed.Events + appenders, err
}

// sqlKinds are the kinds of statements that took the most time.
const sqlKinds = `
SELECT calls, mean_exec_time, total_exec_time, rows, left(regexp_replace(query, '\s+', ' ', 'g'), 90)
FROM pg_stat_statements WHERE userid = $1::regrole ORDER BY total_exec_time DESC LIMIT 12`

// tellStatements tells which kinds of statements ran.
func (b *bench) tellStatements(ctx context.Context, d *database, seconds float64) error {
	if !b.env.verbose {
		return nil
	}
	rows, err := d.pool.Query(ctx, sqlKinds, workerRole) //nolint:rowserrcheck // ForEachRow checks it
	if err != nil {
		return err
	}
	var (
		calls, got  int64
		mean, total float64
		text        string
	)
	_, err = pgx.ForEachRow(rows, []any{&calls, &mean, &total, &got, &text}, func() error {
		b.tell("  %8.1f/s  %7.3f ms each  %5.1f %% of a processor  %8.1f rows/s  %s", float64(calls)/seconds, mean, total/seconds/10, float64(got)/seconds, text)
		return nil
	})
	return err
}

// usage is what has been used up to a time.
type usage struct {
	at              time.Time
	server, workers time.Duration
	statements      int64
}

// usageWhen is what has been used when the appending process is so far.
func (b *bench) usageWhen(ctx context.Context, d *database, workers, appender *process, far func(outcome) bool) (u usage, err error) {
	if err := appender.until(ctx, far); err != nil {
		return u, err
	}
	u.at = time.Now()
	if u.server, err = b.cluster.ProcessorTime(); err != nil {
		return u, err
	}
	if u.statements, _, err = d.statements(ctx); err != nil || workers == nil {
		return u, err
	}
	o, err := workers.ask(wordHowFar)
	u.workers = o.CPU
	return u, err
}

// lateness stops a worker that has handled all that was appended, and so many events before, and returns how many milliseconds after
// its commit each event was handled.
func lateness(ctx context.Context, worker *process, appended outcome, before int64) ([]float64, error) {
	if err := worker.until(ctx, func(o outcome) bool { return o.Events >= appended.Events+before }); err != nil {
		return nil, err
	}
	handled, err := worker.stop()
	if err != nil {
		return nil, err
	}
	handledAt := map[int64]int64{}
	for _, m := range handled.Moments { // numbers begin again after warming up
		handledAt[m.Number] = max(handledAt[m.Number], m.At)
	}
	late := make([]float64, 0, len(appended.Moments))
	for _, m := range appended.Moments {
		at, ok := handledAt[m.Number]
		if !ok {
			return nil, fmt.Errorf("the event with number %d was not handled", m.Number)
		}
		late = append(late, max(0, float64(at-m.At)/float64(time.Millisecond)))
	}
	if len(late) == 0 {
		return nil, errors.New("nothing was appended")
	}
	return late, nil
}
