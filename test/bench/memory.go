package main

import (
	"context"
	"fmt"
	"time"
)

const mib = 1 << 20

// measureMemory measures memory.
func measureMemory(ctx context.Context, b *bench) error {
	if peakMemory() == 0 {
		return fmt.Errorf("this system does not tell a process's peak of memory")
	}
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	near, err := b.freshRun(ctx, d, "memory/1x8", b.nothing(8))
	if err != nil {
		return err
	}
	b.report.add("memory/1x8", float64(near.Peak)/mib)
	far, err := b.farBehind(ctx, d)
	if err != nil {
		return fmt.Errorf("measuring memory/far: %w", err)
	}
	b.report.add("memory/far", float64(far.Peak)/mib)
	waiting, err := b.waiting(ctx)
	if err != nil {
		return fmt.Errorf("measuring memory/waiting: %w", err)
	}
	b.report.add("memory/waiting", float64(waiting.Peak)/mib)
	if d, err = b.heavy(ctx); err != nil {
		return err
	}
	j := b.nothing(8)
	j.Want = int64(b.heavyEvents())
	large, err := b.freshRun(ctx, d, "memory/large", j)
	if err != nil {
		return err
	}
	b.report.add("memory/large", float64(large.Peak)/mib)
	return nil
}

// farBehind runs a worker whose second projection has everything before it, and whose first has had it, while events are appended.
func (b *bench) farBehind(ctx context.Context, d *database) (outcome, error) {
	if _, err := b.freshRun(ctx, d, "memory/far/before", b.nothing(1)); err != nil {
		return outcome{}, err
	}
	appender, err := start(job{Kind: "append", DSN: d.dsn, Rate: 500, Seconds: int(patience / time.Second)})
	if err != nil {
		return outcome{}, err
	}
	defer appender.kill()
	j := b.nothing(2)
	j.DSN, j.Profile, j.OnlyLast = d.dsn, b.profileOf("memory/far"), true
	o, err := run(ctx, j)
	if err != nil {
		return o, err
	}
	b.tell("memory/far: %d events in %.3f s, peak %d MiB", o.Events, o.seconds(), o.Peak>>20)
	return o, nil
}

// waitingRate is how many events a second are appended while a projection waits: so few that a worker reads most of them one by one.
const waitingRate = 500

// waiting runs a worker whose first projection does not get over the first event, while its second handles what is appended.
func (b *bench) waiting(ctx context.Context) (outcome, error) {
	d, err := b.quiet(ctx)
	if err != nil {
		return outcome{}, err
	}
	if err := d.exec(ctx, "TRUNCATE events, aggregate_heads"); err != nil {
		return outcome{}, err
	}
	if err := d.trigger(ctx, true); err != nil {
		return outcome{}, err
	}
	worker, err := b.standing(ctx, d, job{Handler: "poisoned", Projections: 2, OnlyLast: true, Quiet: true, Profile: b.profileOf("memory/waiting")})
	if err != nil {
		return outcome{}, err
	}
	defer worker.kill()
	appended, err := run(ctx, job{Kind: "append", DSN: d.dsn, Rate: waitingRate, Seconds: 2 * int(b.env.seconds/time.Second)})
	if err != nil {
		return outcome{}, err
	}
	if err := worker.until(ctx, func(o outcome) bool { return o.Events >= appended.Events }); err != nil {
		return outcome{}, err
	}
	o, err := worker.stop()
	b.tell("memory/waiting: %d events, %.0f/s; peak %d MiB", appended.Events, appended.rate(), o.Peak>>20)
	return o, err
}
