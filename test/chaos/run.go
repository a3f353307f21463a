package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// report is what came of a run.
type report struct {
	findings []finding
	figures  figures
	kept     string // where the evidence is; empty if there is none
}

// ok says whether nothing was violated.
func (r report) ok() bool {
	for _, f := range r.findings {
		if f.Count > 0 {
			return false
		}
	}
	return len(r.findings) > 0
}

// run is a whole run. The error is this program's; what the library did wrong is in the report.
func run(ctx context.Context, o options, output io.Writer) (r report, err error) {
	var line sync.Mutex // what lasts is told of by goroutines of its own
	say := func(format string, args ...any) {
		line.Lock()
		defer line.Unlock()
		fmt.Fprintf(output, format+"\n", args...)
	}
	c := &chaos{options: o, say: say}
	defer func() {
		keep := err != nil || !r.ok() || o.Keep
		err = errors.Join(err, c.close(keep))
		if keep {
			r.kept = c.dir
		}
	}()
	if err := c.prepare(ctx); err != nil {
		return r, err
	}
	if err := c.trouble(ctx); err != nil {
		return r, err
	}
	settled, err := c.settle(ctx)
	if err != nil {
		return r, err
	}
	r.findings = append(r.findings, settled...)
	r, err = c.judge(ctx, r)
	if err == nil && (!r.ok() || o.Keep) {
		err = c.preserve(ctx, r)
	}
	return r, err
}

// trouble is the part of the run in which faults happen.
func (c *chaos) trouble(ctx context.Context) error {
	c.began = time.Now()
	for range c.options.Workers {
		if _, err := c.fleet.spawn(ctx); err != nil {
			return err
		}
	}
	c.writers = workload.StartWriters(ctx, c.pool, c.store, writing)
	c.troubles = startTroublemakers(ctx, c.pool, c.store, c.options)
	ending, end := context.WithCancel(ctx)
	defer end()
	if has(c.options.Faults, faultCutOver) {
		c.lasting.Go(func() { c.cutOvers(ending) })
	}
	var failed, failedMoves error
	if has(c.options.Faults, faultMove) {
		c.lasting.Go(func() { failedMoves = c.moves(ending) })
	}
	for _, s := range schedule(c.options) {
		if !rest(ctx, time.Until(c.began.Add(s.At))) {
			return context.Cause(ctx)
		}
		if failed = c.perform(ending, s); failed != nil {
			failed = fmt.Errorf("doing %s: %w", s.Fault, failed)
			break
		}
	}
	rest(ctx, time.Until(c.began.Add(c.options.Duration)))
	end() // what lasts is over
	c.lasting.Wait()
	return errors.Join(failed, failedMoves, context.Cause(ctx))
}

// Bounds of the end of a run.
const (
	settlePatience = 2 * time.Minute // until everybody runs and has reached the end
	quiet          = 4 * time.Second // in which no generation may change
	quietTries     = 5
	calmPatience   = 20 * time.Second // until events of a calm time are handled
	leavePatience  = 30 * time.Second // until all have left
)

// settle lets the world become quiet: everything must come to its end then, and stay so.
func (c *chaos) settle(ctx context.Context) ([]finding, error) {
	c.writers.Stop()
	if err := c.troubles.finish(ctx); err != nil {
		return nil, err
	}
	for len(c.fleet.staying()) < max(leastWorkers+1, c.options.Workers/2) {
		if _, err := c.fleet.spawn(ctx); err != nil {
			return nil, err
		}
	}
	if err := c.settleMoves(ctx); err != nil {
		return nil, err
	}
	c.say("%6.2fs  the faults are over; %d workers are left", time.Since(c.began).Seconds(), len(c.fleet.staying()))
	stalled := finding{Name: "stalled", Means: "something that was not done in time when the world was quiet"}
	unsettled := finding{Name: "unsettled", Means: "a change of generation, or a worker that is not running, in a quiet world"}
	atRest, err := c.appease(ctx)
	if err != nil {
		return nil, err
	}
	defer atRest()
	if !c.awaitEnd(ctx, settlePatience, &stalled) {
		return []finding{stalled, unsettled}, nil
	}
	if err := c.awaitQuiet(ctx, &unsettled); err != nil {
		return nil, err
	}
	calm := writing
	calm.Transactions = 10
	if stats := workload.StartWriters(ctx, c.pool, c.store, calm).Wait(); stats.Failed > 0 {
		return nil, fmt.Errorf("writing in a calm time: %w", stats.Err)
	}
	if c.awaitEnd(ctx, calmPatience, &stalled) {
		c.dismiss(ctx, &stalled)
	}
	return []finding{stalled, unsettled}, nil
}

// awaitQuiet waits for a while in which the generation does not change. A machine that is busy with something else may cost
// a worker its lease and so cause a change; changes that do not end are a fault.
func (c *chaos) awaitQuiet(ctx context.Context, f *finding) error {
	before, err := workload.Observe(ctx, c.pool, replicaSet)
	if err != nil {
		return err
	}
	for range quietTries {
		rest(ctx, quiet)
		after, err := workload.Observe(ctx, c.pool, replicaSet)
		if err != nil {
			return err
		}
		if after.Current().Number == before.Current().Number {
			c.settled(after, f)
			return nil
		}
		c.say("        generation %d in a quiet world: %s", after.Current().Number, after.Current().Reason)
		before = after
	}
	f.add("generation %d changed: %s", before.Current().Number, before.Current().Reason)
	return nil
}

