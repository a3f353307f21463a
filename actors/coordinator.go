package actors

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// coordinator is the only actor that speaks to the tables of generations and
// workers.
//
//	receives  PartitionsRunning   what it finds when it is spawned again
//	          PartitionsStopped   nothing is handled any more
//	          HandlersAbandoned   which handlers are not waited for: for the table
//	          Fenced              a checkpoint is somebody else's: look
//	          SessionConnected, SessionLost, Notified   hints: look
//	          LeaseRenewed, LeaseExpired, DeclaredDead   the heartbeat's verdicts
//	          Leave               finish and say goodbye
//	sends     StopPartitions, StartPartitions, Joined, Left, EventsAppended, AppendsWatched, ReplicaSetSeen   to the supervisor
//	itself    lookDue, lookOverdue, stopDue, looked, acted
//
// It works in rounds: look at the tables, decide, act, and look again if
// anything was done. Looking and acting run on a goroutine, one at a time.
type coordinator struct {
	worker *worker
	log    *slog.Logger
	loop   *health.Loop

	ctx         context.Context
	cancel      context.CancelFunc
	state       replicaset.State
	view        replicaset.View         // the last one
	watched     bool                    // the horizon was told that the looks show appends
	told        messages.ReplicaSetSeen // the horizon, of the replica set
	busy        bool                    // looking or acting
	wholeIn     int64                   // the generation at the last whole look: in another one, another worker may lead
	hurried     bool                    // something called for a look for which a glance does
	whole       bool                    // something called for one for which it does not
	again       bool                    // something happened meanwhile
	left        bool                    // the goodbye is said
	due         *time.Timer             // of the next look
	overdue     *time.Timer             // of a look that is on its way
	stopping    *time.Timer             // of the partitions
	transitions transitionLog
	ages        replicaset.Ages
	began       time.Time // when its clock began
	failure     int       // looks or acts that failed in a row

	changes int64    // how often processors were told that checkpoints were changed by somebody else
	changed []string // the projections whose were at the last look
}

type (
	// lookDue says that it is time for another look; hurried, that an action
	// asked for it.
	lookDue struct{ hurried bool }
	// lookOverdue says that a look takes so long that nobody may rely on it.
	lookOverdue struct{}
	// looked is what was seen.
	looked struct {
		view  replicaset.View
		ahead *pgcoord.Assigned // the assignment, if it was read with the view; otherwise nil
		at    time.Duration     // when, on the coordinator's clock
		err   error
		// believed is what the processors believed when the look began.
		believed believed
	}
	// acted is what came of a round's actions.
	acted struct {
		joined     bool                 // the worker's row is there
		left       bool                 // the goodbye is said
		assignment *messages.Assignment // to be started
		incomplete bool                 // the assignment lacks slots
		again      bool                 // look again after delay
		delay      time.Duration
		refused    int  // the backend of a frozen leader that this worker may not end
		unrecorded bool // the abandoned handlers could not be recorded
		err        error
	}
)

// newCoordinator makes a coordinator that has been told what it finds, before
// it looks for the first time.
func newCoordinator(w *worker, told ...messages.ToCoordinator) *coordinator {
	ctx, cancel := context.WithCancel(context.Background())
	k := &coordinator{
		worker: w, log: w.logger(kindCoordinator), loop: w.Loops.Watch(kindCoordinator, coordinatorRound), ctx: ctx, cancel: cancel, began: time.Now(),
		state: replicaset.State{Self: w.self(), PollOnly: w.session == nil, Timing: w.Timing.Timing},
	}
	for _, m := range told {
		k.note(m)
	}
	return k
}

// Receive is the actor's protocol.
func (k *coordinator) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		k.look(c)
	case *lookDue:
		k.call(m.hurried)
		k.look(c)
	case *lookOverdue:
		k.tellWatched(c, false)
	case *stopDue:
		k.stop(c, m.stop)
	case *looked:
		stopTimers(k.overdue)
		k.looked(c, m)
	case *acted:
		k.acted(c, m)
	case messages.ToCoordinator:
		k.note(m)
		k.follow(c, m)
	case *actor.Stopping:
		k.cancel()
		stopTimers(k.due, k.overdue, k.stopping)
	default:
		unknown(c, k.worker, kindCoordinator)
	}
}

// note takes in what the supervisor says. A look follows.
func (k *coordinator) note(m messages.ToCoordinator) {
	switch m := m.(type) {
	case messages.PartitionsRunning:
		k.state.Partitions, k.state.Generation = replicaset.Handling, m.Generation
		if m.Stopping {
			k.state.Partitions = replicaset.Draining
		}
	case messages.PartitionsStopped:
		if m.Generation >= k.state.Generation {
			k.state.Partitions = replicaset.Idle
			k.transitions.drained(k.worker.Metrics)
		}
	case messages.HandlersAbandoned:
		k.state.Abandoned = m.Handlers
	case messages.Fenced:
		k.state.Fenced = k.state.Fenced || m.Generation == k.state.Generation
	case messages.LeaseRenewed:
		k.state.Trusted = true
	case messages.LeaseExpired:
		k.state.Trusted = false
	case messages.Leave:
		k.state.Leaving = true
	case messages.Notified:
		k.worker.Metrics.Notification(m.Kind)
	case messages.SessionLost:
		k.state.Reconnected = k.state.Reconnected || len(k.view.Workers) > 0
	case messages.SessionConnected, messages.DeclaredDead:
	}
}

