package actors

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// node is one worker of a world.
type node struct {
	world *world
	id    uuid.UUID
	name  string

	gone      bool // left or killed
	frozen    bool
	cut       bool // from the database
	pid       int  // of its session; 0 if it has none
	connected time.Duration
	excluded  bool // not waited for any longer though it is on its way out

	// The coordinator: the real state, and where its round is.
	k     *coordinator // nil while it waits for its next life
	seen  *replicaset.View
	at    time.Duration // when it was seen
	todo  []replicaset.Action
	start int64 // the generation whose assignment was read; 0 if none
	inbox []messages.ToCoordinator

	// The supervisor and the heartbeat.
	toSupervisor []any // messages.ToSupervisor, and *respawn
	run          *simRun
	trusted      bool          // the supervisor's idea of the lease
	until        time.Duration // the heartbeat's
	leaving      bool
	left         bool
}

// simRun is the life of a generation's partitions.
type simRun struct {
	generation int64
	stopping   bool
}

func (w *world) spawnNode() {
	i := len(w.nodes)
	n := &node{world: w, id: uuid.UUID{byte(w.choose.intN(200)), byte(i)}, name: fmt.Sprintf("w%d", i)}
	w.nodes = append(w.nodes, n)
	w.connect(n)
	n.respawn()
}

// connect gives a node a session.
func (w *world) connect(n *node) {
	w.lastPID++
	n.pid, n.connected = w.lastPID, w.now
	if n.k != nil {
		n.k.note(messages.SessionLost{})
	}
}

// respawn makes a coordinator, and tells it what it finds: supervisor.briefing.
func (n *node) respawn() {
	wk := &worker{Config: Config{Timing: n.world.timing, Membership: pgcoord.Membership{ID: n.id}, Logger: slog.New(slog.DiscardHandler)}}
	n.k = newCoordinator(wk, n.briefing()...)
	n.k.state.PollOnly = n.world.pollOnly
	n.seen, n.todo, n.start, n.inbox = nil, nil, 0, nil
}

func (n *node) briefing() []messages.ToCoordinator {
	var told []messages.ToCoordinator
	if n.trusted {
		told = append(told, messages.LeaseRenewed{})
	}
	if n.run != nil {
		told = append(told, messages.PartitionsRunning{Generation: n.run.generation, Stopping: n.run.stopping})
	}
	if n.leaving {
		told = append(told, messages.Leave{})
	}
	return told
}

// crash ends the coordinator in the middle of whatever it does. A statement
// that it had sent may still arrive.
func (n *node) crash() {
	w := n.world
	if n.k == nil {
		return
	}
	if len(n.todo) > 0 && w.choose.intN(2) == 0 {
		a, pid := n.todo[0], n.pid
		w.late = append(w.late, func() {
			w.logf("%s late: %T%+v", n.name, a, a)
			w.perform(n, pid, a)
		})
	}
	n.k.cancel()
	n.k, n.seen, n.todo, n.start, n.inbox = nil, nil, nil, 0, nil
	n.ask(&respawn{})
}

// tell sends the coordinator a message, which is lost if it is between two lives.
func (n *node) tell(m messages.ToCoordinator) {
	if n.k != nil {
		n.inbox = append(n.inbox, m)
	}
}

// ask sends the supervisor a message.
func (n *node) ask(m any) { n.toSupervisor = append(n.toSupervisor, m) }

// reaches says whether the node can run statements.
func (n *node) reaches() bool { return !n.cut && (n.world.pollOnly || n.pid != 0) }

// look begins a round.
func (n *node) look() {
	if n.k == nil || n.left || n.seen != nil || n.todo != nil || !n.reaches() {
		return
	}
	n.k.hurried = n.world.choose.intN(2) == 0
	v := n.world.view(n, n.k.glances())
	n.seen, n.at = &v, n.world.now
}

