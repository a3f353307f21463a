package main

import (
	"context"
	"fmt"
	"time"
)

// settling is how long a worker that has caught up is left alone before it is held for idle.
const settling = 6 * time.Second

// standing starts a worker and waits until it is running. The caller kills it.
func (b *bench) standing(ctx context.Context, d *database, j job) (*process, error) {
	if err := d.fresh(ctx); err != nil {
		return nil, err
	}
	j.Kind, j.Name, j.DSN = "worker", "w1", d.dsn
	p, err := start(j)
	if err != nil {
		return nil, err
	}
	if err := d.awaitRunning(ctx, 1); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// trigger puts the wake-up trigger on the events table, or takes it off.
func (d *database) trigger(ctx context.Context, on bool) error {
	if on {
		return d.store.InstallWakeUp(ctx, d.pool)
	}
	return d.store.RemoveWakeUp(ctx, d.pool)
}

// wakings are the ways to learn of appends, as figures name them.
var wakings = []struct {
	name    string
	trigger bool
}{{"trigger", true}, {"poll", false}}

// measureLatency measures latency.
func measureLatency(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	for _, w := range wakings {
		if err := d.trigger(ctx, w.trigger); err != nil {
			return err
		}
		for _, rate := range []int{50, 500} {
			figure := fmt.Sprintf("latency/%d/%s", rate, w.name)
			late, err := b.latencies(ctx, d, figure, rate)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", figure, err)
			}
			b.report.add(figure, percentile(late, 99))
			b.report.add(figure+"/p50", percentile(late, 50))
		}
	}
	return nil
}

// latencies is, for each event that is appended at a rate, how many milliseconds after its commit it is handled.
func (b *bench) latencies(ctx context.Context, d *database, figure string, rate int) ([]float64, error) {
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return nil, err
	}
	worker, err := b.standing(ctx, d, job{Handler: "note", Projections: 1, Profile: b.profileOf(figure)})
	if err != nil {
		return nil, err
	}
	defer worker.kill()
	appended, err := run(ctx, job{Kind: "append", DSN: d.dsn, Rate: rate, Seconds: int(b.env.seconds / time.Second)})
	if err != nil {
		return nil, err
	}
	if err := worker.until(ctx, func(o outcome) bool { return o.Events >= appended.Events }); err != nil {
		return nil, err
	}
	handled, err := worker.stop()
	if err != nil {
		return nil, err
	}
	handledAt := map[int64]int64{}
	for _, m := range handled.Moments {
		handledAt[m.Number] = m.At
	}
	late := make([]float64, 0, len(appended.Moments))
	for _, m := range appended.Moments {
		at, ok := handledAt[m.Number]
		if !ok {
			return nil, fmt.Errorf("the event with number %d was not handled", m.Number)
		}
		late = append(late, max(0, float64(at-m.At)/float64(time.Millisecond)))
	}
	b.tell("%s: %d events, %.0f/s; median %.2f ms, p99 %.2f ms, worst %.2f ms", figure, len(late), appended.rate(),
		percentile(late, 50), percentile(late, 99), percentile(late, 100))
	return late, nil
}

// appendTurns is how many turns of append make one round of other figures: what is looked for is small, so many short turns are
// compared, and each way is the first in every second.
const appendTurns = 3

// measureAppending measures append.
func measureAppending(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	for _, figure := range []string{"append/trigger", "append/trigger/alone"} {
		triggerFirst := false
		for range appendTurns * b.env.rounds {
			rates := map[bool]float64{}
			for _, on := range []bool{triggerFirst, !triggerFirst} {
				rate, err := b.appendRate(ctx, d, on, figure == "append/trigger")
				if err != nil {
					return err
				}
				rates[on] = rate
			}
			triggerFirst = !triggerFirst
			b.tell("%s: %.0f/s with the trigger, %.0f/s without", figure, rates[true], rates[false])
			b.report.compare(figure, rates[true], rates[false])
		}
	}
	return nil
}

// appendRate is how many events a second are appended.
func (b *bench) appendRate(ctx context.Context, d *database, trigger, worker bool) (float64, error) {
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return 0, err
	}
	if err := d.trigger(ctx, trigger); err != nil {
		return 0, err
	}
	if worker {
		p, err := b.standing(ctx, d, job{Handler: "nothing", Projections: 1})
		if err != nil {
			return 0, err
		}
		defer p.kill()
	}
	o, err := run(ctx, job{Kind: "append", DSN: d.dsn, Seconds: max(1, int(b.env.seconds/time.Second)/10)})
	return o.rate(), err
}

// measureIdle measures idle.
func measureIdle(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	const many = 20
	if err := d.trigger(ctx, true); err != nil {
		return err
	}
	one, _, err := b.idle(ctx, d, 1, 1)
	if err != nil {
		return err
	}
	all, processor, err := b.idle(ctx, d, many, 1)
	if err != nil {
		return err
	}
	partitioned, _, err := b.idle(ctx, d, many, 64)
	if err != nil {
		return err
	}
	b.report.add("idle/1", one)
	b.report.add("idle/trigger", all)
	b.report.add("idle/cpu", processor)
	b.report.compare("idle/growth", all, one)
	b.report.compare("idle/64p", partitioned, all)
	if err := d.trigger(ctx, false); err != nil {
		return err
	}
	polling, processor, err := b.idle(ctx, d, many, 1)
	if err != nil {
		return err
	}
	b.report.add("idle/poll", polling)
	b.report.add("idle/poll/cpu", processor)
	return nil
}

// idle is the statements a second of a worker that has caught up, and its use of a processor in percent.
func (b *bench) idle(ctx context.Context, d *database, projections, partitions int) (statements, percent float64, err error) {
	p, err := b.standing(ctx, d, job{Handler: "nothing", Projections: projections, Partitions: partitions})
	if err != nil {
		return 0, 0, err
	}
	defer p.kill()
	events := int64(0)
	if err := d.pool.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&events); err != nil {
		return 0, 0, err
	}
	if err := p.until(ctx, func(o outcome) bool { return o.Events >= events*int64(projections) }); err != nil {
		return 0, 0, err
	}
	if err := wait(ctx, settling); err != nil {
		return 0, 0, err
	}
	before, err := p.ask(wordHowFar)
	if err != nil {
		return 0, 0, err
	}
	ran, _, err := d.statements(ctx)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := wait(ctx, b.env.seconds); err != nil {
		return 0, 0, err
	}
	runs, _, err := d.statements(ctx)
	if err != nil {
		return 0, 0, err
	}
	took := time.Since(began).Seconds()
	after, err := p.ask(wordHowFar)
	if err != nil {
		return 0, 0, err
	}
	if _, err := p.stop(); err != nil {
		return 0, 0, err
	}
	statements, percent = float64(runs-ran)/took, 100*(after.CPU-before.CPU).Seconds()/took
	b.tell("idle, %d projections, %d partitions: %.2f statements/s, %.3f %% of a processor", projections, partitions, statements, percent)
	return statements, percent, nil
}
