package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/measure"
)

// settling is how long a worker that has caught up is left alone before it is held for idle.
const settling = 6 * time.Second

// standingMany starts workers that share one projection and waits until all are running. The caller kills those that it returns,
// with an error too.
func (b *bench) standingMany(ctx context.Context, d *database, n int) (started []*process, err error) {
	if err := d.fresh(ctx); err != nil {
		return nil, err
	}
	for i := range n {
		p, err := start(job{Kind: "worker", Name: fmt.Sprintf("w%d", i+1), DSN: d.dsn, Handler: "nothing", Projections: 1})
		if err != nil {
			return started, err
		}
		started = append(started, p)
	}
	if n == 0 {
		return nil, nil
	}
	return started, d.awaitRunning(ctx, n)
}

// standing starts a process with a worker, or as many as the job says, and waits until all are running. The caller kills it.
func (b *bench) standing(ctx context.Context, d *database, j job) (*process, error) {
	if err := d.fresh(ctx); err != nil {
		return nil, err
	}
	j.Kind, j.Name, j.DSN = "worker", "w1", d.dsn
	p, err := start(j)
	if err != nil {
		return nil, err
	}
	if err := d.awaitRunning(ctx, max(1, j.Workers)); err != nil {
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

// leastTrigger puts a trigger on the events table that does the least, or takes it off: its condition calls one function, whose answer
// is at hand but only known when it is called, and never holds.
func (d *database) leastTrigger(ctx context.Context, on bool) error {
	if !on {
		return d.exec(ctx, `DROP TRIGGER IF EXISTS bench_least ON events`)
	}
	return d.exec(ctx, `
CREATE OR REPLACE TRIGGER bench_least AFTER INSERT ON events FOR EACH STATEMENT
WHEN (pg_backend_pid() = 0) EXECUTE FUNCTION suppress_redundant_updates_trigger()`)
}

// scopeIndex builds the scope index, or drops it.
func (d *database) scopeIndex(ctx context.Context, on bool) error {
	if on {
		return d.store.InstallScopeIndex(ctx, d.pool)
	}
	return d.store.RemoveScopeIndex(ctx, d.pool)
}

// slotIndex builds the slot index, or drops it.
func (d *database) slotIndex(ctx context.Context, on bool) error {
	if on {
		return d.store.InstallSlotIndex(ctx, d.pool)
	}
	return d.store.RemoveSlotIndex(ctx, d.pool)
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
			late, err := b.latencies(ctx, d, figure, rate, false)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", figure, err)
			}
			b.report.add(figure, measure.Percentile(late, 99))
			b.report.add(figure+"/p50", measure.Percentile(late, 50))
		}
	}
	return nil
}

// latencies is, for each event that is appended at a rate, how many milliseconds after its commit it is handled. If one aggregate is poisoned, its events
// do not count.
func (b *bench) latencies(ctx context.Context, d *database, figure string, rate int, poisoned bool) ([]float64, error) {
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return nil, err
	}
	worker, err := b.standing(ctx, d, job{Handler: "note", Projections: 1, Poisoned: poisoned, Profile: b.profileOf(figure)})
	if err != nil {
		return nil, err
	}
	defer worker.kill()
	appended, err := run(ctx, job{Kind: "append", DSN: d.dsn, Rate: rate, Seconds: int(b.env.seconds / time.Second)})
	if err != nil {
		return nil, err
	}
	if poisoned {
		appended.Moments = slices.DeleteFunc(appended.Moments, func(m moment) bool { return isPoisoned(m.Number) })
		appended.Events = int64(len(appended.Moments))
	}
	late, err := lateness(ctx, worker, appended, 0)
	if err != nil {
		return nil, err
	}
	b.tell("%s: %d events, %.0f/s; median %.2f ms, p99 %.2f ms, worst %.2f ms", figure, len(late), appended.rate(),
		measure.Percentile(late, 50), measure.Percentile(late, 99), measure.Percentile(late, 100))
	return late, nil
}

// appendTurns is how many turns of append make one round of other figures: what is looked for is small, so many short turns are
// compared, and each way is the first in every second.
const appendTurns = 3

// appendWay is what runs while events are appended.
type appendWay struct {
	trigger bool
	least   bool // in place of that trigger, one that does the least
	index   bool // on types and positions
	slots   bool // on positions and slots
	workers int  // processes, which share one projection
	opened  bool // the connections have appended before
}

// appendComparisons are the figures of append, each way with the one that it is compared with.
var appendComparisons = []struct {
	figure    string
	way, with appendWay
}{
	{"append/trigger", appendWay{trigger: true, workers: 1}, appendWay{workers: 1}},
	{"append/trigger/opened", appendWay{trigger: true, workers: 1, opened: true}, appendWay{workers: 1, opened: true}},
	{"append/trigger/alone", appendWay{trigger: true}, appendWay{}},
	{"append/trigger/least", appendWay{least: true}, appendWay{}},
	{"append/workers", appendWay{workers: 2}, appendWay{}},
	{"append/index", appendWay{index: true}, appendWay{}},
	{"append/index/slots", appendWay{slots: true}, appendWay{}},
}

