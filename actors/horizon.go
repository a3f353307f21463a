package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// horizonActor finds out up to where events can be read.
//
//	receives  EventsAppended     look now
//	          WakeUps            whether the session is there, by which appends are notified
//	          WakeUpsDeclined    another has declined to be notified, on which this one may rely
//	          AppendsWatched     whether the coordinators look for appends
//	          ReplicaSetSeen     who leads: the leader looks for all
//	          HorizonAnnounced   what the leader has found
//	sends     HorizonAdvanced    to the supervisor, whenever it moved, or is not known any more
//	itself    probeDue, probed, asked, announced, surveyed
//
// It probes often while events come and seldom while they don't: the interval
// grows with the time since positions were allocated, or settled, up to the poll interval, and goes
// beyond that where it will be told of appends: at once by the wake-up trigger (see
// wakeUps), or, after a while, by the coordinators, whose looks at the replica set
// show them. While a transaction that may have appended is open it keeps to the poll
// interval, since the trigger may have seen it before the horizon asked to be told.
type horizonActor struct {
	worker *worker
	log    *slog.Logger
	loop   *health.Loop

	ctx           context.Context
	cancel        context.CancelFunc
	prober        *horizon.Prober // used by one goroutine at a time
	moved         time.Time       // when the horizon last did, or positions were allocated
	woken         bool            // an append was notified after the probe in flight began
	probing       bool            // a probe is in flight
	wakeUps       wakeUps
	lead          lead
	surveys       survey
	watched       bool          // appends are, by the coordinators
	took          time.Duration // the last probe
	ended         time.Time     // when it did
	position      int64
	lastAllocated int64      // as the last probe has seen
	rate          appendRate // of allocating positions
	pace          pace       // of looking where nobody tells of appends
	crowd         crowd      // of notifications
	epoch         uint64     // of what is announced; its upper half is which horizon of this worker it is
	known         bool       // position is the horizon, as far as others know
	run           uint64     // the prober's epoch
	due           *time.Timer
	blocked       time.Time // since when a transaction holds the horizon back; zero if none
	named         time.Time // when it was last logged
	failures      int
}

