package actors

import (
	"log/slog"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// partition is part k of N of the stream on this worker: one processor for each
// projection that the worker handles it for.
//
//	receives  HorizonAdvanced, ReaderReady   from the supervisor: for the processors
//	          ProgressAsked     from the supervisor: it ends a round; for the processors
//	          Fenced            from a processor: for the supervisor
//	          Informed          from a processor: it can be told what came meanwhile
//	itself    respawn
//
// It is its processors' supervision strategy: see nursery.
type partition struct {
	nursery
	worker     *worker
	log        *slog.Logger
	loop       *health.Loop
	run        *run
	assignment messages.PartitionAssignment
	again      bool                        // it replaces one that crashed: positions have moved on
	horizon    messages.HorizonAdvanced    // the last one
	reader     messages.ReaderReady        // the last one
	changed    messages.CheckpointsChanged // the last one
	asked      messages.ProgressAsked      // the last one
	told       map[string]*told            // by a processor's PID id
}

// told is what a processor knows. It is told more only when it has taken that in: while
// a handler runs, its mailbox does not grow.
type told struct {
	horizon messages.HorizonAdvanced
	reader  messages.ReaderReady
	changed messages.CheckpointsChanged
	asked   messages.ProgressAsked
	open    int // messages that it has not taken in
}

func newPartition(w *worker, r *run, a messages.PartitionAssignment, again bool) *partition {
	log := w.logger(kindPartition).With("generation", r.generation, "partition", a.Partition.String())
	return &partition{
		nursery: newNursery(log, w.Metrics), worker: w, log: log, run: r.sub(w.Timing.Grace), assignment: a, again: again,
		loop: w.Loops.Watch(kindPartition+" "+a.Partition.String(), quietRound), told: map[string]*told{},
	}
}

// Receive is the actor's protocol.
func (p *partition) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		for _, a := range p.assignment.Projections {
			p.startProcessor(c, a)
		}
	case messages.HorizonAdvanced:
		p.horizon = m
		p.informAll(c)
	case messages.CheckpointsChanged:
		p.changed = m
		p.informAll(c)
	case messages.ProgressAsked:
		p.loop.Round()
		p.asked = m
		p.informAll(c)
	case messages.ReaderReady:
		p.reader = m
		p.informAll(c)
	case messages.Informed:
		if sender := c.Sender(); sender != nil && p.told[sender.Id] != nil {
			p.told[sender.Id].open--
			p.inform(c, sender)
		}
	case messages.Fenced:
		c.Send(c.Parent(), m)
	case *respawn:
		if pid, _ := p.respawn(c, m); pid != nil {
			p.inform(c, pid)
		}
	case *actor.Terminated:
		delete(p.told, m.Who.Id)
		p.terminated(c, m.Who)
	case *actor.Stopping:
		p.close()
		p.run.endLoop(p.loop)
		if p.run.soft.Err() == nil { // nobody has asked for it: the partition has crashed
			p.run.cancel(errStopping)
		}
	case *actor.Stopped:
		p.run.cancel(errStopping)
	default:
		unknown(c, p.worker, kindPartition)
	}
}

// informAll tells the processors what they do not know.
func (p *partition) informAll(c actor.Context) {
	for _, kid := range p.alive {
		p.inform(c, kid.pid)
	}
}

// inform tells a processor what it does not know, unless it has yet to take in what it
// was told before.
func (p *partition) inform(c actor.Context, pid *actor.PID) {
	t := p.told[pid.Id]
	if t == nil {
		t = &told{}
		p.told[pid.Id] = t
	}
	if t.open > 0 {
		return
	}
	if t.reader != p.reader {
		t.reader = p.reader
		t.open++
		c.Send(pid, p.reader)
	}
	if t.changed != p.changed {
		t.changed = p.changed
		t.open++
		c.Send(pid, p.changed)
	}
	if t.horizon != p.horizon {
		t.horizon = p.horizon
		t.open++
		c.Send(pid, p.horizon)
	}
	if t.asked != p.asked {
		t.asked = p.asked
		t.open++
		c.Send(pid, p.asked)
	}
}

// startProcessor spawns the processor of one projection.
func (p *partition) startProcessor(c actor.Context, a messages.ProjectionAssignment) {
	described, ok := p.worker.projectionNamed(a.Projection)
	if !ok {
		p.log.Error("the assignment names a projection that this worker does not run", "projection", a.Projection)
		return
	}
	if p.worker.handlers.hasAbandoned(a.Projection) {
		// The coordinator is told too, and asks for a generation that leaves it out.
		p.log.Warn("the projection is not started: one of its abandoned handlers has not returned", "projection", a.Projection)
		return
	}
	fence := pgcoord.Fence{
		Projection: a.Projection, Partition: p.assignment.Partition,
		Generation: p.run.generation, Worker: p.worker.self(),
	}
	p.spawn(c, childSpec{kind: kindProcessor, key: a.Projection, produce: func(again bool) actor.Actor {
		if again || p.again {
			a.Pieces = nil // to be read again
		}
		return newProcessor(p.worker, p.run, fence, described, a)
	}})
}

// projectionNamed is the projection with the name, if the worker has it.
func (w *worker) projectionNamed(name string) (d handling.Description, ok bool) {
	if i := slices.Index(w.Membership.Projections, name); i >= 0 {
		return w.Projections[i], true
	}
	return d, false
}
