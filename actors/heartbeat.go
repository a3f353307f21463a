package actors

import (
	"context"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// heartbeat renews the worker's lease.
//
//	receives  Joined             beat now: there is a lease to renew
//	          SessionConnected   beat now: the last one may have failed
//	sends     LeaseRenewed       to the supervisor: trusted until then
//	          LeaseExpired       to the supervisor: no heartbeat succeeded for too long
//	          DeclaredDead       to the supervisor: there is no lease to renew
//	itself    beatDue, beaten, leaseDue
type heartbeat struct {
	worker *worker
	log    *slog.Logger
	loop   *health.Loop

	ctx     context.Context
	cancel  context.CancelFunc
	beating bool        // a heartbeat is on its way
	again   bool        // and another is wanted
	until   time.Time   // the lease's end; zero if it has none
	due     *time.Timer // of the next heartbeat
	expiry  *time.Timer // of the lease
}

type (
	// beatDue says that it is time for a heartbeat.
	beatDue struct{}
	// beaten is a heartbeat's result.
	beaten struct {
		began time.Time
		alive bool
		err   error
	}
	// leaseDue says that the lease has ended, unless it was renewed.
	leaseDue struct{ until time.Time }
)

// newHeartbeat makes a heartbeat that takes over a lease until then; the zero
// time is none.
func newHeartbeat(w *worker, until time.Time) *heartbeat {
	ctx, cancel := context.WithCancel(context.Background())
	loop := w.Loops.Watch(kindHeartbeat, w.Timing.Heartbeat+w.beatTimeout()+5*time.Second)
	return &heartbeat{worker: w, log: w.logger(kindHeartbeat), loop: loop, ctx: ctx, cancel: cancel, until: until}
}

// Receive is the actor's protocol.
func (h *heartbeat) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		if !h.until.IsZero() {
			h.armExpiry(c)
		}
		h.beat(c)
	case *beatDue, messages.ToHeartbeat:
		h.beat(c)
	case *beaten:
		h.beaten(c, m)
	case *leaseDue:
		if m.until.Equal(h.until) {
			h.expire(c)
		}
	case *actor.Stopping:
		h.cancel()
		stopTimers(h.due, h.expiry)
	default:
		unknown(c, h.worker, kindHeartbeat)
	}
}

// beatTimeout bounds a heartbeat.
func (w *worker) beatTimeout() time.Duration { return max(w.Timing.trust()/2, time.Second) }

// beat writes a heartbeat, unless one is on its way.
func (h *heartbeat) beat(c actor.Context) {
	if h.beating {
		h.again = true
		return
	}
	h.beating, h.again = true, false
	stopTimers(h.due)
	root, self, w := c.ActorSystem().Root, c.Self(), h.worker
	ctx, cancel := context.WithTimeout(h.ctx, w.beatTimeout())
	go func() {
		defer cancel()
		result := &beaten{began: time.Now()}
		result.err = w.coordinate(ctx, func(ctx context.Context, db pgcoord.Conn) (err error) {
			result.began = time.Now()
			result.alive, err = w.Store.Heartbeat(ctx, db, w.self())
			return err
		})
		w.Metrics.Heartbeat(time.Since(result.began), result.err == nil)
		root.Send(self, result)
	}()
}

// beaten renews the lease from the moment at which the heartbeat began, or
// tries again soon.
func (h *heartbeat) beaten(c actor.Context, m *beaten) {
	h.beating = false
	h.loop.Round()
	next := h.worker.Timing.Heartbeat
	switch {
	case m.err != nil:
		next /= 5
		h.worker.databaseFailed(h.log, "heartbeat", m.err, "next_try", next)
	case !m.alive:
		c.Send(c.Parent(), messages.DeclaredDead{})
	default:
		h.renew(c, m.began)
	}
	if h.again {
		h.beat(c)
		return
	}
	root, self := c.ActorSystem().Root, c.Self()
	h.due = time.AfterFunc(next, func() { root.Send(self, &beatDue{}) })
}

// renew moves the end of the lease.
func (h *heartbeat) renew(c actor.Context, began time.Time) {
	until := began.Add(h.worker.Timing.trust())
	if time.Until(until) <= 0 {
		return // the answer came too late to trust it
	}
	h.until = until
	h.armExpiry(c)
	c.Send(c.Parent(), messages.LeaseRenewed{Until: until})
}

// armExpiry sets the timer of the lease's end.
func (h *heartbeat) armExpiry(c actor.Context) {
	stopTimers(h.expiry)
	root, self, due := c.ActorSystem().Root, c.Self(), &leaseDue{until: h.until}
	h.expiry = time.AfterFunc(time.Until(h.until), func() { root.Send(self, due) })
}

// expire ends the trust.
func (h *heartbeat) expire(c actor.Context) {
	h.until = time.Time{}
	h.worker.Metrics.LeaseExpired()
	h.log.Error("no heartbeat succeeded for too long: others may consider this worker dead, so it stops handling events",
		"stale_worker_timeout", h.worker.Timing.Stale)
	c.Send(c.Parent(), messages.LeaseExpired{})
}

// stopTimers stops those that are set.
func stopTimers(timers ...*time.Timer) {
	for _, t := range timers {
		if t != nil {
			t.Stop()
		}
	}
}

// unknown counts a message that the actor does not know; the library's own
// lifecycle messages that need no answer pass in silence.
func unknown(c actor.Context, w *worker, kind string) {
	switch c.Message().(type) {
	case *actor.Started, *actor.Stopping, *actor.Stopped, *actor.Terminated, *actor.Restarting,
		*actor.DeadLetterResponse: // whom it asked had ended; that is counted as undelivered
		return
	}
	w.Metrics.ActorUnknownMessage(kind)
	w.Logger.Error("an actor got a message that it does not know", "actor", kind, "message", messageName(c.Message()))
}
