package main

import (
	"context"
	"errors"
	"time"
)

// nothing is a worker with projections that do nothing.
func (b *bench) nothing(projections int) job {
	return job{Kind: "worker", Name: "w1", Handler: "nothing", Projections: projections, Want: int64(b.env.events)}
}

// measureCatchUp measures raw, catchup/1x1 and catchup/1x8.
func measureCatchUp(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	return b.rounds(func() error {
		raw, err := b.raw(ctx, d)
		if err != nil {
			return err
		}
		b.report.compare("raw", raw.rate(), raw.rate())
		if !b.env.wantsAny([]string{"catchup/1x1", "catchup/1x8"}) {
			return nil
		}
		one, err := b.freshRun(ctx, d, "catchup/1x1", b.nothing(1))
		if err != nil {
			return err
		}
		b.report.compare("catchup/1x1", one.rate(), raw.rate())
		if !b.env.wants("catchup/1x8") {
			return nil
		}
		eight, err := b.freshRun(ctx, d, "catchup/1x8", b.nothing(8))
		if err != nil {
			return err
		}
		b.report.compare("catchup/1x8", eight.rate(), one.rate())
		_, rows, err := d.statements(ctx)
		b.report.add("catchup/1x8/rows", float64(rows)/float64(b.env.events))
		return err
	})
}

// measureAllocations measures allocs.
func measureAllocations(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	return b.rounds(func() error {
		raw, err := b.raw(ctx, d)
		if err != nil {
			return err
		}
		parts, err := b.freshRun(ctx, d, "allocs", job{Kind: "parts"})
		if err != nil {
			return err
		}
		b.report.add("allocs", float64(parts.Allocs)/float64(parts.Events))
		b.report.add("allocs/bytes", float64(parts.Bytes)/float64(parts.Events))
		b.report.compare("allocs/speed", parts.rate(), raw.rate())
		return nil
	})
}

// measureScoped measures scoped and scoped/index.
func measureScoped(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	rare := int64((b.env.events + 99) / 100)
	return b.rounds(func() error {
		raw, err := b.raw(ctx, d)
		if err != nil {
			return err
		}
		for _, way := range []struct {
			figure string
			index  bool
		}{{"scoped", false}, {"scoped/index", true}} {
			if !b.env.wants(way.figure) {
				continue
			}
			if err := d.scopeIndex(ctx, way.index); err != nil {
				return err
			}
			o, err := b.freshRun(ctx, d, way.figure, job{Kind: "worker", Name: "w1", Handler: "scoped", Projections: 1, Want: rare})
			if err := errors.Join(err, d.scopeIndex(ctx, false)); err != nil {
				return err
			}
			b.report.compare(way.figure, float64(b.env.events)/o.seconds(), raw.rate())
		}
		return nil
	})
}

// measurePartitions measures catchup/4p.
func measurePartitions(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	spins := calibrate(50 * time.Microsecond)
	for _, f := range []struct {
		figure, handler string
		divisor         int
	}{{"catchup/4p/cpu", "compute", 10}, {"catchup/4p/wait", "wait", 100}} {
		j := job{Kind: "worker", Name: "w1", Handler: f.handler, Projections: 1, Want: b.part(f.divisor), Spin: spins}
		err := b.rounds(func() error {
			j.Partitions = 1
			one, err := b.freshRun(ctx, d, f.figure+"/1", j)
			if err != nil {
				return err
			}
			j.Partitions = 4
			four, err := b.freshRun(ctx, d, f.figure, j)
			if err != nil {
				return err
			}
			b.report.compare(f.figure, four.rate(), one.rate())
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measureWorkers measures catchup/4w.
func measureWorkers(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	return b.rounds(func() error {
		raw, err := b.raw(ctx, d)
		if err != nil {
			return err
		}
		four, err := b.together(ctx, d, 4)
		if err != nil {
			return err
		}
		_, rows, err := d.statements(ctx)
		b.report.add("catchup/4w", float64(rows)/float64(b.env.events))
		b.report.compare("catchup/4w/speed", four.rate(), raw.rate())
		if err != nil {
			return err
		}
		if err := d.slotIndex(ctx, true); err != nil {
			return err
		}
		four, err = b.together(ctx, d, 4)
		b.report.compare("catchup/4w/index", four.rate(), raw.rate())
		return errors.Join(err, d.slotIndex(ctx, false))
	})
}

// measureManyWorkers measures catchup/16w.
func measureManyWorkers(ctx context.Context, b *bench) error {
	d, err := b.filled(ctx)
	if err != nil {
		return err
	}
	return b.rounds(func() error {
		one, err := b.together(ctx, d, 1)
		if err != nil {
			return err
		}
		for _, way := range []struct {
			figure string
			index  bool
		}{{"catchup/16w", false}, {"catchup/16w/index", true}} {
			if err := d.slotIndex(ctx, way.index); err != nil {
				return err
			}
			many, err := b.together(ctx, d, 16)
			if err := errors.Join(err, d.slotIndex(ctx, false)); err != nil {
				return err
			}
			b.report.compare(way.figure, many.serverTime(), one.serverTime())
		}
		return nil
	})
}

// together runs workers with one projection that does nothing, until all events are handled.
func (b *bench) together(ctx context.Context, d *database, workers int) (all outcome, err error) {
	if err := d.fresh(ctx); err != nil {
		return all, err
	}
	release, err := d.held(ctx)
	if err != nil {
		return all, err
	}
	j := b.nothing(1)
	j.DSN, j.Want = d.dsn, 0
	var processes []*process
	for i := range workers {
		j.Name = "w" + string(rune('1'+i))
		p, err := start(j)
		if err != nil {
			return all, errors.Join(err, release())
		}
		defer p.kill()
		processes = append(processes, p)
	}
	err = d.awaitRunning(ctx, workers)
	before, timed := b.cluster.ProcessorTime()
	if err := errors.Join(err, timed, release()); err != nil {
		return all, err
	}
	for all.Events < int64(b.env.events) {
		all = outcome{}
		for _, p := range processes {
			o, err := p.ask(wordHowFar)
			if err != nil {
				return all, err
			}
			all = all.and(o)
		}
		if err := wait(ctx, askEvery); err != nil {
			return all, err
		}
	}
	after, err := b.cluster.ProcessorTime()
	if err != nil {
		return all, err
	}
	all.Server = after - before
	for _, p := range processes {
		if _, err := p.stop(); err != nil {
			return all, err
		}
	}
	b.tell("%d workers: %d events in %.3f s: %.0f/s, processor %.3f s, server %.3f µs/event",
		workers, all.Events, all.seconds(), all.rate(), all.CPU.Seconds(), all.serverTime())
	return all, nil
}
