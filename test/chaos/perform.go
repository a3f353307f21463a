package main

import (
	"context"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
)

// perform does a step. What lasts goes on in the background. An error is this program's trouble, not the library's.
func (c *chaos) perform(ctx context.Context, s step) error {
	switch s.Fault {
	case faultJoin:
		return c.join(ctx)
	case faultBurst:
		return c.burst(ctx, s)
	case faultRestart:
		return c.restart(s)
	case faultTerminate:
		c.terminate(ctx, s)
		return nil
	case faultLeader:
		return c.hitLeader(ctx, s)
	case faultSettings:
		return c.changeSettings(ctx, s)
	case faultRevoke, faultHide:
		return c.hideEvents(ctx, s)
	case faultStranger:
		return c.intrude(ctx, s)
	case faultPause, faultRetry, faultReset, faultDrain:
		return c.operate(ctx, s)
	case faultLeave, faultKill:
		if len(c.fleet.staying()) <= leastWorkers {
			return c.join(ctx)
		}
	default: // below
	}
	w := c.fleet.pick(s.Pick)
	if s.Fault != faultLeave && s.Fault != faultKill {
		w = c.fleet.pickOf(c.fleet.there(), s.Pick)
	}
	if w == nil {
		return c.join(ctx)
	}
	switch s.Fault {
	case faultLeave:
		return c.leave(w)
	case faultKill:
		return c.kill(w)
	case faultFreeze:
		return c.freeze(ctx, w, s)
	case faultCut:
		c.cut(ctx, w, s)
	case faultDelay:
		c.disturb(ctx, w, s, "answers and questions are slow", wire.State{Delay: 10*time.Millisecond + s.For/30})
	case faultHalfOpen:
		c.halfOpen(ctx, w, s)
	default:
		return fmt.Errorf("nobody knows how to do %q to a worker", s.Fault)
	}
	return nil
}

// spare is how many workers more than wanted there may be.
const spare = 3

// join starts a worker, or lets one leave where there are many.
func (c *chaos) join(ctx context.Context) error {
	if live := c.fleet.staying(); len(live) >= c.options.Workers+spare {
		return c.leave(live[0])
	}
	w, err := c.fleet.spawn(ctx)
	if err != nil {
		return err
	}
	c.note(faultJoin, w, "%s joins", w.Name)()
	return nil
}

// note tells of an injection, and keeps it in mind.
func (c *chaos) note(f fault, w *worker, format string, args ...any) (end func()) {
	name, text := "", fmt.Sprintf(format, args...)
	if w != nil {
		name = w.Name
	}
	if c.options.Verbose {
		c.say("%6.2fs  %-9s %s", time.Since(c.began).Seconds(), f, text)
	}
	return c.injections.begin(f, name, text)
}

func (c *chaos) leave(w *worker) error {
	defer c.note(faultLeave, w, "%s leaves", w.Name)()
	return c.fleet.leave(w)
}

func (c *chaos) kill(w *worker) error {
	defer c.note(faultKill, w, "%s is killed", w.Name)()
	return c.fleet.kill(w)
}

// burstSize is how many workers join at once.
const burstSize = 10

// burst has ten workers join at once, and a while later leave or die.
func (c *chaos) burst(ctx context.Context, s step) error {
	defer c.note(faultBurst, nil, "%d workers join at once", burstSize)()
	var crowd []*worker
	for range burstSize {
		w, err := c.fleet.spawn(ctx)
		if err != nil {
			return err
		}
		crowd = append(crowd, w)
	}
	c.during(ctx, s.For, func() {
		for i, w := range crowd {
			if i%2 == 0 {
				_ = c.leave(w)
			} else {
				_ = c.kill(w)
			}
		}
	})
	return nil
}

// during does something after a while, or when the faults are over.
func (c *chaos) during(ctx context.Context, d time.Duration, then func()) {
	c.lasting.Go(func() {
		rest(ctx, d)
		then()
	})
}

