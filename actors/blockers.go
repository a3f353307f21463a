package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// blockerWatch looks, while a generation is being activated, for workers'
// backends that hold it up, and ends them: those of workers that are known to
// be dead at once, any other after the coordination timeout. What it may not end
// by then is named to people.
type blockerWatch struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// blockerInterval is how often the watch looks; an activation that nothing
// blocks is over before its first look.
const blockerInterval = 100 * time.Millisecond

// blockedInterval is how often an error is logged of what holds up a generation.
const blockedInterval = time.Minute

// watchBlockers watches what the backend pid waits for. The generation has been prepared for so long.
func watchBlockers(ctx context.Context, w *worker, pid int, prepared time.Duration, log *slog.Logger) *blockerWatch {
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
			patient := prepared+time.Since(began) < w.Timing.Coordination
			// A statement on its way is answered: to break it off would cost the connection.
			if err := endBlockers(context.WithoutCancel(ctx), w, pid, patient, log); err != nil && ctx.Err() == nil {
				log.Warn("could not find out what holds up the generation", "error", err)
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
			dead := b.State == replicaset.Dead || b.State == replicaset.Stopped
			if !dead && patient {
				continue
			}
			if err := endBlocker(ctx, w, db, b, patient, log); err != nil {
				return err
			}
		}
		return nil
	})
}

// endBlocker ends a backend if it is a worker's and this worker may.
func endBlocker(ctx context.Context, w *worker, db pgcoord.Conn, b pgcoord.Blocker, patient bool, log *slog.Logger) error {
	if b.Worker != uuid.Nil {
		err := w.Store.EndBackend(ctx, db, b.PID, b.Worker)
		right, refused := errors.AsType[*pgcoord.RightError](err)
		if err == nil {
			w.Metrics.BackendTerminated()
			log.Warn("ended a worker's backend, whose batch held up the new generation",
				"blocking_worker", b.Worker, "worker_state", string(b.State), "pid", b.PID)
		}
		if !refused {
			return err
		}
		w.warnOfRight(log, right)
	}
	if patient {
		return nil
	}
	w.Metrics.GenerationBlocked(true)
	if !w.notices.due(fmt.Sprintf("blocked by %d", b.PID), blockedInterval) {
		return nil
	}
	remedy := fmt.Sprintf("SELECT pg_terminate_backend(%d)", b.PID)
	if b.PID == 0 {
		remedy = "COMMIT PREPARED or ROLLBACK PREPARED (see pg_prepared_xacts)"
	}
	attrs := []any{"pid", b.PID, "role", b.Role, "application_name", b.Application, "remedy", remedy}
	if b.Worker != uuid.Nil {
		attrs = append(attrs, "blocking_worker", b.Worker, "worker_state", string(b.State))
	}
	log.Error("a transaction that this worker may not end holds up the new generation, and no events are handled until it ends", attrs...)
	return nil
}