// add counts one violation.
func (f *finding) add(format string, args ...any) {
	f.Count++
	f.Rows = append(f.Rows, fmt.Sprintf(format, args...))
}

// awaitEnd waits until all workers run and every checkpoint has reached the last event. Workers that are in the way are added to f, and
// their logs say what they were doing.
func (c *chaos) awaitEnd(ctx context.Context, patience time.Duration, f *finding) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var open finding
	for {
		drained, err := c.drained(ctx)
		snapshot, lookErr := workload.Observe(ctx, c.pool, replicaSet)
		if err = errors.Join(err, lookErr); err == nil { // else what was found before stands
			open = finding{}
			if !drained {
				open.add("a checkpoint has not reached the last event, %d: %s", snapshot.Latest, laggards(snapshot))
			}
			resting, parked, err := c.unsettled(ctx)
			if err != nil || resting+parked > 0 {
				open.add("%d checkpoints are stopped or held, %d aggregates are parked (%v)", resting, parked, err)
			}
			if c.settled(snapshot, &open); open.Count == 0 {
				return true
			}
		}
		if !rest(ctx, 50*time.Millisecond) {
			if open.Count == 0 {
				open.add("nothing is known of the checkpoints: %v", err)
			}
			f.Count += open.Count
			f.Rows = append(f.Rows, open.Rows...)
			c.askForStacks()
			return false
		}
	}
}

// drained says whether every checkpoint of all replica sets has reached the last event.
func (c *chaos) drained(ctx context.Context) (bool, error) {
	for _, set := range c.replicaSets() {
		if drained, err := workload.Drained(ctx, c.pool, set); err != nil || !drained {
			return false, err
		}
	}
	return true, nil
}

// laggards are the assignments that are behind.
func laggards(s workload.Snapshot) string {
	var text strings.Builder
	for _, w := range s.Workers {
		for _, a := range w.Assignments {
			if a.Lag > 0 {
				fmt.Fprintf(&text, "%s has %s %s at %d; ", w.Name, a.Projection, a.Partition, a.Position)
			}
		}
	}
	return text.String()
}

// settled adds to f each worker that is alive and does not run in the active generation.
func (c *chaos) settled(s workload.Snapshot, f *finding) {
	g := s.Current()
	if g.State != "active" {
		f.add("generation %d is %s: %s", g.Number, g.State, g.Reason)
	}
	live := c.fleet.staying()
	for _, w := range live {
		if status, found := s.Worker(w.Name); !found || status.State != "running" || status.Generation != g.Number {
			f.add("%s is %q in generation %d, not running in %d", w.Name, status.State, status.Generation, g.Number)
		}
	}
	if len(g.Members) != len(live) {
		f.add("generation %d has %d members, %d workers are alive", g.Number, len(g.Members), len(live))
	}
}

// dismiss lets all workers leave, which they must do with grace now.
func (c *chaos) dismiss(ctx context.Context, f *finding) {
	leaving := c.fleet.there()
	for _, w := range leaving {
		_ = c.fleet.leave(w)
	}
	ctx, cancel := context.WithTimeout(ctx, leavePatience)
	defer cancel()
	for _, w := range leaving {
		select {
		case <-w.Done():
			if err := w.Outcome(); err != nil {
				f.add("%s did not leave with grace: %v", w.Name, err)
			}
		case <-ctx.Done():
			f.add("%s has not left", w.Name)
		}
	}
	if f.Count > 0 {
		c.askForStacks()
	}
}

// judge looks for violations in the tables.
func (c *chaos) judge(ctx context.Context, r report) (report, error) {
	if err := c.fleet.close(); err != nil {
		return r, err
	}
	if err := c.collect(ctx); err != nil {
		return r, err
	}
	found := make([]finding, 0, len(checks)+len(effectChecks)+len(r.findings)+3)
	for _, k := range slices.Concat(checks, effectChecks) {
		f, err := c.look(ctx, k)
		if err != nil {
			return r, err
		}
		found = append(found, f)
	}
	exited := finding{Name: "exited", Means: "a process that ended without being asked", Count: int64(len(c.fleet.exited)), Rows: c.fleet.exited}
	failed := finding{Name: "failed-leave", Means: "a worker that was asked to leave and failed otherwise than by handlers that took too long", Count: int64(len(c.fleet.failed)), Rows: c.fleet.failed}
	raced, err := c.races()
	if err != nil {
		return r, err
	}
	r.findings = append(append(found, exited, failed, raced), r.findings...)
	r.figures, err = c.figures(ctx)
	return r, err
}

// races looks into the workers' logs for what the race detector has found, where they were built with it.
func (c *chaos) races() (finding, error) {
	f := finding{Name: "raced", Means: "a data race in a worker"}
	for _, w := range c.fleet.all {
		log, err := os.ReadFile(w.LogFile)
		if err != nil {
			return f, fmt.Errorf("reading the log of worker %s: %w", w.Name, err)
		}
		if n := bytes.Count(log, []byte("WARNING: DATA RACE")); n > 0 {
			f.add("%d in %s", n, w.LogFile)
		}
	}
	return f, nil
}
