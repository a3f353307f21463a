package handling

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// Hook calls the application's function for failures, one after the other, on a goroutine of its own. Nobody waits for it: what does not fit
// into its queue is dropped. F is projection.Failure. A nil Hook does nothing.
type Hook[F any] struct {
	call    func(context.Context, F)
	queue   chan F
	ctx     context.Context
	cancel  context.CancelFunc
	ending  chan struct{} // closed when no more is to come
	ended   chan struct{} // closed when its goroutine has ended
	grace   time.Duration
	log     *slog.Logger
	dropped func()
}

const (
	// HookQueue is how many failures may wait for the hook.
	HookQueue = 128
	// HookGrace is how long what waits has at most when its owner ends, before the hook's context ends.
	HookGrace = time.Second
)

// StartHook starts a hook; nil if there is nothing to call. dropped is called for each failure that is not told to it.
func StartHook[F any](call func(context.Context, F), grace time.Duration, log *slog.Logger, dropped func()) *Hook[F] {
	if call == nil {
		return nil
	}
	h := &Hook[F]{
		call: call, queue: make(chan F, HookQueue), ending: make(chan struct{}), ended: make(chan struct{}),
		grace: min(grace, HookGrace), log: log, dropped: dropped,
	}
	h.ctx, h.cancel = context.WithCancel(context.Background()) //nolint:gosec // End calls it
	go h.run()
	return h
}

// Tell queues a failure, or drops it.
func (h *Hook[F]) Tell(f F) {
	if h == nil {
		return
	}
	select {
	case h.queue <- f:
	default:
		h.dropped()
	}
}

// run calls the hook until its owner ends. A hook that ends its goroutine gets another.
func (h *Hook[F]) run() {
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
func (h *Hook[F]) one(f F) {
	defer func() {
		if value := recover(); value != nil {
			h.log.Error("the failure hook panicked", "error", Abridged(fmt.Sprint(value)), "stack", string(debug.Stack()))
		}
	}()
	h.call(h.ctx, f)
}

// End has the hook called for what waits, for a short while. A hook that does not return is not waited for.
func (h *Hook[F]) End() {
	if h == nil {
		return
	}
	close(h.ending)
	grace := time.NewTimer(h.grace)
	defer grace.Stop()
	select {
	case <-h.ended:
	case <-grace.C:
		h.log.Warn("the failure hook does not return, and shutdown does not wait for it")
	}
	h.cancel()
}
