package actors

import (
	"log/slog"
	"slices"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// partition is part k of N of the stream on this worker: one processor for each
// projection that the worker handles it for.
//
//	receives  HorizonAdvanced, ReaderReady   from the supervisor: for the processors
//	          Fenced            from a processor: for the supervisor
//	itself    respawn
//
// It is its processors' supervision strategy: see nursery.
type partition struct {
	nursery
	worker     *worker
	log        *slog.Logger
	run        *run
	assignment messages.PartitionAssignment
	again      bool                     // it replaces one that crashed: positions have moved on
	horizon    messages.HorizonAdvanced // the last one
	reader     messages.ReaderReady     // the last one
}

func newPartition(w *worker, r *run, a messages.PartitionAssignment, again bool) *partition {
	log := w.logger(kindPartition).With("generation", r.generation, "partition", a.Partition.String())
	return &partition{nursery: newNursery(log, w.Metrics), worker: w, log: log, run: r, assignment: a, again: again}
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
		p.send(c, kindProcessor, m)
	case messages.ReaderReady:
		p.reader = m
		p.send(c, kindProcessor, m)
	case messages.Fenced:
		c.Send(c.Parent(), m)
	case *respawn:
		if pid, _ := p.respawn(c, m); pid != nil {
			c.Send(pid, p.reader)
			c.Send(pid, p.horizon)
		}
	case *actor.Terminated:
		p.terminated(c, m.Who)
	case *actor.Stopping:
		p.close()
	default:
		unknown(c, p.worker, kindPartition)
	}
}

// startProcessor spawns the processor of one projection.
func (p *partition) startProcessor(c actor.Context, a messages.ProjectionAssignment) {
	handler := p.worker.projectionNamed(a.Projection)
	if handler == nil {
		p.log.Error("the assignment names a projection that this worker does not run", "projection", a.Projection)
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
		return newProcessor(p.worker, p.run, fence, handler, a)
	}})
}

// projectionNamed is the projection with the name; nil if the worker has none.
func (w *worker) projectionNamed(name string) projection.Projection {
	if i := slices.Index(w.Membership.Projections, name); i >= 0 {
		return w.Projections[i]
	}
	return nil
}
