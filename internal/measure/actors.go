package measure

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// actorSeries are the series of the actors. The label actor is the kind of an
// actor, never its name, which is unique for ever.
type actorSeries struct {
	messages    *children[actorMessage, messageMetrics]
	kinds       *children[string, actorMetrics]
	undelivered prometheus.Counter

	// mailboxes are those of the actors alive; the owner's mu guards them.
	mailboxes map[mailboxKey]mailbox
	// mailboxKinds are the kinds that ever had a mailbox: they are shown with 0
	// actors when none is left. The owner's mu guards them.
	mailboxKinds map[string]struct{}
}

// actorMessage is a message of a type, to an actor of a kind.
type actorMessage struct{ actor, message string }

// messageMetrics are the metrics of one type of message to one kind of actor. All types share the seconds.
type messageMetrics struct{ count, seconds prometheus.Counter }

// actorMetrics are the metrics of one kind of actor.
type actorMetrics struct{ starts, respawns, panics, unknown prometheus.Counter }

// mailboxKey tells the mailboxes of several workers apart, whose actors have the
// same names.
type mailboxKey struct {
	recorder *ReplicaSet
	name     string
}

// mailbox is where to ask how many messages an actor has yet to process.
type mailbox struct {
	actor  string
	length func() int
}

func (s *series) initActors() {
	f := s.families
	overflow := actorMessage{wordOther, wordOther}
	s.messages = &children[actorMessage, messageMetrics]{
		owner: s, limit: maxWords, overflow: overflow,
		create: func(k actorMessage) messageMetrics {
			actor, message := labelValue(k.actor), labelValue(k.message)
			return messageMetrics{
				count:   f.actorMessages.WithLabelValues(s.name, actor, message),
				seconds: f.actorMessageSeconds.WithLabelValues(s.name, actor),
			}
		},
	}
	s.kinds = &children[string, actorMetrics]{owner: s, limit: maxWords, overflow: wordOther, create: s.newActorKind}
	s.undelivered = f.actorUndelivered.WithLabelValues(s.name)
	s.mailboxes = make(map[mailboxKey]mailbox)
	s.mailboxKinds = make(map[string]struct{})
}

func (s *series) newActorKind(actor string) actorMetrics {
	f, actor := s.families, labelValue(actor)
	return actorMetrics{
		starts:   f.actorStarts.WithLabelValues(s.name, actor),
		respawns: f.actorRespawns.WithLabelValues(s.name, actor),
		panics:   f.actorPanics.WithLabelValues(s.name, actor),
		unknown:  f.actorUnknownMessages.WithLabelValues(s.name, actor),
	}
}

// ActorMessage records how long an actor of a kind took to process a message of
// a type. It neither locks nor allocates once it has seen the pair.
func (r *ReplicaSet) ActorMessage(actor, message string, d time.Duration) {
	if r == nil {
		return
	}
	if m, ok := r.series.messages.get(actorMessage{actor, message}); ok {
		m.count.Inc()
		m.seconds.Add(seconds(d))
	}
}

// ActorStarted counts the start of an actor of a kind, respawned ones included.
func (r *ReplicaSet) ActorStarted(actor string) {
	if r == nil {
		return
	}
	if k, ok := r.series.kinds.get(actor); ok {
		k.starts.Inc()
	}
}

// ActorRespawned counts that an actor of a kind is started in place of one that
// panicked. The start itself is ActorStarted's to count.
func (r *ReplicaSet) ActorRespawned(actor string) {
	if r == nil {
		return
	}
	if k, ok := r.series.kinds.get(actor); ok {
		k.respawns.Inc()
	}
}

// ActorPanicked counts the panic of an actor of a kind.
func (r *ReplicaSet) ActorPanicked(actor string) {
	if r == nil {
		return
	}
	if k, ok := r.series.kinds.get(actor); ok {
		k.panics.Inc()
	}
}

// ActorUnknownMessage counts a message that an actor of a kind does not accept.
func (r *ReplicaSet) ActorUnknownMessage(actor string) {
	if r == nil {
		return
	}
	if k, ok := r.series.kinds.get(actor); ok {
		k.unknown.Inc()
	}
}

// ActorUndelivered counts a message that was sent to an actor that is gone.
func (r *ReplicaSet) ActorUndelivered() {
	if r == nil {
		return
	}
	r.series.undelivered.Inc()
}

// RegisterMailbox counts an actor of a kind as alive, and asks length at each
// scrape how many messages wait in its mailbox; a negative number counts as 0.
// name tells the actor from all others of this recorder: a second registration
// replaces the first. length is called from the scrape's goroutine, may be called
// a last time shortly after UnregisterMailbox returned, and must not block.
func (r *ReplicaSet) RegisterMailbox(actor, name string, length func() int) {
	if r == nil {
		return
	}
	s := r.series
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.recorders[r]; !ok {
		return
	}
	kind := labelValue(actor)
	if _, known := s.mailboxKinds[kind]; !known && len(s.mailboxKinds) >= maxWords {
		kind = wordOther
	}
	s.mailboxes[mailboxKey{r, name}] = mailbox{actor: kind, length: length}
	s.mailboxKinds[kind] = struct{}{}
}

// UnregisterMailbox says that the actor of that name has stopped. An unknown name
// is ignored.
func (r *ReplicaSet) UnregisterMailbox(name string) {
	if r == nil {
		return
	}
	s := r.series
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mailboxes, mailboxKey{r, name})
}

// forgetMailboxes takes every mailbox of r away. s must be locked.
func (s *series) forgetMailboxes(r *ReplicaSet) {
	for key := range s.mailboxes {
		if key.recorder == r {
			delete(s.mailboxes, key)
		}
	}
}

// collectActors sums the mailboxes by kind of actor. It locks only to copy them,
// so that length may take its time and its own locks.
func (s *series) collectActors(ch chan<- prometheus.Metric) {
	type sum struct{ actors, messages int }
	sums := make(map[string]sum)
	for _, mb := range s.copyMailboxes(func(kind string) { sums[kind] = sum{} }) {
		k := sums[mb.actor]
		sums[mb.actor] = sum{actors: k.actors + 1, messages: k.messages + max(mb.length(), 0)}
	}
	for kind, k := range sums {
		ch <- prometheus.MustNewConstMetric(s.families.actors, prometheus.GaugeValue, float64(k.actors), s.name, kind)
		ch <- prometheus.MustNewConstMetric(s.families.mailboxLength, prometheus.GaugeValue, float64(k.messages), s.name, kind)
	}
}

// copyMailboxes returns the mailboxes and calls each for every kind. A replica
// set without recorders has neither.
func (s *series) copyMailboxes(each func(kind string)) []mailbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.recorders) == 0 {
		return nil
	}
	for kind := range s.mailboxKinds {
		each(kind)
	}
	boxes := make([]mailbox, 0, len(s.mailboxes))
	for _, mb := range s.mailboxes {
		boxes = append(boxes, mb)
	}
	return boxes
}
