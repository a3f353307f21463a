package actors

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

// A change of generation pauses every worker until the slowest one has stopped and started again. So each worker stops late and sends few statements.

// stopDue says that it is time to stop the partitions.
type stopDue struct{ stop replicaset.StopPartitions }

// awaited returns the number of the generation in preparation if the worker has stopped for it, otherwise 0. The worker's next look probably shows that
// generation as active, so its assignment is read with the look.
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