// conclude decides on what was seen, which may be old by now.
func (n *node) conclude() {
	if n.seen == nil {
		return
	}
	var actions []replicaset.Action
	seen := n.k.ages.Measure(*n.seen, n.at)
	if n.world.databaseAges {
		seen = *n.seen
		seen.At = n.at
	}
	n.k.view = replicaset.Remembering(seen, n.k.view, n.id)
	n.k.state, actions = n.world.decide(n.k.state, n.k.view)
	n.seen = nil
	for _, a := range actions {
		if stop, ok := a.(replicaset.StopPartitions); ok {
			n.ask(messages.StopPartitions{Generation: stop.Generation, Now: stop.Now, Reason: stop.Reason})
		}
	}
	n.todo = slices.DeleteFunc(actions, func(a replicaset.Action) bool {
		switch a.(type) {
		case replicaset.StopPartitions, replicaset.LookAgain:
			return true
		}
		return false
	})
	for _, a := range n.todo {
		n.world.logf("%s will %T%+v", n.name, a, a)
	}
	if len(n.todo) == 0 {
		n.todo = nil
	}
}

// act performs the round's next action, and ends the round after the last.
func (n *node) act() {
	if len(n.todo) == 0 {
		return
	}
	a := n.todo[0]
	n.todo = n.todo[1:]
	left := false
	if n.reaches() {
		n.world.logf("%s does %T", n.name, a)
		n.world.perform(n, n.pid, a)
		if s, ok := a.(replicaset.StartPartitions); ok {
			n.start = s.Generation
		}
		_, left = a.(replicaset.Leave)
	} else {
		n.todo = nil // the first that fails ends the round
	}
	if len(n.todo) > 0 {
		return
	}
	n.todo = nil
	if n.start != 0 {
		n.k.starting(n.start)
		n.ask(messages.StartPartitions{Assignment: messages.Assignment{Generation: n.start}})
		n.start = 0
	}
	if left {
		n.left = true
		n.ask(messages.Left{})
	}
}

// hear gives the coordinator its next message.
func (n *node) hear() {
	if n.k != nil && len(n.inbox) > 0 {
		n.k.note(n.inbox[0])
		n.inbox = n.inbox[1:]
	}
}

// supervise gives the supervisor its next message: supervisor.receive.
func (n *node) supervise() {
	if len(n.toSupervisor) == 0 {
		return
	}
	m := n.toSupervisor[0]
	n.toSupervisor = n.toSupervisor[1:]
	switch m := m.(type) {
	case *respawn:
		n.respawn()
	case messages.StartPartitions:
		switch {
		case n.run != nil:
			n.tell(messages.PartitionsRunning{Generation: n.run.generation, Stopping: n.run.stopping})
		case !n.trusted:
			n.tell(messages.PartitionsStopped{Generation: m.Assignment.Generation})
		default:
			n.run = &simRun{generation: m.Assignment.Generation}
			n.world.logf("%s runs generation %d", n.name, n.run.generation)
		}
	case messages.StopPartitions:
		if n.run == nil {
			n.tell(messages.PartitionsStopped{Generation: m.Generation})
			return
		}
		n.run.stopping = true
	case messages.LeaseExpired:
		n.trusted = false
		if n.run != nil {
			n.run.stopping = true
		}
		n.tell(m)
	case messages.LeaseRenewed:
		if !n.trusted {
			n.tell(m)
		}
		n.trusted = true
	case messages.Leave:
		n.leaving = true
		n.tell(m)
	case messages.Left:
		n.die()
	}
}

// drained ends partitions that are being stopped.
func (n *node) drained() {
	if n.run == nil || !n.run.stopping {
		return
	}
	n.world.logf("%s has stopped generation %d", n.name, n.run.generation)
	n.tell(messages.PartitionsStopped{Generation: n.run.generation})
	n.run = nil
}

// beat is a heartbeat.
func (n *node) beat() {
	row := n.world.rows[n.id]
	if !n.reaches() || row == nil || !alive(row) {
		return
	}
	row.beat = n.world.clock()
	n.until = n.world.now + n.world.timing.trust()
	n.ask(messages.LeaseRenewed{})
}

// expire ends the lease when it is time.
func (n *node) expire() {
	if n.until != 0 && n.world.now >= n.until {
		n.until = 0
		n.ask(messages.LeaseExpired{})
	}
}

// die ends everything of the node.
func (n *node) die() {
	n.world.logf("%s is gone", n.name)
	n.gone, n.run = true, nil
	if n.k != nil {
		n.k.cancel()
	}
	n.world.endSession(n)
}
