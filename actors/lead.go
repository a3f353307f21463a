package actors

import (
	"context"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/announcement"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/horizon"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// lead is the horizon's part in the replica set. If each worker looked for events, the cost would grow with their number. So the leader
// looks, and announces each horizon through its session, with the slots of the events. A worker that has heard an announcement follows the
// leader: it probes rarely, to find out what the leader does not announce.
type lead struct {
	seen      messages.ReplicaSetSeen
	connected bool // this worker's session
	session   int  // counts its connections and losses
	proved    int  // the session when the latest probe began

	following bool                        // the leader has announced horizons
	heardTo   int64                       // the highest
	unheard   int64                       // a horizon that the leader has not announced; 0 if none is known
	since     time.Time                   // when that was found
	soon      bool                        // the next probe is early, since events were appended
	late      []messages.HorizonAnnounced // heard during a probe

	waiting finding // to be announced
	sending bool    // an announcement is on its way
}

// finding is what a probe has found, as it is announced.
type finding struct {
	announcement announcement.Horizon
	run          horizon.Run
}

// announced says that an announcement was sent, or could not be.
type announced struct{ err error }

const (
	// leadGrace is how long the leader may take to announce what others know already.
	leadGrace = 100 * time.Millisecond
	// leadTimeout bounds one announcement.
	leadTimeout = 5 * time.Second
	// leadEach is, for each worker, what the interval between two probes of the leader has at least. Each announcement wakes all sessions, one after
	// the other, so that many of them take a bounded part of the server.
	leadEach = 500 * time.Microsecond
	// aloneOften and leadOften are the least interval while events come often and nobody has installed the wake-up trigger. A probe that finds
	// some leads to a read and a batch, which cost about the same for one event as for several. The leader's followers hear of them later.
	aloneOften = 20 * time.Millisecond
	leadOften  = 16 * time.Millisecond
	// leadEachWoken is the same if there is a wake-up trigger: who installs it wants to be told soon.
	leadEachWoken = 200 * time.Microsecond
	// followEach is, for each worker, what the interval between two probes of a follower has at least, so that all together probe about 16 times a
	// second; and followMost is the most.
	followEach = 64 * time.Millisecond
	followMost = 2 * time.Second
)

// see takes in the replica set, and says whether to look at once: who led is not heard any more.
func (l *lead) see(m messages.ReplicaSetSeen) bool {
	another := m.Leader != l.seen.Leader
	l.seen = m
	if !another || !l.following {
		return false
	}
	l.following = false
	return true
}

// reset takes in that the session was connected or lost.
func (l *lead) reset(connected bool) {
	l.connected = connected
	l.session++
	l.following, l.late = false, nil
	l.withdraw()
}

// withdraw forgets what was to be announced.
func (l *lead) withdraw() { l.waiting = finding{} }

// leads says whether this worker looks for others.
func (l *lead) leads() bool { return l.seen.Leading && l.seen.Workers > 1 && l.connected }

// follows says whether another worker does, and is heard.
func (l *lead) follows() bool { return l.following && !l.seen.Leading }

// least is the least interval between two probes that nothing calls for, with the wake-up trigger or without.
func (l *lead) least(trigger bool) time.Duration {
	if trigger {
		return time.Duration(l.seen.Workers) * leadEachWoken
	}
	return time.Duration(l.seen.Workers) * leadEach
}

// often is the least interval while events come often.
func (l *lead) often() time.Duration {
	if l.leads() {
		return leadOften
	}
	return aloneOften
}

// rest is the shortest pause after a probe, even if something calls for another one.
func (l *lead) rest() time.Duration {
	if !l.leads() {
		return 0
	}
	return time.Duration(l.seen.Workers) * leadEachWoken
}

// probeInterval is the time until the next probe, where alone is that of a worker that looks for itself.
func (l *lead) probeInterval(alone, poll time.Duration) time.Duration {
	switch {
	case !l.follows():
		return alone
	case l.unheard > 0:
		return leadGrace
	}
	return max(alone, poll, min(time.Duration(l.seen.Workers)*followEach, followMost))
}

// probed takes in a horizon that this worker has found, by a probe that began with a session. A leader that has not announced within the grace
// what was found before is not relied upon any more, until it is heard again.
func (l *lead) probed(position int64, session int, now time.Time) {
	l.proved, l.soon = session, false
	switch {
	case !l.follows() || position <= l.heardTo:
		l.unheard = 0
	case l.unheard == 0:
		l.unheard, l.since = position, now
	case now.Sub(l.since) >= leadGrace:
		l.following, l.unheard = false, 0
	}
}

// failed takes in that a probe has failed. The server that was asked may be gone, and what was heard meanwhile with it.
func (l *lead) failed() { l.late = nil }

// hears says whether an announcement can be taken in: it is the leader's, and came through a session that was there when the latest probe began.
func (l *lead) hears(m messages.HorizonAnnounced) bool {
	return m.Session == l.seen.Leader && m.Session != 0 && l.connected && l.proved == l.session
}

// heard takes in that the leader has announced a horizon.
func (l *lead) heard(position int64) {
	l.following, l.heardTo, l.soon = true, position, false
	if position >= l.unheard {
		l.unheard = 0
	}
}

// add has a finding announced, together with what waits. In another epoch what waits says nothing: its positions may be given again.
func (l *lead) add(found finding, another bool) {
	earlier := l.waiting.announcement
	switch news := found.announcement.News; {
	case another || earlier.Position == 0:
	case news.After > earlier.Position: // there may be events in between
		found.announcement.News = announcement.News{}
	default:
		found.announcement.News = earlier.News.Then(news)
	}
	l.waiting = found
}

// newsOf is the news of a reading as the reader gets them; nil if they are not known.
func newsOf(r horizon.Reading) *announcement.News {
	if !r.News.Known {
		return nil
	}
	return &r.News
}

// awaitLeader waits for the leader to announce what was appended, and looks if it does not.
func (h *horizonActor) awaitLeader(c actor.Context) {
	if h.lead.soon || h.lead.unheard > 0 || h.probing {
		return
	}
	h.lead.soon = true
	h.probeAfter(c, leadGrace)
}

// hear takes in what the leader has announced. The prober is not free during a probe.
func (h *horizonActor) hear(c actor.Context, m messages.HorizonAnnounced) {
	if h.probing {
		h.lead.late = append(h.lead.late, m)
		return
	}
	if !h.known || !h.lead.hears(m) {
		return
	}
	followed, doubted := h.lead.follows(), h.lead.soon || h.lead.unheard > 0
	r, ok := h.prober.Hear(m.Announcement)
	if !ok && m.Announcement.Position > h.position {
		return
	}
	h.lead.heard(m.Announcement.Position)
	if ok {
		h.position, h.moved = r.Position, time.Now()
		h.sample()
		h.worker.Metrics.Horizon(r.Position, max(h.lastAllocated, r.LastValue), 0, r.Holders)
		c.Send(c.Parent(), messages.HorizonAdvanced{Position: r.Position, Table: r.Table, Epoch: h.epoch, News: newsOf(r)})
	}
	if !followed || doubted {
		h.probeAfter(c, max(0, h.lead.probeInterval(0, h.worker.Timing.Poll)-time.Since(h.ended)))
	}
	if !followed {
		h.settle(c)
	}
}

// hearLate takes in what was announced during a probe.
func (h *horizonActor) hearLate(c actor.Context) {
	late := h.lead.late
	h.lead.late = nil
	for _, m := range late {
		h.hear(c, m)
	}
}

// announce announces what a probe has found, if it is new and others wait for it.
func (h *horizonActor) announce(c actor.Context, m *probed) {
	l := &h.lead
	if !l.leads() {
		l.withdraw()
		return
	}
	if m.found.announcement.Position == 0 {
		return
	}
	l.add(m.found, m.reading.Epoch != h.run)
	h.sendAnnouncement(c)
}

// sendAnnouncement sends what waits, on a goroutine, one after the other.
func (h *horizonActor) sendAnnouncement(c actor.Context) {
	l := &h.lead
	if l.sending || l.waiting.announcement.Position == 0 {
		return
	}
	l.sending = true
	found := l.waiting
	l.waiting = finding{}
	root, self, session := c.ActorSystem().Root, c.Self(), h.worker.session
	ctx, cancel := context.WithTimeout(h.ctx, leadTimeout)
	go func() {
		defer cancel()
		root.Send(self, &announced{err: session.Announce(ctx, found.announcement, found.run)})
	}()
}

// announced sends what has come to wait meanwhile. If an announcement could not be sent, the others find out by themselves.
func (h *horizonActor) announced(c actor.Context, m *announced) {
	h.lead.sending = false
	if m.err != nil && h.ctx.Err() == nil {
		h.log.Debug("the horizon could not be announced", "error", m.err)
	}
	h.sendAnnouncement(c)
}
