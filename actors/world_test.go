package actors

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// world is a replica set as the tables have it, and the workers that share it.
// The real decide and the real coordinator.note run in it; the supervisor, the
// heartbeat and the tables are modelled. Every change of the tables is one step,
// as it is one transaction in PostgreSQL.
type world struct {
	choose   seeded
	decide   func(replicaset.State, replicaset.View) (replicaset.State, []replicaset.Action)
	timing   Timing
	pollOnly bool

	now         time.Duration
	offset      time.Duration // of the database's clock
	steps       bool          // it is set now and then
	rights      bool          // workers may end each other's sessions
	generations []*simGeneration
	rows        map[uuid.UUID]*simRow
	owners      []uuid.UUID // of the checkpoints
	ownedIn     int64       // the generation that the checkpoints name
	leader      int         // the backend that holds the leader's lock; 0 if none
	lastPID     int
	nodes       []*node
	late        []func() // what crashed coordinators had sent to the server

	// For the tests that the test can fail: unchecked makes Prepare believe the caller, databaseAges makes workers believe the
	// database's clock.
	unchecked, databaseAges bool
	violation               string
	trace                   []string
}

// simGeneration is a row of the generations.
type simGeneration struct {
	number             int64
	state              replicaset.GenerationState
	members            []uuid.UUID
	created, activated time.Duration
}

// simRow is a row of the workers, with its heartbeat.
type simRow struct {
	state      replicaset.WorkerState
	generation int64
	beat       time.Duration // on the database's clock, as all times in rows
}

// strangerPID is a session that is nobody's.
const strangerPID = -1

func newWorld(c seeded, pollOnly bool) *world {
	return &world{
		choose: c, decide: replicaset.Decide, pollOnly: pollOnly, steps: c.intN(2) == 0, rights: c.intN(3) > 0, rows: map[uuid.UUID]*simRow{},
		timing: Timing{Timing: replicaset.Timing{
			Stale: 1200 * time.Millisecond, Coordination: 2 * time.Second,
			Settle: 150 * time.Millisecond, SessionGrace: 200 * time.Millisecond,
		}},
	}
}

// logf remembers what happened, for the report of a violation.
func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%6d ", w.now.Milliseconds())+fmt.Sprintf(format, args...))
}

// broken notes the first violation of an invariant.
func (w *world) broken(format string, args ...any) {
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, args...)
		w.logf("VIOLATION: %s", w.violation)
	}
}

// current is the generation that is not superseded; nil if there is none.
func (w *world) current() *simGeneration {
	i := slices.IndexFunc(w.generations, func(g *simGeneration) bool { return g.state != replicaset.Superseded })
	if i < 0 {
		return nil
	}
	return w.generations[i]
}