// follow does what a message calls for: mostly a look. Only the leader cares who
// came or is ready. When the partitions have stopped, what the worker was to do
// then follows from what it saw last; each further step is guarded in the table.
func (k *coordinator) follow(c actor.Context, m messages.ToCoordinator) {
	switch m := m.(type) {
	case messages.Notified:
		if !replicaset.Leads(k.state, k.view) && (m.Kind == pgcoord.NotifyReady || m.Kind == pgcoord.NotifyJoined) {
			return
		}
		k.call(m.Kind == pgcoord.NotifyGeneration)
	case messages.PartitionsStopped:
		k.call(true)
		if me, known := k.view.Worker(k.state.Self); known && !k.busy && !k.left && !k.state.Fenced {
			var actions []replicaset.Action
			k.state, actions = replicaset.DecideOwn(k.state, k.view, me)
			k.act(c, actions, nil)
			return
		}
	default:
		k.call(false)
	}
	k.look(c)
}

// call takes note of whether a glance does for the look that follows.
func (k *coordinator) call(glance bool) {
	k.hurried = k.hurried || glance
	k.whole = k.whole || !glance
}

// glances says whether a glance does for the next look: all that called for it is
// a change of generation, and another worker leads.
func (k *coordinator) glances() bool {
	return k.hurried && !k.whole && k.worker.session != nil && !k.view.Leading && k.view.LeaderLocked && k.state.LeaderlessSince == nil
}

// glancesAfter says whether a glance does for the look after a time, which nothing calls for. In a generation that no whole look has
// shown, another worker may lead, whose announcements only count when a whole look has shown it.
func (k *coordinator) glancesAfter(d time.Duration) bool {
	return k.wholeIn == k.view.Generation.Number && replicaset.GlancesBetween(k.state, k.view, d)
}

// lookTimeout bounds one look, actTimeout one change of a table.
const (
	lookTimeout = 10 * time.Second
	actTimeout  = 15 * time.Second
	// coordinatorRound is how long after a step of the coordinator the next one ends: a look, an action, or the wait for the next look.
	coordinatorRound = actTimeout + 5*time.Second
)

// look reads the tables, now or after what is in progress.
func (k *coordinator) look(c actor.Context) {
	if k.left {
		return
	}
	if k.busy {
		k.again = true
		return
	}
	w := k.worker
	glance, awaited := k.glances(), k.awaited()
	k.busy, k.again, k.hurried, k.whole = true, false, false, false
	stopTimers(k.due)
	root, self := c.ActorSystem().Root, c.Self()
	ctx, cancel := context.WithTimeout(k.ctx, lookTimeout)
	lead := k.mayLead()
	k.overdue = time.AfterFunc(w.Timing.Observe, func() { root.Send(self, &lookOverdue{}) })
	go func() {
		defer cancel()
		result := &looked{believed: w.positions.now()}
		result.err = w.coordinate(ctx, func(ctx context.Context, db pgcoord.Conn) (err error) {
			switch {
			case glance && awaited > 0:
				result.view, result.ahead, err = w.Store.GlanceAhead(ctx, db, w.self(), awaited, w.Membership.Projections)
			case glance:
				result.view, err = w.Store.Glance(ctx, db, w.self())
			default:
				result.view, err = w.Store.Observe(ctx, db, w.self(), lead && w.session != nil)
			}
			result.at = time.Since(k.began)
			return err
		})
		root.Send(self, result)
	}()
}

// mayLead says whether to take the leader's lock if it is free: only as a worker
// that the others can see, since a frozen leader that nobody sees cannot be ended.
func (k *coordinator) mayLead() bool {
	me, known := k.view.Worker(k.state.Self)
	return known && me.Present() && !k.state.Leaving
}

// looked decides what follows and begins it.
func (k *coordinator) looked(c actor.Context, m *looked) {
	k.loop.Round()
	if m.err != nil {
		k.busy = false
		k.tellWatched(c, false)
		k.transitions.leads(k, false)
		k.failed(c, "looking at the replica set", m.err)
		return
	}
	if m.view.WithoutAids != nil {
		k.worker.abandonedFailed(k.log, m.view.WithoutAids)
	}
	k.tellChanged(c, m.believed.changed(m.view))
	if !m.view.Glance {
		k.wholeIn = m.view.Generation.Number
	}
	k.view = replicaset.Remembering(k.ages.Measure(m.view, m.at), k.view, k.state.Self)
	k.tellWatched(c, k.worker.Store.SeesAppends() && replicaset.WatchesAppends(k.state, k.view))
	var actions []replicaset.Action
	k.state, actions = replicaset.Decide(k.state, k.view)
	k.tellSeen(c)
	k.transitions.observe(k, k.view)
	k.tellMember()
	k.act(c, actions, m.ahead)
}