// measureAppending measures append.
func measureAppending(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	for _, c := range appendComparisons {
		wayFirst := false
		for range appendTurns * b.env.rounds {
			rates := map[appendWay]float64{}
			order := []appendWay{c.with, c.way}
			if wayFirst {
				slices.Reverse(order)
			}
			for _, way := range order {
				if rates[way], err = b.appendRate(ctx, d, way); err != nil {
					return err
				}
			}
			wayFirst = !wayFirst
			b.tell("%s: %.0f/s, compared with %.0f/s", c.figure, rates[c.way], rates[c.with])
			b.report.compare(c.figure, rates[c.way], rates[c.with])
		}
	}
	return nil
}

// appendRate is how many events a second are appended.
func (b *bench) appendRate(ctx context.Context, d *database, way appendWay) (float64, error) {
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return 0, err
	}
	if err := d.trigger(ctx, way.trigger); err != nil {
		return 0, err
	}
	if err := d.leastTrigger(ctx, way.least); err != nil {
		return 0, err
	}
	if err := errors.Join(d.scopeIndex(ctx, way.index), d.slotIndex(ctx, way.slots)); err != nil {
		return 0, err
	}
	workers, err := b.standingMany(ctx, d, way.workers)
	defer func() {
		for _, w := range workers {
			w.kill()
		}
	}()
	if err != nil {
		return 0, err
	}
	o, err := run(ctx, job{Kind: "append", DSN: d.dsn, Opened: way.opened, Seconds: max(1, int(b.env.seconds/time.Second)/10)})
	return o.rate(), err
}

// The workers of idle/shared-pool, the connections that they share, and connections enough for all.
const (
	sharedPool = "idle/shared-pool"

	sharing   = 150
	fewConns  = 60
	manyConns = 300
)

// measureSharedPool measures idle/shared-pool.
func measureSharedPool(ctx context.Context, b *bench) error {
	d, err := b.quiet(ctx)
	if err != nil {
		return err
	}
	if err := d.trigger(ctx, true); err != nil {
		return err
	}
	few, _, err := b.idle(ctx, d, job{Projections: 1, Workers: sharing, Shared: fewConns, Quiet: true})
	if err != nil {
		return err
	}
	many, _, err := b.idle(ctx, d, job{Projections: 1, Workers: sharing, Shared: manyConns, Quiet: true})
	if err != nil {
		return err
	}
	b.report.compare(sharedPool, few, many)
	return nil
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
	one, _, err := b.idle(ctx, d, job{Projections: 1})
	if err != nil {
		return err
	}
	all, processor, err := b.idle(ctx, d, job{Projections: many})
	if err != nil {
		return err
	}
	partitioned, _, err := b.idle(ctx, d, job{Projections: many, Partitions: 64})
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
	polling, processor, err := b.idle(ctx, d, job{Projections: many})
	if err != nil {
		return err
	}
	b.report.add("idle/poll", polling)
	b.report.add("idle/poll/cpu", processor)
	return nil
}

// idle is the statements a second of a process with workers that have caught up, and its use of a processor in percent.
func (b *bench) idle(ctx context.Context, d *database, j job) (statements, percent float64, err error) {
	j.Handler = "nothing"
	p, err := b.standing(ctx, d, j)
	if err != nil {
		return 0, 0, err
	}
	defer p.kill()
	events := int64(0)
	if err := d.pool.QueryRow(ctx, "SELECT count(*) FROM events").Scan(&events); err != nil {
		return 0, 0, err
	}
	if err := p.until(ctx, func(o outcome) bool { return o.Events >= events*int64(j.Projections) }); err != nil {
		return 0, 0, err
	}
	if err := wait(ctx, settling); err != nil {
		return 0, 0, err
	}
	before, err := p.ask(wordHowFar)
	if err != nil {
		return 0, 0, err
	}
	if err := d.exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
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
	if err := b.tellStatements(ctx, d, took); err != nil {
		return 0, 0, err
	}
	if _, err := p.stop(); err != nil {
		return 0, 0, err
	}
	statements, percent = float64(runs-ran)/took, 100*(after.CPU-before.CPU).Seconds()/took
	b.tell("idle, %d projections, %d partitions, %d workers, %d shared connections: %.2f statements/s, %.3f %% of a processor",
		j.Projections, max(1, j.Partitions), max(1, j.Workers), j.Shared, statements, percent)
	return statements, percent, nil
}