// view is what node n sees: Store.Observe, or Store.Glance.
func (w *world) view(n *node, glance bool) replicaset.View {
	v := replicaset.View{SessionAge: w.now - n.connected, Session: fmt.Sprint(n.pid), ServerAge: time.Hour}
	if glance {
		v = replicaset.View{Glance: true}
	} else if !w.pollOnly {
		if w.leader == 0 && n.k.mayLead() {
			w.leader = n.pid
		}
		v.LeaderLocked, v.LeaderPID, v.Leading = w.leader != 0, w.leader, w.leader == n.pid
		v.LeaderMayWrite = v.LeaderLocked
	}
	if g := w.current(); g != nil {
		v.Generation = replicaset.Generation{Number: g.number, State: g.state, Members: slices.Clone(g.members), Age: max(0, w.clock()-g.created)}
		if g.state == replicaset.Active {
			v.Generation.ActiveFor = max(0, w.clock()-g.activated)
		}
	}
	for _, other := range w.nodes {
		row := w.rows[other.id]
		if row == nil || (!alive(row) && other != n) || (glance && other != n) {
			continue
		}
		seen := replicaset.Worker{
			ID: other.id, Name: other.name, State: row.state, Generation: row.generation,
			HeartbeatAge: max(0, w.clock()-row.beat), Heartbeat: fmt.Sprint(row.beat), HasSession: !w.pollOnly,
		}
		if !glance {
			seen.SessionPID = other.pid
		}
		v.Workers = append(v.Workers, seen)
	}
	slices.SortFunc(v.Workers, func(a, b replicaset.Worker) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return v
}

// clock is the database's clock.
func (w *world) clock() time.Duration { return w.now + w.offset }

// alive says whether the row is one of a worker that is there.
func alive(row *simRow) bool { return row.state != replicaset.Dead && row.state != replicaset.Stopped }

// node is the worker with the id.
func (w *world) node(id uuid.UUID) *node {
	return w.nodes[slices.IndexFunc(w.nodes, func(n *node) bool { return n.id == id })]
}

// perform is one action's change of the tables, as pgcoord makes it. pid is the
// backend that it runs on.
func (w *world) perform(n *node, pid int, a replicaset.Action) {
	row := w.rows[n.id]
	switch a := a.(type) {
	case replicaset.Join:
		if row == nil {
			w.rows[n.id] = &simRow{state: replicaset.Pending, beat: w.clock()}
		}
	case replicaset.Rejoin:
		if row != nil && row.state == replicaset.Dead {
			row.state, row.generation, row.beat = replicaset.Pending, 0, w.clock()
		}
	case replicaset.Report:
		if row != nil && alive(row) {
			row.state, row.generation = a.State, a.Generation
		}
	case replicaset.Leave:
		if row != nil {
			row.state = replicaset.Stopped
		}
		if w.leader == pid {
			w.leader = 0
		}
	case replicaset.Prepare:
		w.prepare(a.Preparation)
	case replicaset.DeclareDead:
		w.markDead(a.Losses)
	case replicaset.Activate:
		w.activate(a.Activation)
	case replicaset.Prune:
		w.prune()
	case replicaset.EndLeader:
		switch holder := w.node(a.Worker); {
		case !w.rights && n.k != nil:
			n.k.state.Refused, n.k.state.RefusedAt = a.PID, n.k.view.At
		case w.rights && holder.pid == a.PID && w.leader == a.PID:
			w.endSession(holder)
		}
	}
}

// prepare is Store.Prepare.
func (w *world) prepare(change replicaset.Preparation) {
	g := w.current()
	number := int64(0)
	if g != nil {
		number = g.number
	}
	if !w.unchecked && (number != change.From || (g != nil && g.state != replicaset.Active)) {
		return
	}
	if g != nil {
		g.state = replicaset.Superseded
	}
	w.markDead(change.Lost)
	w.generations = append(w.generations, &simGeneration{number: change.From + 1, state: replicaset.Preparing, created: w.clock()})
}

// markDead is Store.MarkDead: the evidence is looked at again.
func (w *world) markDead(losses []replicaset.Loss) {
	for _, l := range losses {
		row := w.rows[l.Worker]
		if row == nil {
			continue
		}
		gone := fmt.Sprint(row.beat) == l.Heartbeat
		if l.SessionGone {
			gone = w.node(l.Worker).pid == 0
		}
		if alive(row) && gone {
			row.state = replicaset.Dead
		}
	}
}

// activate is Store.Activate.
func (w *world) activate(a replicaset.Activation) {
	g := w.current()
	if g == nil || g.number != a.Number || g.state != replicaset.Preparing {
		return
	}
	var ready []uuid.UUID
	for id, row := range w.rows {
		if row.state == replicaset.Ready && row.generation == a.Number {
			ready = append(ready, id)
		}
	}
	if len(ready) == 0 {
		return
	}
	slices.SortFunc(ready, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range a.Exclude {
		row := w.rows[id]
		if row == nil {
			continue
		}
		w.node(id).excluded = row.state == replicaset.Stopping
		if alive(row) && row.state != replicaset.Stopping && !slices.Contains(ready, id) {
			row.state = replicaset.Dead
		}
	}
	g.state, g.members, g.activated = replicaset.Active, ready, w.clock()
	w.owners, w.ownedIn = ready, g.number
}

// prune is Store.Prune that keeps nothing.
func (w *world) prune() {
	for id, row := range w.rows {
		if !alive(row) && !slices.Contains(w.owners, id) {
			delete(w.rows, id)
		}
	}
}

// endSession ends a node's backend.
func (w *world) endSession(n *node) {
	if n.pid != 0 && w.leader == n.pid {
		w.leader = 0
	}
	n.pid = 0
}

// check looks for violations of what must hold at every moment.
func (w *world) check() {
	current := 0
	for i, g := range w.generations {
		if g.state != replicaset.Superseded {
			current++
		}
		if i > 0 && g.number <= w.generations[i-1].number {
			w.broken("generation %d follows %d", g.number, w.generations[i-1].number)
		}
	}
	if current > 1 {
		w.broken("%d generations are not superseded", current)
	}
	for _, n := range w.nodes {
		row := w.rows[n.id]
		if n.run == nil || row == nil || !alive(row) || n.excluded {
			continue // fenced: declared dead, or not waited for any longer
		}
		for _, other := range w.nodes {
			if other.run != nil && other.run.generation > n.run.generation {
				w.broken("%s runs generation %d, %s still runs %d", other.name, other.run.generation, n.name, n.run.generation)
			}
		}
		if row.state == replicaset.Ready && row.generation > n.run.generation {
			w.broken("%s is ready for generation %d, and runs %d", n.name, row.generation, n.run.generation)
		}
	}
}
