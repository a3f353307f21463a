package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// horizonActor finds out up to where events can be read.
//
//	receives  EventsAppended     look now
//	          WakeUps            whether the session is there, by which appends are notified
//	          AppendsWatched     whether the coordinators look for appends
//	sends     HorizonAdvanced    to the supervisor, whenever it moved, or is not known any more
//	itself    probeDue, probed
//
// It probes often while events come and seldom while they don't: the interval
// grows with the time since the horizon moved, up to the poll interval, and, after
// a while, beyond that where it will be told of appends: by the wake-up trigger, or
// by the coordinators, whose looks at the replica set show them. While a
// transaction that may have appended is open it keeps to the poll interval, since
// its wake-up may have been left to another.
type horizonActor struct {
	worker *worker
	log    *slog.Logger

	ctx       context.Context
	cancel    context.CancelFunc
	prober    *horizon.Prober // used by one goroutine at a time
	moved     time.Time       // when the horizon last did
	woken     bool            // an append was notified after the probe in flight began
	probing   bool            // a probe is in flight
	notified  bool            // appends are, by the trigger
	watched   bool            // by the coordinators
	connected bool            // the session, which brings the notifications
	looked    time.Time       // when the wake-up trigger was last looked for
	took      time.Duration   // the last probe
	ended     time.Time       // when it did
	position  int64
	came      int64         // how many positions the last probe found the horizon advanced by
	over      time.Duration // the time from the end of the probe before to that of the last
	epoch     uint64        // of what is announced; its upper half is which horizon of this worker it is
	known     bool          // position is the horizon, as far as others know
	run       uint64        // the prober's epoch
	due       *time.Timer
	blocked   time.Time // since when a transaction holds the horizon back; zero if none
	named     time.Time // when it was last logged
	failures  int
}

type (
	// probeDue says that it is time for a probe.
	probeDue struct{}
	// probed is a probe's result.
	probed struct {
		reading  horizon.Reading
		notified bool // appends are, as far as the database is concerned
		took     time.Duration
		err      error
	}
)

const (
	// horizonBusy is the least interval between probes that nothing calls for.
	horizonBusy         = 8 * time.Millisecond
	horizonTimeout      = 10 * time.Second
	horizonBlockedAfter = 5 * time.Second
	horizonNameEvery    = time.Minute
	// horizonIdle is the interval where it will be told of appends.
	horizonIdle = 5 * time.Second
	// horizonTriggerEvery is how often the wake-up trigger is looked for.
	horizonTriggerEvery = time.Minute
	// horizonShare is the part of its time that the horizon may spend probing:
	// one in so many, so that a busy server is not kept busier.
	horizonShare = 5
	// horizonRest is how many times as long as a probe took nothing is probed
	// after it, whoever calls for it.
	horizonRest = 1
	// horizonMany positions at once, and horizonFast in each millisecond, are a
	// stream that is handled in larger batches.
	horizonMany = 8
	horizonFast = 2
	// horizonSlow is how many times longer the horizon has stood still than
	// the next probe waits.
	horizonSlow = 5
)

func newHorizon(w *worker, life uint64) *horizonActor {
	ctx, cancel := context.WithCancel(context.Background())
	return &horizonActor{
		worker: w, log: w.logger(kindHorizon), ctx: ctx, cancel: cancel,
		prober: horizon.NewProber(w.Pool, w.EventStore.EventsTable(), w.Store.Rewinds(w.Pool), horizon.Options{BlockerAfter: horizonBlockedAfter}),
		epoch:  life << 32,
		known:  true, // an earlier life may have left one behind
		moved:  time.Now(),
	}
}

// Receive is the actor's protocol.
func (h *horizonActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started, *probeDue:
		h.probe(c)
	case messages.EventsAppended:
		h.wake(c)
	case messages.WakeUps:
		h.connected = m.Connected
		h.notified, h.looked = false, time.Time{} // until the next probe has looked for the trigger
		h.woken = true
		h.probe(c)
	case messages.AppendsWatched:
		h.watched = m.Watched
		h.wake(c) // which finds the new interval
	case *probed:
		h.probed(c, m)
	case *actor.Stopping:
		h.cancel()
		stopTimers(h.due)
	default:
		unknown(c, h.worker, kindHorizon)
	}
}

// wake looks at once, or, where appends come one after the other, when the
// horizon has rested for long enough that others get the server too.
func (h *horizonActor) wake(c actor.Context) {
	h.woken = true
	if h.probing {
		return
	}
	if rest := h.rest() - time.Since(h.ended); rest > 0 {
		h.probeAfter(c, rest)
		return
	}
	h.probe(c)
}

// rest is how long at least nothing is probed after a probe, whoever calls for
// it: hardly any, so that a few events are handled at once; but as if nothing
// called where they come so fast that handling many together is better.
func (h *horizonActor) rest() time.Duration {
	if h.came >= horizonMany && h.came >= horizonFast*h.over.Milliseconds() {
		return horizonBusy
	}
	return min(horizonRest*h.took, horizonBusy)
}

