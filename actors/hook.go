package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// failureHook calls the application's function for failures, one after the other, on a goroutine of its own. Nobody waits for it: what does not fit
// into its queue is dropped.
type failureHook struct {
	call    func(context.Context, projection.Failure)
	queue   chan projection.Failure
	ctx     context.Context
	cancel  context.CancelFunc
	ending  chan struct{} // closed when no more is to come
	ended   chan struct{} // closed when its goroutine has ended
	grace   time.Duration
	log     *slog.Logger
	notices *notices
	metrics *measure.ReplicaSet
}

const (
	// hookQueue is how many failures may wait for the hook.
	hookQueue = 128
	// hookGrace is how long what waits has at most when the worker ends, before the hook's context ends.
	hookGrace = time.Second
)

// startHook starts the worker's hook; nil if it has none.
func startHook(w *worker) *failureHook {
	if w.FailureHook == nil {
		return nil
	}
	h := &failureHook{
		grace: min(hookGrace, w.Timing.Drain/4), // a quarter of what handlers have, so that it is within the shutdown timeout
		call:  w.FailureHook, queue: make(chan projection.Failure, hookQueue), ending: make(chan struct{}), ended: make(chan struct{}),
		log: w.logger("failure hook"), notices: &w.notices, metrics: w.Metrics,
	}
	w.Metrics.ShowHook()
	h.ctx, h.cancel = context.WithCancel(context.Background())
	go h.run()
	return h
}

// tell queues a failure, or drops it.
func (h *failureHook) tell(f projection.Failure) {
	if h == nil {
		return
	}
	select {
	case h.queue <- f:
	default:
		h.metrics.HookDropped()
		if h.notices.due("failure hook", personInterval) {
			h.log.Warn("the failure hook is slower than failures come, so some are not told to it", "waiting", hookQueue)
		}
	}
}

// run calls the hook until the worker ends. A hook that ends its goroutine gets another.
func (h *failureHook) run() {
	finished := false
	defer func() {
		if finished {
			close(h.ended)
			return
		}
		go h.run()
	}()
	for {
		select {
		case f := <-h.queue:
			h.one(f)
			continue
		case <-h.ending:
		}
		for h.ctx.Err() == nil {
			select {
			case f := <-h.queue:
				h.one(f)
				continue
			default:
			}
			break
		}
		finished = true
		return
	}
}

// one calls the hook for a failure.
func (h *failureHook) one(f projection.Failure) {
	defer func() {
		if value := recover(); value != nil {
			h.log.Error("the failure hook panicked", "error", fmt.Sprint(value), "stack", string(debug.Stack()))
		}
	}()
	h.call(h.ctx, f)
}

// end has the hook called for what waits, for a short while. A hook that does not return is not waited for.
func (h *failureHook) end() {
	if h == nil {
		return
	}
	close(h.ending)
	grace := time.NewTimer(h.grace)
	defer grace.Stop()
	select {
	case <-h.ended:
	case <-grace.C:
		h.log.Warn("the failure hook does not return and is not waited for")
	}
	h.cancel()
}

// failureOf is what the hook is told of a failed attempt. It keeps nothing of the event's memory alive.
func (p *processor) failureOf(event es.PersistedEvent, d handling.Decision) *projection.Failure {
	if p.worker.hook == nil {
		return nil
	}
	err := d.Err
	if panicked, ok := errors.AsType[*handling.PanicError](err); ok {
		err = (*projection.PanicError)(panicked)
	}
	of := p.delivery()
	return &projection.Failure{
		ReplicaSet: of.ReplicaSet, Worker: of.Worker, Generation: of.Generation, PartitionKey: of.PartitionKey, TotalPartitions: of.TotalPartitions,
		Projection: p.fence.Projection, Attempt: p.failing.attempts, Class: projection.Class(d.Class),
		Retry: d.Outcome == handling.Retry, Delay: d.Delay, Outcome: projection.Outcome(d.Outcome - handling.Stop), Err: err,
		Event: projection.FailedEvent{
			GlobalPosition: event.GlobalPosition, EventID: event.EventID, EventType: strings.Clone(event.EventType), EventVersion: event.EventVersion,
			BoundedContext: strings.Clone(event.BoundedContext), AggregateType: strings.Clone(event.AggregateType),
			AggregateID: strings.Clone(event.AggregateID), AggregateVersion: event.AggregateVersion, CreatedAt: event.CreatedAt,
		},
	}
}

// tellHook tells the hook of a failure, if there is a hook.
func (p *processor) tellHook(f *projection.Failure) {
	if f != nil {
		p.worker.hook.tell(*f)
	}
}
