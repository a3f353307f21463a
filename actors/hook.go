package actors

import (
	"errors"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// failureHook calls the application's function for failures. Nobody waits for it.
type failureHook = handling.Hook[projection.Failure]

// startHook starts the worker's hook; nil if it has none.
func startHook(w *worker) *failureHook {
	if w.FailureHook == nil {
		return nil
	}
	w.Metrics.ShowHook()
	log := w.logger("failure hook")
	// A quarter of what handlers have, so that it is within the shutdown timeout.
	return handling.StartHook(w.FailureHook, w.Timing.Drain/4, log, func() {
		w.Metrics.HookDropped()
		if w.notices.due("failure hook", personInterval) {
			log.Warn("the failure hook is too slow, so some failures are not passed to it", "waiting", handling.HookQueue)
		}
	})
}

// failureOf is what the hook is told of a failed attempt; nil if nobody is told.
func (p *processor) failureOf(event es.PersistedEvent, d handling.Decision) *projection.Failure {
	if p.worker.hook == nil && p.worker.Failed == nil {
		return nil
	}
	err := d.Err
	if panicked, ok := errors.AsType[*handling.PanicError](err); ok {
		err = (*projection.PanicError)(panicked)
	}
	of := p.delivery()
	return &projection.Failure{
		ReplicaSet: of.ReplicaSet, Worker: of.Worker, Generation: of.Generation, PartitionKey: of.PartitionKey, TotalPartitions: of.TotalPartitions,
		Projection: p.fence.Projection, Event: projection.FailedEvent(handling.FailedEventOf(event)), Attempt: p.failing.attempts, Class: projection.Class(d.Class),
		Retry: d.Outcome == handling.Retry, Delay: d.Delay, Outcome: handling.Public[projection.Outcome](d.Outcome), Err: err,
	}
}

// tellFailed tells Config.Failed and the hook of a failure, where there are any. The hook may hang, so it comes last.
func (p *processor) tellFailed(f *projection.Failure) {
	if f == nil {
		return
	}
	if p.worker.Failed != nil {
		p.worker.Failed(*f)
	}
	p.worker.hook.Tell(*f)
}