// freeze stops a process for a while that is shorter or longer than the stale timeout, wherever it is or inside a batch.
func (c *chaos) freeze(ctx context.Context, w *worker, s step) error {
	long, inBatch := s.Kind%2 == 1, s.Kind >= 2
	d := s.For
	if long {
		d += staleTimeout
	}
	if inBatch {
		end := c.note(faultFreeze, w, "%s freezes in its next batch for about %s", w.Name, d)
		if err := c.fleet.freezeInBatch(w); err != nil {
			return err
		}
		c.lasting.Go(func() {
			rest(context.WithoutCancel(ctx), freezeWithin) // it may stop itself for so long, also when the faults are over
			rest(ctx, d)
			_ = c.fleet.thaw(w)
			end()
		})
		return nil
	}
	return c.freezeNow(ctx, w, d)
}

func (c *chaos) freezeNow(ctx context.Context, w *worker, d time.Duration) error {
	end := c.note(faultFreeze, w, "%s freezes for %s", w.Name, d)
	if err := c.fleet.freeze(w); err != nil {
		return err
	}
	c.during(ctx, d, func() { _ = c.fleet.thaw(w); end() })
	return nil
}

// cut resets a worker's connections and refuses new ones for a while.
func (c *chaos) cut(ctx context.Context, w *worker, s step) {
	end := c.note(faultCut, w, "%s loses its connections, for %s no new ones", w.Name, s.For)
	w.wire.Set(wire.State{Refuse: true})
	w.wire.Cut()
	c.during(ctx, s.For, func() { w.wire.Set(wire.State{}); end() })
}

// disturb changes a worker's wire for a while.
func (c *chaos) disturb(ctx context.Context, w *worker, s step, what string, state wire.State) {
	end := c.note(s.Fault, w, "%s for %s: %s", w.Name, s.For, what)
	w.wire.Set(state)
	c.during(ctx, s.For, func() { w.wire.Set(wire.State{}); end() })
}

// halfOpen lets nothing through in a direction for a while, with all connections open; in the end they are reset, or go on.
func (c *chaos) halfOpen(ctx context.Context, w *worker, s step) {
	switch s.Kind {
	case 0:
		c.disturb(ctx, w, s, "nothing comes through, then everything", wire.State{HoldUp: true, HoldDown: true})
		return
	case 1:
		end := c.note(s.Fault, w, "%s for %s: nothing comes through, then the connections break", w.Name, s.For)
		w.wire.Set(wire.State{HoldUp: true, HoldDown: true})
		c.during(ctx, s.For, func() { w.wire.Cut(); w.wire.Set(wire.State{}); end() })
		return
	}
	end := c.note(s.Fault, w, "%s for %s: no answers come through, then the connections break", w.Name, s.For)
	w.wire.Set(wire.State{HoldDown: true})
	c.during(ctx, s.For, func() { w.wire.Cut(); w.wire.Set(wire.State{}); end() })
}

// restart restarts the database: with a goodbye, without one, or after a death.
func (c *chaos) restart(s step) error {
	switch s.Kind {
	case 0:
		defer c.note(faultRestart, nil, "the database restarts, fast")()
		return c.cluster.Restart(pgtest.Fast)
	case 1:
		defer c.note(faultRestart, nil, "the database restarts, immediate")()
		return c.cluster.Restart(pgtest.Immediate)
	}
	defer c.note(faultRestart, nil, "the database is killed and starts again")()
	if err := c.cluster.Kill(); err != nil {
		return err
	}
	return c.cluster.Start()
}

// sqlTerminate ends backends: those of a worker's session and batches, those of all batches, or a third of all.
var sqlTerminate = [...]string{
	`application_name LIKE 'pupsourcing-worker %' AND abs(hashtext(application_name)) % 3 = $1 % 3`,
	`application_name LIKE 'pupsourcing-worker %' AND xact_start IS NOT NULL AND $1::bigint IS NOT NULL`,
	`(pid + $1) % 3 = 0`,
}

func (c *chaos) terminate(ctx context.Context, s step) {
	end := c.injections.begin(faultTerminate, "", "backends are ended")
	defer end()
	var ended int
	err := c.pool.QueryRow(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND application_name <> 'chaos' AND `+sqlTerminate[s.Kind],
		int64(s.Pick%1000)).Scan(&ended)
	if c.options.Verbose {
		c.say("%6.2fs  %-9s %d backends are ended (%v)", time.Since(c.began).Seconds(), faultTerminate, ended, err)
	}
}
