package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// blockerWatch looks, while a generation is being activated, for workers'
// backends that hold it up, and ends them: those of workers that are known to
// be dead at once, any other after the coordination timeout.
type blockerWatch struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// blockerInterval is how often the watch looks; an activation that nothing
// blocks is over before its first look.
const blockerInterval = 100 * time.Millisecond

func watchBlockers(ctx context.Context, w *worker, pid int, log *slog.Logger) *blockerWatch {
	ctx, cancel := context.WithCancel(ctx)
	watch := &blockerWatch{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(watch.done)
		began := time.Now()
		ticks := time.NewTicker(blockerInterval)
		defer ticks.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
			}
			patient := time.Since(began) < w.Timing.Coordination
			if err := endBlockers(ctx, w, pid, patient, log); err != nil && ctx.Err() == nil {
				log.Warn("looking for what holds up the generation failed", "error", err)
			}
		}
	}()
	return watch
}

// end stops the watch, if there is one, and waits for it.
func (b *blockerWatch) end() {
	if b == nil {
		return
	}
	b.cancel()
	<-b.done
}

// endBlockers ends the backends that the activation waits for: of the dead, and
// of the living too if it is not patient any more.
func endBlockers(ctx context.Context, w *worker, pid int, patient bool, log *slog.Logger) error {
	return w.coordinate(ctx, func(ctx context.Context, db pgcoord.Conn) error {
		blockers, err := w.Store.Blockers(ctx, db, pid)
		if err != nil {
			return err
		}
		for _, b := range blockers {
			dead := b.State == pgcoord.Dead || b.State == pgcoord.Stopped
			if !dead && patient {
				continue
			}
			log.Warn("ending a worker's backend, whose batch holds up the new generation",
				"blocking_worker", b.Worker, "worker_state", string(b.State), "pid", b.PID)
			w.Metrics.BackendTerminated()
			if err := w.Store.EndBackend(ctx, db, b.PID, b.Worker); err != nil {
				return err
			}
		}
		return nil
	})
}
