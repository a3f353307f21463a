package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// wakeUps is what the horizon knows of the notification of appends. Appends are
// notified while one session has asked for it, and each notification reaches all, so
// the horizon asks whenever the events come slowly enough, and declines when they
// come so fast that it looks at its own interval anyway. See eventstore's wakeup.go for
// why no append is missed between.
type wakeUps struct {
	session   *pgcoord.Session // nil in poll-only mode
	connected bool             // the session, which brings the notifications
	installed bool             // the trigger is
	looked    time.Time        // when it was last looked for
	who       pgcoord.WakeUps  // sees to the notification
	since     time.Time        // when that was found out
	asking    bool             // or declining: one at a time
	outdated  bool             // what the session says in answer may not be so any more
}

// asked is what became of asking or declining.
type asked struct {
	declining bool
	who       pgcoord.WakeUps
	err       error
}

const (
	// wakeUpsTimeout bounds asking and declining.
	wakeUpsTimeout = 5 * time.Second
	// wakeUpsTrust is how long another session is relied upon that has asked:
	// nobody hears when it breaks.
	wakeUpsTrust = time.Second
	// wakeUpsLookEvery is how often the trigger is looked for.
	wakeUpsLookEvery = time.Minute
)

// told says whether appends are notified.
func (w *wakeUps) told() bool {
	return w.connected && w.installed && w.who != pgcoord.WakeUpsNobody
}

// due says whether the trigger is to be looked for.
func (w *wakeUps) due() bool { return w.connected && time.Since(w.looked) > wakeUpsLookEvery }

// reset forgets what was so on an earlier connection.
func (w *wakeUps) reset(connected bool) {
	w.connected, w.installed, w.looked = connected, false, time.Time{}
	w.who, w.outdated = pgcoord.WakeUpsNobody, w.asking
}

// declined takes in that a session has declined.
func (w *wakeUps) declined() {
	w.outdated = w.asking
	if w.who == pgcoord.WakeUpsOthers {
		w.who = pgcoord.WakeUpsNobody
	}
}

// rely is how long to rely on being told.
func (w *wakeUps) rely(poll time.Duration) time.Duration {
	if w.who == pgcoord.WakeUpsOwn {
		return max(poll, horizonIdle)
	}
	return max(poll, wakeUpsTrust)
}

// wish is what to do next.
type wish int

const (
	wishNothing wish = iota
	wishAsk
	wishDecline
)

// wish is what to do, with events coming as a stream or a crowd, or not. It is a pure function.
func (w *wakeUps) wish(many bool, now time.Time) wish {
	switch {
	case !w.connected || !w.installed || w.asking:
		return wishNothing
	case many && w.who == pgcoord.WakeUpsOwn:
		return wishDecline
	case many:
		return wishNothing
	case w.who == pgcoord.WakeUpsNobody,
		w.who == pgcoord.WakeUpsOthers && now.Sub(w.since) >= wakeUpsTrust:
		return wishAsk
	}
	return wishNothing
}

// settle does what is wished for, on a goroutine. Who declines is not told any more
// from then on.
func (h *horizonActor) settle(c actor.Context) {
	does := h.wakeUps.wish(h.rate.streams() || h.crowd.is() || h.lead.follows() || h.pace.high, time.Now())
	if does == wishNothing {
		return
	}
	h.wakeUps.asking, h.wakeUps.outdated = true, false
	if does == wishDecline {
		h.wakeUps.who = pgcoord.WakeUpsNobody
	}
	root, self, session := c.ActorSystem().Root, c.Self(), h.wakeUps.session
	ctx, cancel := context.WithTimeout(h.ctx, wakeUpsTimeout)
	go func() {
		defer cancel()
		result := &asked{declining: does == wishDecline}
		defer func() { root.Send(self, result) }()
		if result.declining {
			result.err = session.DeclineWakeUps(ctx)
			return
		}
		result.who, result.err = session.AskForWakeUps(ctx)
	}()
}

// asked takes in the answer, and looks: what was appended before it may not have
// been notified.
func (h *horizonActor) asked(c actor.Context, m *asked) {
	w := &h.wakeUps
	outdated := w.outdated
	w.asking, w.outdated = false, false
	if m.err != nil {
		if h.ctx.Err() == nil {
			h.log.Debug("the notification of appends could not be settled, trying again", "error", m.err)
		}
		if m.declining && !outdated {
			w.who = pgcoord.WakeUpsOwn
		}
		return // the next probe leads here again
	}
	if outdated {
		m.who = pgcoord.WakeUpsNobody
	}
	before := w.who
	w.who, w.since = m.who, time.Now()
	if w.who != before {
		h.wake(c)
	}
}
