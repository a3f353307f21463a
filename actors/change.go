package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// A change of generation pauses all workers until the last of them has stopped and started again. So each stops as late, and asks as little, as it can.

// stopDue says that it is time to stop the partitions.
type stopDue struct{ stop replicaset.StopPartitions }

// awaited is the generation that the worker is ready for, which a look will probably show as active; 0 if there is none.
func (k *coordinator) awaited() int64 {
	if k.state.Partitions != replicaset.Idle || k.view.Generation.State != replicaset.Preparing {
		return 0
	}
	return k.view.Generation.Number
}

// stopAfter has the supervisor stop the partitions, after a time.
func (k *coordinator) stopAfter(c actor.Context, a replicaset.StopPartitions) {
	if a.After <= 0 {
		k.stop(c, a)
		return
	}
	root, self := c.ActorSystem().Root, c.Self()
	k.stopping = time.AfterFunc(a.After, func() { root.Send(self, &stopDue{stop: a}) })
}

// stop has the supervisor stop the partitions. It may have stopped them already, for another reason.
func (k *coordinator) stop(c actor.Context, a replicaset.StopPartitions) {
	if k.state.Partitions != replicaset.Draining || k.state.Generation != a.Generation {
		return
	}
	k.log.Debug("stopping the partitions", "generation", a.Generation, "reason", a.Reason)
	k.transitions.stopping()
	c.Send(c.Parent(), messages.StopPartitions{Generation: a.Generation, Now: a.Now, Reason: a.Reason})
}
