package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Report is the result of RunUntilCaughtUp.
type Report struct {
	// Position is the horizon at the time of the call: no event at or below it could still appear. It is 0 if the
	// horizon was not found.
	Position int64
	// Projections are in the order in which they were passed.
	Projections []ProjectionReport
	// Took is the duration of the call.
	Took time.Duration
}

// ProjectionReport is the result of RunUntilCaughtUp for one projection.
type ProjectionReport struct {
	Projection string
	// CaughtUp is true if everything up to Report.Position was handled, by this worker or by others.
	CaughtUp bool
	// Position is the position up to which everything was handled when the call ended. It may be above Report.Position.
	Position int64
	// Events is the number of events that this worker handled. Letters is the number that it skipped or parked under the
	// error policy.
	Events, Letters int64
	// Took is how long the projection took to catch up. If it did not catch up, it is the duration of the call.
	Took time.Duration
}

// errCaughtUp ends a run that has caught up.
var errCaughtUp = errors.New("the projections have caught up")

// catchUp is a call of RunUntilCaughtUp.
type catchUp struct {
	orchestrator *Orchestrator
	began        time.Time
	end          context.CancelCauseFunc
	waits        sync.WaitGroup

	mu     sync.Mutex
	report Report
	index  map[string]int // of a projection in the report
}

// RunUntilCaughtUp handles every event up to the horizon at the time of the call, and returns a report. Until then it is
// an ordinary worker of the replica set. Other workers that run at the same time share the events with it, and the
// events that they handle count. It does not wait for events above the horizon, such as those that were committed while
// a transaction with a lower position was open.
//
// It ends at the first event that this worker's handlers fail on. The error names the event and wraps the handler's
// error. If the projection's error policy limits the attempts, they are made first, and only the outcome Stop ends the
// call; skipped and parked events are counted.
//
// The error wraps ErrProjectionPaused, ErrProjectionStopped or ErrProjectionReplaced if a projection is paused, stopped
// or replaced. It wraps ErrNotRunning if somebody has drained the worker, by name or during the call, unless another
// worker runs the projection. If ctx ends first, it wraps ctx.Err(). Other errors are those of Run. The report is valid
// with an error too, and says how far each projection is.
func (o *Orchestrator) RunUntilCaughtUp(ctx context.Context, projections []projection.Projection) (Report, error) {
	if ctx == nil {
		return Report{}, fmt.Errorf("catching up replica set %q: ctx must not be nil", o.replicaSet)
	}
	run, end := context.WithCancelCause(ctx)
	defer end(nil)
	c := &catchUp{orchestrator: o, began: time.Now(), end: end, index: map[string]int{}}
	err := o.run(run, projections, c)
	cause := context.Cause(run)
	end(err)
	c.waits.Wait()
	report := c.finish(ctx)
	switch {
	case err != nil && (cause == nil || errors.Is(cause, errCaughtUp)):
		return report, err
	case errors.Is(cause, errCaughtUp):
		return report, nil
	case ctx.Err() != nil && !errors.Is(cause, ctx.Err()):
		cause = fmt.Errorf("%w: %w", ctx.Err(), cause)
	}
	return report, errors.Join(fmt.Errorf("catching up replica set %q: %w", o.replicaSet, cause), err)
}

// start finds the horizon, has the worker report to the call, and ends it when all is handled.
func (c *catchUp) start(ctx context.Context, cfg *actors.Config, d described, waits *waiting.Hub) error {
	upTo, err := c.horizon(ctx, cfg)
	if err != nil {
		return err
	}
	c.report.Position = upTo
	for i, name := range d.names {
		c.index[name] = i
		c.report.Projections = append(c.report.Projections, ProjectionReport{Projection: name})
	}
	cfg.Handled = c.handled
	cfg.Failed = c.failed(d.projections)
	var all sync.WaitGroup
	for _, name := range d.names {
		all.Go(func() {
			err := waits.Wait(ctx, waiting.Wait{Projection: name, Position: upTo, Letters: true})
			if err == nil {
				c.caughtUp(name)
				return
			}
			if errors.Is(err, waiting.ErrStopped) { // the worker tells the event, if it was stopped just now
				select {
				case <-ctx.Done():
				case <-time.After(stopPatience):
				}
			}
			c.end(fmt.Errorf("projection %q: %w", name, err))
		})
	}
	c.waits.Go(func() {
		all.Wait()
		c.end(errCaughtUp) // unless it has ended
	})
	if c.orchestrator.config.progress != nil {
		c.waits.Go(func() { c.tell(ctx) })
	}
	return nil
}