// probeAfter arms the next probe.
func (h *horizonActor) probeAfter(c actor.Context, d time.Duration) {
	stopTimers(h.due)
	root, self := c.ActorSystem().Root, c.Self()
	h.due = time.AfterFunc(d, func() { root.Send(self, &probeDue{}) })
}

// probe looks, unless it is looking.
func (h *horizonActor) probe(c actor.Context) {
	if h.probing {
		return
	}
	h.probing, h.woken = true, false
	stopTimers(h.due)
	root, self := c.ActorSystem().Root, c.Self()
	ctx, cancel := context.WithTimeout(h.ctx, horizonTimeout)
	lookForTrigger := h.connected && time.Since(h.looked) > horizonTriggerEvery
	if lookForTrigger {
		h.looked = time.Now()
	}
	result := &probed{notified: h.notified}
	began := time.Now()
	go func() {
		defer cancel()
		defer func() { result.took = time.Since(began); root.Send(self, result) }()
		if lookForTrigger {
			result.notified, result.err = h.worker.EventStore.HasWakeUp(ctx, h.worker.Pool)
		}
		if result.err == nil {
			result.reading, result.err = h.prober.Probe(ctx)
		}
	}()
}

func (h *horizonActor) probed(c actor.Context, m *probed) {
	now := time.Now()
	h.probing, h.took, h.over, h.ended = false, m.took, now.Sub(h.ended), now
	next := h.failed(m.err)
	if m.err != nil {
		h.withdraw(c)
	} else {
		h.failures = 0
		h.notified = h.connected && m.notified
		h.read(c, m.reading)
		next = h.interval(m.reading, h.notified || h.watched)
	}
	if h.woken {
		h.wake(c)
		return
	}
	h.probeAfter(c, next)
}

// interval is how long to wait for the next probe; told says that the horizon will
// be told of appends.
func (h *horizonActor) interval(r horizon.Reading, told bool) time.Duration {
	still := time.Since(h.moved)
	poll := h.worker.Timing.Poll
	if told && r.Holders == 0 && still > horizonSlow*poll {
		return max(poll, horizonIdle)
	}
	return min(max(horizonBusy, h.took*horizonShare, still/horizonSlow), poll)
}

// failed is how long to wait after a failure: longer after each in a row.
func (h *horizonActor) failed(err error) time.Duration {
	if err == nil || h.ctx.Err() != nil {
		return 0
	}
	h.failures++
	next := backoff{First: 50 * time.Millisecond, Max: 5 * time.Second}.after(h.failures)
	h.worker.Metrics.DatabaseError("horizon")
	if rewound, ok := errors.AsType[*horizon.RewoundError](err); ok && rewound.Floor {
		h.log.Error("positions are lower than a checkpoint: nothing is handled until a person decides", "error", err,
			"checkpoint", rewound.Reached, "last_position", rewound.LastValue, "next_try", next)
		return next
	}
	h.log.Warn("finding the horizon failed, trying again", "error", err, "next_try", next)
	return next
}

// withdraw lets nothing more be read by a horizon that may be of a server that is
// gone: the one that answers next may give its positions again.
func (h *horizonActor) withdraw(c actor.Context) {
	if !h.known {
		return
	}
	h.known, h.position = false, 0
	h.epoch++
	c.Send(c.Parent(), messages.HorizonAdvanced{Position: 0, Epoch: h.epoch})
}

// read announces the horizon if it moved.
func (h *horizonActor) read(c actor.Context, r horizon.Reading) {
	h.came = max(0, r.Position-h.position)
	if again := r.Epoch != h.run; again || r.Position > h.position {
		if again {
			h.run = r.Epoch
			h.epoch++
		}
		h.known, h.position, h.moved = true, r.Position, time.Now()
		c.Send(c.Parent(), messages.HorizonAdvanced{Position: r.Position, Epoch: h.epoch})
	}
	blockedFor := h.watch(r)
	h.worker.Metrics.Horizon(r.Position, r.LastValue, blockedFor, r.Holders)
}

// watch names a transaction that holds the horizon back for long, and returns
// for how long it has.
func (h *horizonActor) watch(r horizon.Reading) time.Duration {
	if r.Blocker == nil {
		h.blocked, h.named = time.Time{}, time.Time{}
		return 0
	}
	if h.blocked.IsZero() {
		h.blocked = time.Now()
	}
	blockedFor := time.Since(h.blocked)
	if time.Since(h.named) >= horizonNameEvery {
		h.named = time.Now()
		h.log.Warn("an open transaction that may have appended events holds all projections back",
			"pid", r.Blocker.PID, "application_name", r.Blocker.Application, "transaction_age", r.Blocker.Age,
			"prepared_as", r.Blocker.PreparedGID, "horizon", r.Position, "last_position", r.LastValue)
	}
	return blockedFor
}
