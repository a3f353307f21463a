package actors

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// Kinds of actors: the label of their metrics.
const (
	kindSupervisor  = "supervisor"
	kindCoordinator = "coordinator"
	kindHeartbeat   = "heartbeat"
	kindHorizon     = "horizon"
	kindReader      = "reader"
	kindPartition   = "partition"
	kindProcessor   = "processor"
)

// supervisor owns the life cycle of a worker.
//
//	receives  StartPartitions    from the coordinator: spawn the partitions of a generation
//	          StopPartitions     from the coordinator: stop them, then say PartitionsStopped
//	          HorizonAdvanced    from the horizon: for the partitions
//	          LeaseExpired       from the heartbeat: cancel the partitions by itself
//	          Fenced             from a partition: for the coordinator
//	          HandlersChanged   from the record of handlers: tell the coordinator which are abandoned
//	          LeaseRenewed, DeclaredDead, Session*, Notified   for the coordinator
//	          EventsAppended     from the session or the coordinator: for the horizon
//	          WakeUpsDeclined    from the session: for the horizon
//	          HorizonAnnounced   from the session: for the horizon
//	          AppendsWatched, ReplicaSetSeen   from the coordinator: for the horizon
//	          Leave              from the orchestrator: for the coordinator
//	          Joined             from the coordinator: for the heartbeat
//	          Left               from the coordinator: stop everything
//	sends     PartitionsStopped, PartitionsRunning, HandlersAbandoned   to the coordinator
//	          ProgressAsked      to the reader and the partitions
//	itself    respawn, drainDue, leaseDue, roundDue
//
// It is its children's supervision strategy: see nursery.
type supervisor struct {
	nursery
	worker *worker
	log    *slog.Logger
	loop   *health.Loop
	rounds int64         // of the loop
	round  *time.Timer   // of the next
	done   chan struct{} // closed when everything has stopped

	coordinator, heartbeat *actor.PID
	run                    *run                     // the partitions' generation; nil if none is alive
	horizon                messages.HorizonAdvanced // the last one
	reader                 messages.ReaderReady     // the generation's
	lease                  time.Time                // until when the worker trusts itself; zero if it does not
	horizonLives           uint64                   // how many horizons there have been
	connected              bool                     // the session
	watched                bool                     // appends are, as the coordinator says
	seen                   messages.ReplicaSetSeen  // by the coordinator
	leaving                bool
	abandoned              []replicaset.AbandonedHandler // as the coordinator was told
	expiry                 *time.Timer                   // ends the lease while there is no heartbeat to do it
}

// run is the life of one generation's partitions on this worker.
type run struct {
	generation int64
	// soft ends when processors are to stop after the event they are at, hard
	// when they are to give up, and abandon, a grace later, when handlers that have not
	// returned are not waited for any longer.
	soft, hard, abandon context.Context
	softStop, hardStop  context.CancelCauseFunc
	stopping            bool
	drain               *time.Timer
}

// roundDue says that it is time for the supervisor's next round.
type roundDue struct{}

// quietRound is how long a round may take of an actor that is asked for one about once a second.
const quietRound = 10 * time.Second

// drainDue says that the run's processors have had their time to finish.
type drainDue struct{ run *run }

// Causes of the end of a partition's contexts.
var (
	errStopping = error(handling.StopError("the partitions are being stopped"))
	errDrained  = error(handling.StopError("the time to finish the batch is over"))
	errUntrusty = error(handling.StopError("the worker's lease has expired"))
	errShutdown = error(handling.StopError("the worker has stopped"))
)

func newSupervisor(w *worker, done chan struct{}) *supervisor {
	log := w.logger(kindSupervisor)
	return &supervisor{nursery: newNursery(log, w.Metrics), worker: w, log: log, loop: w.Loops.Watch(kindSupervisor, quietRound), done: done}
}