// tell reports progress to the application until the call ends.
func (c *catchUp) tell(ctx context.Context) {
	next := time.NewTicker(progressEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		report := c.look(ctx)
		if ctx.Err() != nil {
			return
		}
		c.tellOnce(ctx, report)
	}
}

func (c *catchUp) tellOnce(ctx context.Context, report Report) {
	defer func() {
		if value := recover(); value != nil {
			c.orchestrator.config.logger.ErrorContext(ctx, "the function of WithProgress panicked", "replica_set", c.orchestrator.replicaSet, "panic", value)
		}
	}()
	c.orchestrator.config.progress(ctx, report)
}

// horizon probes the horizon once.
func (c *catchUp) horizon(ctx context.Context, cfg *actors.Config) (int64, error) {
	db := c.orchestrator.guarded
	prober := horizon.NewProber(db.Pool, cfg.EventStore.EventsTable(), cfg.Store.Regressions(db), horizon.Options{Slot: slot.SQL})
	for failures := 1; ; failures++ {
		reading, err := prober.Probe(ctx)
		if err == nil || ctx.Err() != nil || len(horizon.ReasonsOf(err)) > 0 || !mayPass(err) {
			return reading.Position, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(startBackoff.After(failures)):
		}
	}
}

// handled counts what the worker has committed.
func (c *catchUp) handled(name string, events, letters int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.report.Projections[c.index[name]]
	p.Events += int64(events)
	p.Letters += int64(letters)
}

func (c *catchUp) caughtUp(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := &c.report.Projections[c.index[name]]
	p.CaughtUp, p.Took = true, time.Since(c.began)
}

// failed ends the call at a failure that must end it. The application's hook has no part in that, since it may hang.
func (c *catchUp) failed(projections []handling.Description) func(projection.Failure) {
	return func(f projection.Failure) {
		forEver := projections[c.index[f.Projection]].Policy.Attempts == 0
		if f.Retry && forEver || !f.Retry && f.Outcome == projection.Stop {
			e, err := f.Event, f.Err
			if !f.Retry {
				err = fmt.Errorf("%w: %w", ErrProjectionStopped, err)
			}
			c.end(fmt.Errorf("projection %q failed on event %s (%s) at position %d, of aggregate %q of type %q in context %q: %w",
				f.Projection, e.EventID, e.EventType, e.GlobalPosition, e.AggregateID, e.AggregateType, e.BoundedContext, err))
		}
	}
}

// finish completes the report with the projections' positions.
func (c *catchUp) finish(ctx context.Context) Report {
	if len(c.report.Projections) == 0 {
		c.report.Took = time.Since(c.began)
		return c.report
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
	defer cancel()
	return c.look(ctx)
}

// look returns the current report.
func (c *catchUp) look(ctx context.Context) Report {
	var q waiting.Question
	for name := range c.index {
		q.Projections = append(q.Projections, name)
	}
	answer, err := c.orchestrator.lookForWaits(ctx, q)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Took = time.Since(c.began)
	for i := range c.report.Projections {
		p := &c.report.Projections[i]
		if err == nil {
			p.Position = slot.Lowest(answer.Standings[p.Projection].Pieces)
		}
		if !p.CaughtUp {
			p.Took = c.report.Took
		}
	}
	report := c.report
	report.Projections = slices.Clone(report.Projections)
	return report
}

const (
	// lastLook bounds the final look at the projections' positions.
	lastLook = 5 * time.Second
	// progressEvery is how often WithProgress is called.
	progressEvery = time.Second
	// stopPatience is how long a stop that was noticed waits for the failure that caused it.
	stopPatience = time.Second
)
