package replicaset

import (
	"bytes"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"
)

// WorkerState is what a worker is doing.
type WorkerState string

// The states of a worker.
const (
	Pending  WorkerState = "pending"  // joined; waits for a generation that includes it
	Ready    WorkerState = "ready"    // handles nothing; waits for the generation to be activated
	Running  WorkerState = "running"  // handles its partitions
	Stopping WorkerState = "stopping" // finishes its batches and leaves
	Stopped  WorkerState = "stopped"  // left
	Dead     WorkerState = "dead"     // declared dead by the leader
)

// GenerationState is the phase of a generation.
type GenerationState string

// The phases of a generation.
const (
	Preparing  GenerationState = "preparing"  // the workers stop and report ready
	Active     GenerationState = "active"     // its members handle their partitions
	Superseded GenerationState = "superseded" // over
)

// Generation is the replica set's current configuration.
type Generation struct {
	Number  int64 // 0 before the first
	State   GenerationState
	Cause   string
	Reason  string
	Members []uuid.UUID
	// Age is how long ago it was prepared, ActiveFor how long it has been
	// active; 0 if it is not.
	Age, ActiveFor time.Duration
}

// Worker is another worker, or oneself, as the tables show it.
type Worker struct {
	ID            uuid.UUID
	Name          string
	State         WorkerState
	Generation    int64
	Projections   []string
	Unpartitioned []string
	Partitions    int
	// Abandoned is the projections of its abandoned handlers, one for each, in order.
	// LeftOut is the projections that the generation it was last a member of gave it no
	// partition of for that reason, in order.
	Abandoned, LeftOut []string
	// Drained says that somebody has drained it, and WithoutPartitions that the generation it was last a member of gave it no partitions for that reason.
	Drained, WithoutPartitions bool
	// StateAge is how long it has been in its state.
	StateAge time.Duration
	// HeartbeatAge is the time since the last heartbeat, at least 0. It is NoHeartbeat if the worker has
	// no heartbeat, or an infinite one. Heartbeat is the time of the last heartbeat, as the row has it.
	HeartbeatAge time.Duration
	Heartbeat    string
	// StaleTimeout is how old its heartbeat may be by its own settings; 0 if they are not known.
	StaleTimeout time.Duration
	// HasSession says whether the worker announced a session lock at all, and
	// SessionPID which backend holds it now; 0 if none does.
	HasSession bool
	SessionPID int
}

// NoHeartbeat is the HeartbeatAge of a worker that has no heartbeat: it is older than any.
const NoHeartbeat = time.Duration(math.MaxInt64)

// View is what a coordinator sees at one moment.
type View struct {
	// Generation is the current one; its Number is 0 if there is none.
	Generation Generation
	// Workers are those that have neither left nor been declared dead, the
	// generation's members, the leader, and oneself in any case, ordered by id.
	Workers []Worker
	// LeaderPID is the backend that holds the replica set's advisory lock; 0 if
	// none does.
	LeaderPID int
	// LeaderMayWrite says that its role may change the workers' table, as a worker's must.
	LeaderMayWrite bool
	// Leading says whether it is the backend that was asked.
	Leading bool
	// LeaderLocked says whether anybody holds that lock. A prepared transaction does so without a backend.
	LeaderLocked bool
	// SessionAge is how long the backend that was asked has been connected, and
	// ServerAge how long the server has been up. Session and Server change when they begin.
	SessionAge, ServerAge time.Duration
	Session, Server       string
	// At is when it was seen, on a clock of the caller's, who sets it.
	At time.Duration
	// Clock is the database's clock at the look, as the time since 1970: what
	// all workers can agree on, to take turns.
	Clock time.Duration
	// Glance says that the view is of pgcoord.Store.Glance, which looks neither at locks nor at
	// the other workers: nothing is known of these, of leadership and of sessions.
	Glance bool
	// Dead is how many workers were declared dead whose rows are kept.
	Dead int
	// Checkpoints has the sums of the worker's own checkpoints, for each projection. That of the positions never falls, and that of the revisions
	// never rises, unless somebody else changes a checkpoint or deletes one, or the generation changes.
	Checkpoints map[string]CheckpointSums
	// Contradicting has the worker's projections whose checkpoints are not as the active generation has divided them, in order: somebody
	// has moved, deleted or entered some. It is empty unless the worker has reported that it runs the generation.
	Contradicting []string
	// WithoutAids is why the abandoned handlers, or the drains, could not be read, at the first of such looks. Abandoned and Drained then say what
	// the generation has made of them. It is nil if they were read.
	WithoutAids error
	// LastAllocated is the highest position that the events table has given out, and so
	// changes when events are appended; 0 if it cannot be seen.
	LastAllocated int64
}

// Worker is the worker with the id; ok is false if the view has none.
func (v View) Worker(id uuid.UUID) (w Worker, ok bool) {
	for _, w := range v.Workers {
		if w.ID == id {
			return w, true
		}
	}
	return Worker{}, false
}

// Connected is how many workers are there with a session.
func (v View) Connected() int {
	n := 0
	for _, w := range v.Workers {
		if w.Present() && w.SessionPID != 0 {
			n++
		}
	}
	return n
}

// LeadersSession is the backend of the leader's session; 0 if the leader's lock is held by none that a worker's lock shows to be
// that of a worker which is there, or by a role that cannot be a worker's. So no other session can pass for it.
func (v View) LeadersSession() int {
	if !v.LeaderMayWrite {
		return 0
	}
	for _, w := range v.Workers {
		if w.Present() && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {
			return w.SessionPID
		}
	}
	return 0
}

// LeavesOut says whether the generation that is active leaves out other projections
// for the worker than those of which it has abandoned handlers: another one is needed.
func (w Worker) LeavesOut() bool {
	return !slices.Equal(slices.Compact(slices.Clone(w.Abandoned)), w.LeftOut)
}

// Present says whether the worker has neither left nor been declared dead.
func (w Worker) Present() bool { return w.State != Dead && w.State != Stopped }

// Remembering is worker self's glance with what the view before knew of the other workers,
// sessions and leadership, to go by until the next whole look. It proves nothing, and
// nothing is decided by it.
func Remembering(v, before View, self uuid.UUID) View {
	if !v.Glance {
		return v
	}
	v.LeaderPID, v.LeaderMayWrite, v.LeaderLocked, v.LastAllocated = before.LeaderPID, before.LeaderMayWrite, before.LeaderLocked, before.LastAllocated
	me, there := v.Worker(self)
	v.Workers = slices.DeleteFunc(slices.Clone(before.Workers), func(w Worker) bool {
		if w.ID == self {
			me.SessionPID = w.SessionPID
		}
		return w.ID == self
	})
	if there {
		i, _ := slices.BinarySearchFunc(v.Workers, self, func(w Worker, id uuid.UUID) int { return bytes.Compare(w.ID[:], id[:]) })
		v.Workers = slices.Insert(v.Workers, i, me)
	}
	return v
}

// CheckpointSums is the positions of several checkpoints, and their revisions, each added up.
type CheckpointSums struct {
	Positions int64 `json:"positions"`
	Revisions int64 `json:"revisions"`
}