// Receive is the actor's protocol.
func (s *supervisor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		s.start(c)
	case messages.ToSupervisor:
		s.receive(c, m)
	case *respawn:
		s.respawned(c, m)
	case *roundDue:
		s.endRound(c)
	case *drainDue:
		m.run.hardStop(errDrained)
	case *leaseDue:
		if m.until.Equal(s.lease) {
			s.receive(c, messages.LeaseExpired{})
		}
	case *actor.Terminated:
		s.childEnded(c, m.Who)
	case *actor.Stopping:
		s.close()
		stopTimers(s.expiry, s.round)
		if s.run != nil {
			s.run.cancel(errShutdown)
		}
	case *actor.Stopped:
		close(s.done)
	default:
		unknown(c, s.worker, kindSupervisor)
	}
}

// start spawns the children that live as long as the worker.
func (s *supervisor) start(c actor.Context) {
	w := s.worker
	s.heartbeat = s.spawn(c, childSpec{kind: kindHeartbeat, key: "0", produce: func(bool) actor.Actor { return newHeartbeat(w, s.lease) }})
	s.coordinator = s.spawn(c, childSpec{kind: kindCoordinator, key: "0", produce: func(bool) actor.Actor { return newCoordinator(w, s.briefing()...) }})
	s.spawn(c, childSpec{kind: kindHorizon, key: "0", produce: func(bool) actor.Actor {
		s.horizonLives++
		return newHorizon(w, s.horizonLives)
	}})
	s.endRound(c)
}

// endRound says that messages are processed, asks the same of those that may have nothing to do, and arms the next round.
func (s *supervisor) endRound(c actor.Context) {
	s.loop.Round()
	s.rounds++
	asked := messages.ProgressAsked{Number: s.rounds}
	s.send(c, kindReader, asked)
	s.send(c, kindPartition, asked)
	root, self := c.ActorSystem().Root, c.Self()
	s.round = time.AfterFunc(s.worker.Loops.Unit(), func() { root.Send(self, &roundDue{}) })
}

// receive is the part of the protocol that others speak.
func (s *supervisor) receive(c actor.Context, m messages.ToSupervisor) {
	switch m := m.(type) {
	case messages.StartPartitions:
		s.startPartitions(c, m.Assignment)
	case messages.StopPartitions:
		s.stopPartitions(c, m)
	case messages.HorizonAdvanced:
		s.horizon = m
		s.send(c, kindReader, m)
		s.send(c, kindPartition, m)
	case messages.CheckpointsChanged:
		s.send(c, kindPartition, m)
	case messages.LeaseExpired:
		s.lease = time.Time{}
		s.cancelPartitions(c)
		s.worker.Member.Trust(false)
		c.Send(s.coordinator, m)
	case messages.LeaseRenewed:
		if s.lease.IsZero() {
			c.Send(s.coordinator, m)
		}
		s.lease = m.Until
		s.worker.Member.Trust(true)
	case messages.Leave:
		s.leaving = true
		c.Send(s.coordinator, m)
	case messages.SessionConnected:
		s.sessionUp(c, true)
		c.Send(s.heartbeat, m)
		c.Send(s.coordinator, m)
	case messages.SessionLost:
		s.sessionUp(c, false)
		c.Send(s.coordinator, m)
	case messages.EventsAppended:
		s.send(c, kindHorizon, m)
	case messages.WakeUpsDeclined:
		s.send(c, kindHorizon, m)
	case messages.AppendsWatched:
		s.watched = m.Watched
		s.send(c, kindHorizon, m)
	case messages.HorizonAnnounced:
		s.send(c, kindHorizon, m)
	case messages.ReplicaSetSeen:
		s.seen = m
		s.send(c, kindHorizon, m)
	case messages.HandlersChanged:
		s.tellAbandoned(c)
	case messages.Joined:
		c.Send(s.heartbeat, m)
	case messages.Left:
		c.Stop(c.Self())
	default: // Fenced, DeclaredDead, Notified
		c.Send(s.coordinator, m)
	}
}

// sessionUp tells the horizon whether appends can be notified.
func (s *supervisor) sessionUp(c actor.Context, connected bool) {
	s.connected = connected
	s.send(c, kindHorizon, messages.WakeUps{Connected: connected})
}

