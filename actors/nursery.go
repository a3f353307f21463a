package actors

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

// Every actor that has children keeps them in a nursery. It spawns them, counts their crashes, and spawns those that crashed again, after a backoff.

// childSpec says how to make a child.
type childSpec struct {
	kind string // a metric's label: few values
	key  string // unique among the parent's children of one moment
	// produce makes the actor. again says that it replaces one that crashed.
	produce func(again bool) actor.Actor
}

// child is one that is alive.
type child struct {
	childSpec
	pid      *actor.PID
	crashed  bool // stopped because it panicked
	stopping bool // stopped because nobody needs it any more
}

// respawn is what a parent sends itself when a crashed child is due again.
type respawn struct{ key string }

// nursery keeps an actor's children: it spawns them under names that are never
// used twice, counts their crashes, and spawns the crashed again with backoff.
// It belongs to the parent's goroutine. The parent embeds it to be its
// children's supervision strategy, passes it every *actor.Terminated and
// *respawn, and calls close in Stopping.
type nursery struct {
	log     *slog.Logger
	metrics *measure.ReplicaSet
	backoff dbfault.Backoff
	// budget is how many crashes within the window are a crash loop: it is
	// logged as an error, and goes on at the longest backoff.
	budget int
	window time.Duration

	alive    map[string]*child // by PID id
	waiting  map[string]pendingChild
	crashes  map[string]*crashes // by kind and key
	sequence int
	closed   bool // the parent is ending
}

// pendingChild is a crashed child that is due again.
type pendingChild struct {
	spec  childSpec
	timer *time.Timer
}

func newNursery(log *slog.Logger, m *measure.ReplicaSet) nursery {
	return nursery{
		log: log, metrics: m,
		backoff: dbfault.Backoff{First: 50 * time.Millisecond, Max: 30 * time.Second},
		budget:  10, window: 5 * time.Minute,
		alive: map[string]*child{}, waiting: map[string]pendingChild{}, crashes: map[string]*crashes{},
	}
}

// spawn makes a child. It panics if the library refuses, which it does only
// for a name that is taken.
func (n *nursery) spawn(c actor.Context, spec childSpec) *actor.PID {
	return n.make(c, spec, false)
}

func (n *nursery) make(c actor.Context, spec childSpec, again bool) *actor.PID {
	n.sequence++
	name := fmt.Sprintf("%s.%s.%d", spec.kind, spec.key, n.sequence)
	props := properties(spec.kind, c.Self().Id+"/"+name, n.metrics, func() actor.Actor { return spec.produce(again) })
	pid, err := c.SpawnNamed(props, name)
	if err != nil {
		panic(fmt.Errorf("spawning %s: %w", name, err))
	}
	n.alive[pid.Id] = &child{childSpec: spec, pid: pid}
	return pid
}

// HandleFailure stops the child that panicked. The library calls it on the
// parent's goroutine.
func (n *nursery) HandleFailure(_ *actor.ActorSystem, parent actor.Supervisor, pid *actor.PID, _ *actor.RestartStatistics, reason, _ any) {
	if kid := n.alive[pid.Id]; kid != nil {
		kid.crashed = true
		attrs := []any{"actor", kid.kind, "key", kid.key, "error", reason}
		var crashed *crash
		if err, ok := reason.(error); ok && errors.As(err, &crashed) {
			attrs = append(attrs, "stack", string(crashed.Stack))
		}
		n.log.Error("an actor panicked and is spawned again", attrs...)
	}
	parent.StopChildren(pid)
}

// terminated takes note that a child ended. If it crashed, it is spawned again
// after the backoff. It returns the child's kind; "" if it was not one of the
// nursery's.
func (n *nursery) terminated(c actor.Context, pid *actor.PID) (kind string) {
	gone := n.alive[pid.Id]
	if gone == nil {
		return ""
	}
	delete(n.alive, pid.Id)
	if gone.crashed && !gone.stopping && !n.closed {
		n.schedule(c, gone.childSpec)
	}
	return gone.kind
}

// schedule arms the timer that spawns a crashed child again.
func (n *nursery) schedule(c actor.Context, spec childSpec) {
	id := spec.kind + "." + spec.key
	if n.crashes[id] == nil {
		n.crashes[id] = &crashes{window: n.window}
	}
	count := n.crashes[id].add(time.Now())
	delay := n.backoff.After(count)
	if count > n.budget {
		delay = n.backoff.Max
		n.log.Error("an actor keeps panicking", "actor", spec.kind, "key", spec.key, "panics", count, "window", n.window, "next_try", delay)
	}
	root, self, due := c.ActorSystem().Root, c.Self(), &respawn{key: id}
	n.waiting[id] = pendingChild{spec: spec, timer: time.AfterFunc(delay, func() { root.Send(self, due) })}
}

// respawn spawns a crashed child that is due. It returns nil if the child was
// given up meanwhile.
func (n *nursery) respawn(c actor.Context, due *respawn) (*actor.PID, childSpec) {
	pending, ok := n.waiting[due.key]
	if !ok {
		return nil, childSpec{}
	}
	delete(n.waiting, due.key)
	n.metrics.ActorRespawned(pending.spec.kind)
	return n.make(c, pending.spec, true), pending.spec
}

// stop stops the children of a kind, those that wait for their next life too.
// It says whether any is still alive.
func (n *nursery) stop(c actor.Context, kind string) bool {
	left := false
	for _, kid := range n.alive {
		if kid.kind == kind {
			left = true
			kid.stopping = true
			c.Stop(kid.pid)
		}
	}
	for id, pending := range n.waiting {
		if pending.spec.kind == kind {
			pending.timer.Stop()
			delete(n.waiting, id)
		}
	}
	for id := range n.crashes {
		if len(id) > len(kind) && id[:len(kind)+1] == kind+"." {
			delete(n.crashes, id)
		}
	}
	return left
}

// count is how many children of a kind are alive.
func (n *nursery) count(kind string) int {
	count := 0
	for _, kid := range n.alive {
		if kid.kind == kind {
			count++
		}
	}
	return count
}

// send sends a message to every child of a kind.
func (n *nursery) send(c actor.Context, kind string, message any) {
	for _, kid := range n.alive {
		if kid.kind == kind {
			c.Send(kid.pid, message)
		}
	}
}

// close forgets the children that wait for their next life, and lets no other
// wait for one. The library stops those that are alive.
func (n *nursery) close() {
	n.closed = true
	for id, pending := range n.waiting {
		pending.timer.Stop()
		delete(n.waiting, id)
	}
}