// tellChanged has the processors read checkpoints that somebody else has changed. It may be repeated until a busy one has.
func (k *coordinator) tellChanged(c actor.Context, projections []string) {
	if len(projections) > 0 {
		k.changes++
		c.Send(c.Parent(), messages.CheckpointsChanged{Number: k.changes})
		if !slices.Equal(projections, k.changed) {
			k.log.Info("checkpoints were changed by somebody else, reading them again", "projections", projections)
		}
	}
	k.changed = projections
}

// tellWatched tells the horizon whether the looks show appends, if it does not
// know.
func (k *coordinator) tellWatched(c actor.Context, watched bool) {
	if k.watched != watched {
		k.watched = watched
		c.Send(c.Parent(), messages.AppendsWatched{Watched: watched})
	}
}

// tellSeen tells the horizon what it needs to know of the replica set, if it does not know.
func (k *coordinator) tellSeen(c actor.Context) {
	now := messages.ReplicaSetSeen{
		Leading: replicaset.Leads(k.state, k.view), Workers: k.view.Connected(), Leader: k.view.LeadersSession(),
	}
	if k.told != now {
		k.told = now
		c.Send(c.Parent(), now)
	}
}

// tellMember says how the worker is as a member.
func (k *coordinator) tellMember() {
	me, _ := k.view.Worker(k.state.Self)
	g := k.view.Generation
	handles := me.State == replicaset.Running && g.State == replicaset.Active && me.Generation == g.Number
	k.worker.Member.Look(string(me.State), g.Number, handles)
	k.worker.Metrics.OwnState(string(me.State))
}

// act sends the supervisor its messages and runs the other actions on a goroutine. ahead is the assignment that was read with the view, or nil.
func (k *coordinator) act(c actor.Context, actions []replicaset.Action, ahead *pgcoord.Assigned) {
	k.busy = true
	stopTimers(k.due)
	for _, a := range actions {
		switch a := a.(type) {
		case replicaset.StopPartitions:
			k.stopAfter(c, a)
		case replicaset.WakeHorizon:
			c.Send(c.Parent(), messages.EventsAppended{})
		}
	}
	root, self, exec := c.ActorSystem().Root, c.Self(), newExecution(k.worker, k.view, replicaset.Leads(k.state, k.view), k.log, k.loop)
	exec.ahead = ahead
	go func() { root.Send(self, exec.run(k.ctx, actions)) }()
}

// acted ends the round.
func (k *coordinator) acted(c actor.Context, m *acted) {
	k.busy = false
	k.loop.Round()
	if m.refused != 0 {
		k.state.Refused, k.state.RefusedAt = m.refused, k.view.At
	}
	if m.unrecorded {
		k.state.RecordAgain = k.view.At + personInterval
	}
	if m.joined {
		c.Send(c.Parent(), messages.Joined{})
	}
	switch {
	case m.assignment == nil:
	case m.incomplete: // a contradictory assignment is not started
		k.state.Generation, k.state.Fenced = m.assignment.Generation, true
	default:
		k.starting(m.assignment.Generation)
		k.transitions.started(k.worker.Metrics)
		c.Send(c.Parent(), messages.StartPartitions{Assignment: *m.assignment})
	}
	switch {
	case m.left:
		k.left = true
		c.Send(c.Parent(), messages.Left{})
	case m.err != nil:
		k.failed(c, "acting on what was seen", m.err)
	default:
		k.failure = 0
		if k.again || (m.again && m.delay <= 0) {
			k.hurried = k.hurried || m.again
			k.look(c)
			return
		}
		k.schedule(c, m)
	}
}

// starting takes note that the supervisor is asked to start a generation.
func (k *coordinator) starting(generation int64) {
	k.state.Partitions, k.state.Generation, k.state.Fenced = replicaset.Handling, generation, false
}

// schedule arms the next look: when it is this worker's turn, or as soon as an
// action asked for.
func (k *coordinator) schedule(c actor.Context, m *acted) {
	next := replicaset.NextLook(k.state, k.view)
	glance := k.glancesAfter(next)
	if m.again && m.delay < next {
		next, glance = m.delay, true
	}
	k.lookAfter(c, next, glance)
}

func (k *coordinator) lookAfter(c actor.Context, d time.Duration, hurried bool) {
	root, self := c.ActorSystem().Root, c.Self()
	k.due = time.AfterFunc(d, func() { root.Send(self, &lookDue{hurried: hurried}) })
}

// failed waits longer after each failure in a row.
func (k *coordinator) failed(c actor.Context, doing string, err error) {
	if k.ctx.Err() != nil || errors.Is(err, pgcoord.ErrSessionClosed) {
		return
	}
	k.failure++
	delay := dbfault.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}.After(k.failure)
	k.worker.Metrics.DatabaseError("coordination")
	k.worker.databaseFailed(k.log, "coordination", err, "doing", doing, "next_try", delay)
	k.lookAfter(c, delay, false)
}