// startPartitions spawns one actor a partition.
func (s *supervisor) startPartitions(c actor.Context, a messages.Assignment) {
	if s.run != nil {
		// The coordinator starts only what it knows to be stopped. If it is
		// wrong, it is told, and stops what is alive first.
		s.log.Error("dropped an assignment: the previous one is still alive", "generation", a.Generation, "alive", s.run.generation)
		c.Send(s.coordinator, s.found())
		return
	}
	if s.lease.IsZero() {
		c.Send(s.coordinator, messages.PartitionsStopped{Generation: a.Generation})
		return
	}
	s.run = newRun(a.Generation, s.worker.Timing.Grace)
	s.worker.Metrics.Partitions(len(a.Partitions))
	s.log.Debug("starting the partitions", "generation", a.Generation, "partitions", partitionNames(a))
	r := s.run
	s.introduceReader(c, s.spawn(c, childSpec{kind: kindReader, key: "0", produce: func(bool) actor.Actor { return newReader(s.worker, r, a) }}))
	for _, p := range a.Partitions {
		s.spawn(c, childSpec{kind: kindPartition, key: p.Partition.String(), produce: func(again bool) actor.Actor {
			return newPartition(s.worker, r, p, again)
		}})
	}
	s.send(c, kindPartition, s.reader)
	s.send(c, kindPartition, s.horizon)
}

// introduceReader tells the reader the horizon before anybody can ask it.
func (s *supervisor) introduceReader(c actor.Context, pid *actor.PID) {
	s.reader = messages.ReaderReady{Reader: pid.Id}
	c.Send(pid, s.horizon)
}

func newRun(generation int64, grace time.Duration) *run {
	r := &run{generation: generation}
	r.hard, r.hardStop = context.WithCancelCause(context.Background())
	r.soft, r.softStop = context.WithCancelCause(r.hard)
	r.abandonAfter(grace)
	return r
}

// sub is a run that ends with r, and can be cancelled by itself before.
func (r *run) sub(grace time.Duration) *run {
	s := &run{generation: r.generation}
	s.hard, s.hardStop = context.WithCancelCause(r.hard)
	s.soft, s.softStop = context.WithCancelCause(r.soft)
	s.abandonAfter(grace)
	return s
}

// abandonAfter makes abandon end a grace after hard.
func (r *run) abandonAfter(grace time.Duration) {
	abandon, stop := context.WithCancel(context.WithoutCancel(r.hard))
	r.abandon = abandon
	context.AfterFunc(r.hard, func() { time.AfterFunc(grace, stop) })
}

// cancel ends both contexts at once.
func (r *run) cancel(cause error) {
	stopTimers(r.drain)
	r.softStop(cause)
	r.hardStop(cause)
}

// endLoop ends the watch of an actor's loop, unless the actor has crashed: then another goes on with it.
func (r *run) endLoop(loop *health.Loop) {
	if r.soft.Err() != nil {
		loop.End()
	}
}

func partitionNames(a messages.Assignment) []string {
	names := make([]string, len(a.Partitions))
	for i, p := range a.Partitions {
		names[i] = p.Partition.String()
	}
	return names
}

// stopPartitions stops what is alive: softly, and hard after the drain time.
func (s *supervisor) stopPartitions(c actor.Context, m messages.StopPartitions) {
	r := s.run
	switch {
	case r == nil:
		c.Send(s.coordinator, messages.PartitionsStopped{Generation: m.Generation})
		return
	case m.Now:
		r.cancel(errStopping)
	case !r.stopping:
		r.softStop(errStopping)
		root, self, due := c.ActorSystem().Root, c.Self(), &drainDue{run: r}
		r.drain = time.AfterFunc(s.worker.Timing.Drain, func() { root.Send(self, due) })
	}
	s.stopChildren(c)
}