type (
	// probeDue says that it is time for a probe.
	probeDue struct{}
	// probed is a probe's result.
	probed struct {
		reading   horizon.Reading
		found     finding
		session   int  // the connection of the session when the probe began
		installed bool // the wake-up trigger is
		told      bool // of appends that begin after the probe, by the trigger
		took      time.Duration
		err       error
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
	// horizonShare is the part of its time that the horizon may spend probing:
	// one in so many, so that a busy server is not kept busier.
	horizonShare = 5
	// horizonRest is how long the horizon rests after a probe, as a multiple of the
	// time that the probe took. No call shortens it.
	horizonRest = 1
	// horizonStream is the least interval while events come as a stream. No call
	// shortens it. A stream is handled in larger batches: see appendRate. Each look with the
	// batch that follows takes more than a millisecond of a processor.
	horizonStream = 20 * time.Millisecond
	// horizonCrowd is the least interval while there is a crowd: see crowd.
	horizonCrowd = 2 * time.Millisecond
	// horizonSlow is how many times longer ago the horizon moved, or positions were
	// allocated, than the next probe waits.
	horizonSlow = 5
)

func newHorizon(w *worker, life uint64) *horizonActor {
	ctx, cancel := context.WithCancel(context.Background())
	return &horizonActor{
		worker: w, log: w.logger(kindHorizon), loop: w.Loops.Watch(kindHorizon, max(w.Timing.Poll, horizonIdle)+horizonTimeout+5*time.Second), ctx: ctx, cancel: cancel,
		prober: horizon.NewProber(w.db, w.EventStore.EventsTable(), w.Store.Regressions(w.db.InTransactions()),
			horizon.Options{BlockerAfter: horizonBlockedAfter, Slot: slot.SQL}),
		epoch: life << 32,
		known: true, // an earlier life may have left one behind
		moved: time.Now(),

		wakeUps: wakeUps{session: w.session},
	}
}

// Receive is the actor's protocol.
func (h *horizonActor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started, *probeDue:
		h.worker.Metrics.WakeUp(measure.CauseTimer)
		h.probe(c)
	case *surveyed:
		h.surveyed(m)
	case messages.EventsAppended:
		h.worker.Metrics.WakeUp(measure.CauseAppend)
		h.crowd.add(time.Now())
		h.settle(c)
		if h.lead.follows() {
			h.awaitLeader(c)
			return
		}
		h.wake(c)
	case messages.WakeUps:
		h.worker.Metrics.WakeUp(measure.CauseSession)
		h.lead.reset(m.Connected)
		h.wakeUps.reset(m.Connected) // until the next probe has looked for the trigger
		h.woken = true
		h.probe(c)
	case messages.WakeUpsDeclined:
		h.worker.Metrics.WakeUp(measure.CauseReplicaSet)
		h.wakeUps.declined()
		h.wake(c)
	case messages.AppendsWatched:
		h.watched = m.Watched
		h.wake(c) // which finds the new interval
	case *probed:
		h.probed(c, m)
	case *asked:
		h.asked(c, m)
	case messages.ReplicaSetSeen:
		if h.lead.see(m) {
			h.worker.Metrics.WakeUp(measure.CauseReplicaSet)
			h.wake(c)
		}
	case messages.HorizonAnnounced:
		h.worker.Metrics.WakeUp(measure.CauseAnnouncement)
		h.hear(c, m)
	case *announced:
		h.announced(c, m)
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

// rest is the shortest pause after a probe, even if something calls for another
// one. It is very short, so that a few events are handled at once. In a stream it
// is as long as if nothing called.
func (h *horizonActor) rest() time.Duration {
	if h.rate.streams() {
		return min(horizonStream, h.worker.Timing.Poll)
	}
	return max(min(horizonRest*h.took, horizonBusy), h.lead.rest())
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
	lookForTrigger := h.wakeUps.due()
	if lookForTrigger {
		h.wakeUps.looked = time.Now()
	}
	result := &probed{installed: h.wakeUps.installed, told: h.wakeUps.told(), session: h.lead.session}
	began, leads, before, run := time.Now(), h.lead.leads(), h.position, h.run
	h.prober.Follow(h.lead.follows())
	go func() {
		defer cancel()
		defer func() { result.took = time.Since(began); root.Send(self, result) }()
		if lookForTrigger {
			result.installed, result.err = h.worker.EventStore.HasWakeUp(ctx, h.worker.db)
		}
		if result.err == nil {
			result.reading, result.err = h.prober.Probe(ctx)
		}
		if result.err == nil && leads && (result.reading.Position > before || result.reading.Epoch != run) {
			result.found.announcement, result.found.run = h.prober.Announce(ctx, result.reading, before)
			result.reading.News = result.found.announcement.News
		}
	}()
}

func (h *horizonActor) probed(c actor.Context, m *probed) {
	h.loop.Round()
	now := time.Now()
	over := now.Sub(h.ended)
	h.probing, h.took, h.ended = false, m.took, now
	next := h.failed(m.err)
	if m.err != nil {
		h.lead.failed()
		h.withdraw(c)
	} else {
		h.failures = 0
		h.wakeUps.installed = h.wakeUps.connected && m.installed
		h.measure(m.reading, over)
		h.lead.probed(m.reading.Position, m.session, now)
		h.announce(c, m)
		h.read(c, m.reading)
		h.hearLate(c)
		next = h.lead.probeInterval(h.interval(m), h.worker.Timing.Poll)
		h.settle(c)
		h.survey(c)
	}
	if h.woken {
		h.wake(c)
		return
	}
	h.probeAfter(c, next)
}

// measure takes in how many positions were allocated since the probe before. Events
// may have come that an open transaction holds back. If it is rolled back nobody tells
// of it, so the horizon is looked for as often as if it had moved.
func (h *horizonActor) measure(r horizon.Reading, over time.Duration) {
	if h.lastAllocated > 0 {
		h.rate.add(max(0, r.LastValue-h.lastAllocated), over)
		h.pace.add(max(0, r.LastValue-h.lastAllocated), over, h.lead.seen.Workers)
	}
	h.crowd.measure(h.rate, time.Now())
	if r.LastValue > h.lastAllocated {
		h.moved = time.Now()
	}
	h.lastAllocated = r.LastValue
}

// interval is how long to wait for the next probe after one. The trigger is relied
// upon at once, for the poll interval, and for longer after a while, if it told of appends already when the probe began: what it does not
// tell of was there for the probe to see. The coordinators tell late, and are relied
// upon only when nothing has come for a while.
func (h *horizonActor) interval(m *probed) time.Duration {
	still := time.Since(h.moved)
	poll := h.worker.Timing.Poll
	told := m.told && h.wakeUps.told()
	settled := m.reading.Holders == 0
	long := still > horizonSlow*poll
	switch {
	case settled && long && h.watched:
		return max(poll, horizonIdle)
	case settled && long && told:
		return h.wakeUps.rely(poll)
	case settled && told:
		return poll
	}
	least := max(horizonBusy, h.lead.least(h.wakeUps.installed))
	switch {
	case h.rate.streams():
		least = horizonStream
	case h.crowd.is():
		least = horizonCrowd
	case h.pace.often && !h.wakeUps.installed && m.reading.Position == m.reading.LastValue:
		least = max(least, h.lead.often())
	}
	return min(max(least, h.took*horizonShare, still/horizonSlow), poll)
}

// failed is how long to wait after a failure: longer after each in a row.
func (h *horizonActor) failed(err error) time.Duration {
	if err == nil || h.ctx.Err() != nil {
		return 0
	}
	h.failures++
	next := dbfault.Backoff{First: 50 * time.Millisecond, Max: 5 * time.Second}.After(h.failures)
	h.worker.Metrics.DatabaseError("horizon")
	if reasons := horizon.ReasonsOf(err); len(reasons) > 0 {
		h.worker.Metrics.HorizonFaults(reasonNames(reasons))
		attrs := []any{"error", err, "reasons", reasons, "next_try", next}
		if regressed, ok := errors.AsType[*horizon.RegressionError](err); ok {
			attrs = append(attrs, "checkpoint", regressed.Reached, "last_position", regressed.LastValue)
		}
		h.log.Error("the horizon cannot be found: nothing is handled until a person acts", attrs...)
		return next
	}
	h.worker.databaseFailed(h.log, "horizon", err, "next_try", next)
	return next
}

// reasonNames are the reasons as a metric has them.
func reasonNames(reasons []horizon.Reason) []string {
	names := make([]string, len(reasons))
	for i, r := range reasons {
		names[i] = string(r)
	}
	return names
}

// withdraw lets nothing more be read by a horizon that may be of a server that is
// gone: the one that answers next may give its positions again.
func (h *horizonActor) withdraw(c actor.Context) {
	if !h.known {
		return
	}
	h.known, h.position = false, 0
	h.epoch++
	h.lead.withdraw()
	c.Send(c.Parent(), messages.HorizonAdvanced{Position: 0, Epoch: h.epoch})
}

// read announces the horizon if it moved.
func (h *horizonActor) read(c actor.Context, r horizon.Reading) {
	if again := r.Epoch != h.run; again || r.Position > h.position {
		if again {
			h.run = r.Epoch
			h.epoch++
		}
		h.known, h.position, h.moved = true, r.Position, time.Now()
		h.sample()
		c.Send(c.Parent(), messages.HorizonAdvanced{Position: r.Position, Table: r.Table, Epoch: h.epoch, News: newsOf(r)})
	}
	blockedFor := h.watch(r)
	h.worker.Metrics.Horizon(r.Position, r.LastValue, blockedFor, r.Holders)
	h.worker.Metrics.HorizonFaults(nil)
	if r.NotStored != nil {
		h.worker.aidFailed(h.log, "the horizon is known but could not be stored for workers that start (orchestrator_horizons)", "horizon", r.NotStored)
	}
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
