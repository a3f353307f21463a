package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/actors"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/budget"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// work keeps a worker running until ctx ends. A worker ends earlier only if its supervisor panicked. Another one then
// takes its place.
func (o *Orchestrator) work(ctx context.Context, cfg actors.Config, d described) error {
	log := cfg.Logger
	log.InfoContext(ctx, "joining the replica set", "projections", cfg.Membership.Projections, "version", cfg.Membership.Version)
	d.logPolicies(ctx, log)
	o.warnOfFewConnections(ctx, cfg)
	cfg.Handlers = actors.NewHandlers(cfg.Batch.HangAfter, cfg.Metrics)
	closed := make(chan struct{})
	cfg.PoolClosed = sync.OnceFunc(func() { close(closed) })
	for {
		w, err := actors.Start(cfg)
		if err != nil {
			return fmt.Errorf("running replica set %q: %w", o.replicaSet, err)
		}
		select {
		case <-ctx.Done():
			return o.leave(w, cfg)
		case <-closed:
			return o.leaveClosedPool(ctx, w, cfg)
		case <-w.Done():
			log.ErrorContext(ctx, "the worker ended unexpectedly and is started again")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// warnOfFewConnections logs a warning if the pool has too few connections for all batches of a worker with several
// partitions.
func (o *Orchestrator) warnOfFewConnections(ctx context.Context, cfg actors.Config) {
	connections := o.db.Config().MaxConns
	if atOnce, most := budget.AtOnce(connections, budget.KeptForWorkers), mostBatches(cfg.Membership); atOnce < most && cfg.Membership.Partitions > 1 {
		cfg.Logger.WarnContext(ctx, "the pool has too few connections for all batches at once: handlers that are slow hold up others",
			"pool_connections", connections, "batches_at_once", atOnce, "batches_possible", most)
	}
}

// mostBatches is how many batches a worker could handle at once with enough connections: one per partition of each
// projection.
func mostBatches(m pgcoord.Membership) int {
	whole := len(m.Unpartitioned)
	return (len(m.Projections)-whole)*m.Partitions + whole
}

// leave asks the worker to leave and waits for it. If that takes too long, it stops the worker.
func (o *Orchestrator) leave(w *actors.Worker, cfg actors.Config) error {
	cfg.Logger.Info("leaving the replica set")
	o.health.member.Enter(health.Leaving)
	w.Leave()
	soft, hard := o.config.shutdown()
	patience := time.NewTimer(soft)
	defer patience.Stop()
	select {
	case <-w.Done():
		if busy := w.Busy(); len(busy) > 0 {
			return fmt.Errorf("leaving replica set %q: %w: handlers were abandoned, which do not heed their context; what they do is rolled back: %s",
				o.replicaSet, ErrNotStopped, strings.Join(busy, "; "))
		}
		cfg.Logger.Info("left the replica set")
		return nil
	case <-patience.C:
	}
	busy := w.Busy()
	w.Stop()
	patience.Reset(hard)
	select {
	case <-w.Done():
	case <-patience.C:
	}
	if len(busy) == 0 {
		return fmt.Errorf("leaving replica set %q: %w: the goodbye could not be written within %s; the others will notice by themselves", o.replicaSet, ErrNotStopped, soft)
	}
	return fmt.Errorf("leaving replica set %q: %w: after %s handlers were still running: %s", o.replicaSet, ErrNotStopped, soft, strings.Join(busy, "; "))
}

// leaveClosedPool leaves after the application has closed the pool. The worker could handle nothing any more, but its session would
// keep its partitions from the others.
func (o *Orchestrator) leaveClosedPool(ctx context.Context, w *actors.Worker, cfg actors.Config) error {
	if ctx.Err() != nil {
		return o.leave(w, cfg)
	}
	cfg.Logger.ErrorContext(ctx, "the pool was closed while Run was running, so the worker leaves")
	return errors.Join(fmt.Errorf("running replica set %q: the pool was closed", o.replicaSet), o.leave(w, cfg))
}

// hardStop is the most time that a worker has to end without recording its departure. It is the end of the shutdown
// timeout.
const hardStop = 500 * time.Millisecond

// shutdown divides the shutdown timeout into the time to leave in good order and the time to stop if that fails.
func (c *config) shutdown() (soft, hard time.Duration) {
	hard = min(hardStop, c.shutdownTimeout/4)
	return c.shutdownTimeout - hard, hard
}