// cancelPartitions stops what is alive because the worker is not trusted.
func (s *supervisor) cancelPartitions(c actor.Context) {
	if s.run != nil {
		s.run.cancel(errUntrusty)
		s.stopChildren(c)
	}
}

// stopChildren asks the partitions to stop, once, and reports at once if none
// is alive.
func (s *supervisor) stopChildren(c actor.Context) {
	if s.run.stopping {
		return
	}
	s.run.stopping = true
	reading, handling := s.stop(c, kindReader), s.stop(c, kindPartition)
	if !reading && !handling {
		s.stopped(c)
	}
}

// stopped reports that nothing of the generation is alive.
func (s *supervisor) stopped(c actor.Context) {
	r := s.run
	r.cancel(errStopping)
	s.run = nil
	s.worker.Metrics.Partitions(0)
	s.log.Debug("stopped the partitions", "generation", r.generation)
	s.tellAbandoned(c)
	c.Send(s.coordinator, messages.PartitionsStopped{Generation: r.generation})
}

// tellAbandoned tells the coordinator which handlers are abandoned, if it has changed.
func (s *supervisor) tellAbandoned(c actor.Context) {
	if now := s.worker.handlers.abandonedNow(); !slices.Equal(now, s.abandoned) {
		s.abandoned = now
		c.Send(s.coordinator, messages.HandlersAbandoned{Handlers: now})
	}
}

// childEnded takes note that a child ended, as asked or by a crash.
func (s *supervisor) childEnded(c actor.Context, pid *actor.PID) {
	kind := s.terminated(c, pid)
	if kind == kindHeartbeat && !s.lease.IsZero() {
		s.armExpiry(c)
	}
	if kind != kindPartition && kind != kindReader {
		return
	}
	if s.run != nil && s.run.stopping && s.count(kindPartition)+s.count(kindReader) == 0 {
		s.stopped(c)
	}
}

// armExpiry sees to the end of the lease when the heartbeat has crashed: it may
// be long until there is another, which does it too.
func (s *supervisor) armExpiry(c actor.Context) {
	stopTimers(s.expiry)
	root, self, due := c.ActorSystem().Root, c.Self(), &leaseDue{until: s.lease}
	s.expiry = time.AfterFunc(time.Until(s.lease), func() { root.Send(self, due) })
}

// respawned spawns a crashed child again and tells it what it has missed.
func (s *supervisor) respawned(c actor.Context, due *respawn) {
	pid, spec := s.respawn(c, due)
	if pid == nil {
		return
	}
	switch spec.kind {
	case kindHeartbeat:
		s.heartbeat = pid
	case kindCoordinator:
		s.coordinator = pid
		s.receive(c, messages.AppendsWatched{}) // until it says otherwise
		s.receive(c, messages.ReplicaSetSeen{})
	case kindHorizon:
		c.Send(pid, messages.WakeUps{Connected: s.connected})
		c.Send(pid, messages.AppendsWatched{Watched: s.watched})
		c.Send(pid, s.seen)
	case kindReader:
		s.introduceReader(c, pid)
		s.send(c, kindPartition, s.reader)
	case kindPartition:
		c.Send(pid, s.reader)
		c.Send(pid, s.horizon)
	}
}

// briefing is what a new coordinator finds. It gets it when it is made: what it
// decided without would be of a worker on which nothing runs.
func (s *supervisor) briefing() []messages.ToCoordinator {
	var told []messages.ToCoordinator
	if !s.lease.IsZero() {
		told = append(told, messages.LeaseRenewed{Until: s.lease})
	}
	if s.abandoned = s.worker.handlers.abandonedNow(); len(s.abandoned) > 0 {
		told = append(told, messages.HandlersAbandoned{Handlers: s.abandoned})
	}
	if s.run != nil {
		told = append(told, s.found())
	}
	if s.leaving {
		told = append(told, messages.Leave{})
	}
	return told
}

// found is what a coordinator must know of the partitions that are alive.
func (s *supervisor) found() messages.PartitionsRunning {
	return messages.PartitionsRunning{Generation: s.run.generation, Stopping: s.run.stopping}
}
