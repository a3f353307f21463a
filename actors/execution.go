package actors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// execution performs the actions of one round of the coordinator, in order, on
// a goroutine of its own.
type execution struct {
	worker *worker
	view   replicaset.View
	ahead  *pgcoord.Assigned // the assignment that was read with the view, or nil
	began  time.Time
	leads  bool
	log    *slog.Logger
	loop   *health.Loop
	result acted
}

func newExecution(w *worker, v replicaset.View, leads bool, log *slog.Logger, loop *health.Loop) *execution {
	return &execution{worker: w, view: v, began: time.Now(), leads: leads, log: log, loop: loop}
}

// age is how long ago the generation was prepared.
func (e *execution) age() time.Duration { return e.view.Generation.Age + time.Since(e.began) }

// run performs the actions until one fails.
func (e *execution) run(ctx context.Context, actions []replicaset.Action) *acted {
	for _, a := range actions {
		if e.result.err = e.perform(ctx, a); e.result.err != nil {
			break
		}
		e.loop.Round()
	}
	return &e.result
}

// perform does one action. Whatever changed a table asks for another look.
func (e *execution) perform(ctx context.Context, a replicaset.Action) error {
	switch a := a.(type) {
	case replicaset.StopPartitions, replicaset.WakeHorizon: // the coordinator has sent it
		return nil
	case replicaset.LookAgain:
		e.lookAgain(a.After)
		return nil
	case replicaset.StartPartitions:
		return e.readAssignment(ctx, a.Generation)
	case replicaset.Activate:
		return e.activate(ctx, a)
	}
	w := e.worker
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	return w.coordinate(ctx, func(ctx context.Context, db pgcoord.Conn) error {
		switch a := a.(type) {
		case replicaset.Join:
			return e.joined(e.join(ctx, db))
		case replicaset.Rejoin:
			e.log.Info("rejoining the replica set after having been declared dead")
			return e.joined(w.Store.Rejoin(ctx, db, w.self()))
		case replicaset.RequestGeneration:
			e.log.Error("the checkpoints contradict the active generation, as if somebody had changed them: requesting a new generation",
				"generation", e.view.Generation.Number, "projections", a.Projections)
			return w.Store.RequestGeneration(ctx, db, w.self())
		case replicaset.Report:
			changed, err := w.Store.SetState(ctx, db, w.self(), a.State, a.Generation)
			if err == nil && changed && a.State == replicaset.Running && (e.leads || !w.rightsChecked) {
				if err = e.checkRights(ctx, db); err == nil {
					w.rightsChecked = true
				}
			}
			if !changed || e.leads || w.session == nil {
				e.lookAgain(0) // what follows is up to this worker; others are notified of it
			}
			return err
		case replicaset.RecordAbandoned:
			return e.recordAbandoned(ctx, db, a.Handlers)
		case replicaset.Leave:
			err := w.Store.Stop(ctx, db, w.self(), "left gracefully")
			e.result.left = err == nil
			return err
		case replicaset.Prepare:
			return e.prepare(ctx, db, a.Preparation)
		case replicaset.DeclareDead:
			return e.declareDead(ctx, db, a.Losses)
		case replicaset.AnnounceAppends:
			w.Store.AnnounceAppends(ctx, db, w.self())
			return nil
		case replicaset.Prune:
			return e.prune(ctx, db)
		case replicaset.EndLeader:
			return e.endLeader(ctx, db, a)
		case replicaset.WarnOfLockHolder:
			e.warnOfHolder(ctx, db)
			return nil
		default:
			return fmt.Errorf("the coordinator does not know the action %T", a)
		}
	})
}

// prune deletes old rows. What is an aid and cannot be pruned now is pruned at the next change.
func (e *execution) prune(ctx context.Context, db pgcoord.Conn) error {
	w := e.worker
	if err := w.Store.PruneFailures(ctx, db, w.Timing.History); err != nil {
		w.recordFailed(e.log, err)
	}
	if err := w.Store.PruneAbandoned(ctx, db); err != nil {
		w.abandonedFailed(e.log, err)
	}
	return w.Store.Prune(ctx, db, w.Timing.History)
}

// recordAbandoned records which handlers the worker has abandoned. Where the database refuses that, the worker goes on without: it may get
// partitions whose handlers hang, but everything else goes on.
func (e *execution) recordAbandoned(ctx context.Context, db pgcoord.Conn, handlers []replicaset.AbandonedHandler) error {
	e.lookAgain(0)
	err := e.worker.Store.SetAbandoned(ctx, db, e.worker.self(), handlers)
	if dbfault.IsRefused(err) {
		e.result.unrecorded = true
		e.worker.abandonedFailed(e.log, err)
		return nil
	}
	return err
}

// joined notes that the worker's row is there, unless err says it is not.
func (e *execution) joined(err error) error {
	e.result.joined = err == nil
	e.lookAgain(0)
	return err
}

// lookAgain asks for a look after d; the soonest that was asked for counts.
func (e *execution) lookAgain(d time.Duration) {
	if !e.result.again || d < e.result.delay {
		e.result.again, e.result.delay = true, d
	}
}

func (e *execution) logLosses(losses []replicaset.Loss) {
	for _, l := range losses {
		e.log.Warn("a worker is lost", "lost_worker", l.Worker, "detail", l.Detail)
	}
}

// declareDead declares workers dead that were no members, or while a generation is in preparation.
func (e *execution) declareDead(ctx context.Context, db pgcoord.Conn, losses []replicaset.Loss) error {
	e.logLosses(losses)
	e.lookAgain(0)
	died, err := e.worker.Store.MarkDead(ctx, db, losses)
	e.worker.Metrics.WorkersLost(died)
	return err
}

// prepare enters the next generation, unless somebody was faster.
func (e *execution) prepare(ctx context.Context, db pgcoord.Conn, p replicaset.Preparation) error {
	e.logLosses(p.Lost)
	prepared, err := e.worker.Store.Prepare(ctx, db, p)
	if err != nil {
		return err
	}
	e.worker.Metrics.WorkersLost(prepared.Died)
	e.lookAgain(0)
	if prepared.Number != 0 {
		e.log.Debug("prepared a generation", "generation", prepared.Number, "changes", replicaset.Reason(p.Changes))
	}
	return nil
}

// reportRunning is how long after the start a worker reports that it is running: first the partitions, then the paperwork, which has them all waiting
// for the database. The workers do so one after the other. With few workers there is little to wait for, so the delays grow with the members, by
// reportRunningGrows and reportEachGrows for each, from reportRunningLeast up to reportRunning and reportRunningEach, or less if all together would take longer than
// reportRunningAll.
const (
	reportRunningLeast = 10 * time.Millisecond
	reportRunning      = 30 * time.Millisecond
	reportRunningGrows = time.Millisecond
	reportRunningEach  = 10 * time.Millisecond
	reportEachGrows    = 250 * time.Microsecond
	reportRunningAll   = 60 * time.Millisecond
)

// reportAfter is how long after the start the worker of a rank reports that it is running.
func reportAfter(rank, members int) time.Duration {
	members = max(1, members)
	each := min(reportRunningEach, time.Duration(members)*reportEachGrows, reportRunningAll/time.Duration(members))
	return min(reportRunning, reportRunningLeast+time.Duration(members)*reportRunningGrows) + time.Duration(max(0, rank))*each
}

// assigned is what the worker handles in the generation.
func (e *execution) assigned(ctx context.Context, generation int64) (read pgcoord.Assigned, err error) {
	if e.ahead != nil && e.ahead.Generation == generation {
		return *e.ahead, nil
	}
	w := e.worker
	ctx, cancel := context.WithTimeout(ctx, actTimeout)
	defer cancel()
	err = w.coordinate(ctx, func(ctx context.Context, db pgcoord.Conn) (err error) {
		read, err = w.Store.ReadAssignment(ctx, db, w.self(), generation, w.Membership.Projections)
		return err
	})
	return read, err
}

// readAssignment reads what the worker handles in the generation, and has it started.
func (e *execution) readAssignment(ctx context.Context, generation int64) error {
	w := e.worker
	read, err := e.assigned(ctx, generation)
	if err != nil {
		return err
	}
	if read.UnsettledErr != nil {
		w.recordFailed(e.log, read.UnsettledErr) // the processors read it later
	}
	assignment := toAssignment(generation, read)
	e.result.assignment = &assignment
	if e.result.incomplete = !covers(assignment); e.result.incomplete {
		e.lookAgain(0) // nothing of it is started
		return nil
	}
	rank := slices.Index(e.view.Generation.Members, w.self())
	e.lookAgain(reportAfter(rank, len(e.view.Generation.Members)))
	return nil
}

// toAssignment groups checkpoints by partition.
func toAssignment(generation int64, read pgcoord.Assigned) messages.Assignment {
	assignment := messages.Assignment{Generation: generation}
	unsettled := func(projection string) int64 {
		if read.UnsettledErr != nil {
			return messages.UnsettledUnknown
		}
		return read.Unsettled[projection]
	}
	for _, row := range read.Checkpoints {
		p := partitionOf(&assignment, row.Partition)
		last := len(p.Projections) - 1
		if last < 0 || p.Projections[last].Projection != row.Projection {
			p.Projections = append(p.Projections, messages.ProjectionAssignment{
				Projection: row.Projection, Unsettled: unsettled(row.Projection), Parked: read.Parked, Successions: read.Successions,
			})
			last++
		}
		p.Projections[last].Pieces = append(p.Projections[last].Pieces, row.Piece)
	}
	return assignment
}

// covers says whether each partition's checkpoints are exactly its slots. Where somebody has deleted or changed one, its events
// would be handled now, and again when its slots have got a checkpoint.
func covers(a messages.Assignment) bool {
	for _, partition := range a.Partitions {
		for _, p := range partition.Projections {
			if !partition.Partition.Covers(p.Pieces) {
				return false
			}
		}
	}
	return true
}

// partitionOf is the assignment's entry for the partition, made if it is not there.
func partitionOf(a *messages.Assignment, p slot.Partition) *messages.PartitionAssignment {
	i := slices.IndexFunc(a.Partitions, func(have messages.PartitionAssignment) bool { return have.Partition == p })
	if i < 0 {
		i = len(a.Partitions)
		a.Partitions = append(a.Partitions, messages.PartitionAssignment{Partition: p})
	}
	return &a.Partitions[i]
}

// activate activates the generation on a connection of the pool, since it may
// wait for batches in flight while the session stays free. A watch ends the
// backends that hold it up.
func (e *execution) activate(ctx context.Context, a replicaset.Activate) error {
	w := e.worker
	began := time.Now()
	patience := max(0, w.Timing.Coordination-e.age()) + actTimeout
	e.loop.Allow(patience + 5*time.Second)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var watch *blockerWatch
	done, err := w.batches.Activate(ctx)
	if err != nil {
		return err
	}
	defer done()
	activated, err := w.Store.Activate(ctx, w.db, a.Activation, func(pid int) {
		watch.end()
		watch = watchBlockers(ctx, w, pid, e.age(), e.log)
	})
	watch.end()
	if err != nil {
		return err
	}
	e.lookAgain(0)
	w.Metrics.WorkersLost(activated.Died)
	if activated.WithoutAids != nil {
		w.abandonedFailed(e.log, activated.WithoutAids)
	}
	for _, change := range activated.Noticed {
		e.log.Warn("the checkpoints were changed by hand", "generation", a.Activation.Number, "what", change.String())
	}
	if activated.Active {
		w.Metrics.Coordination(measure.PhaseActivate, time.Since(began))
		e.log.Debug("activated a generation", "generation", a.Activation.Number, "activation_took", time.Since(began),
			"excluded", idsOf(a.Activation.Exclude)) // the reason is complete in the next look
	}
	return nil
}

func idsOf(ids []uuid.UUID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}

// join enters the worker. Run has refused projections of other replica sets before, so one of these was moved in the meantime: the worker handles
// the others.
func (e *execution) join(ctx context.Context, db pgcoord.Conn) error {
	err := e.worker.Store.Join(ctx, db, e.worker.Membership)
	if claimed, is := errors.AsType[*pgcoord.ClaimedError](err); is && claimed.ReplicaSet != e.worker.Store.ReplicaSet() {
		e.log.Error("a projection was moved to another replica set while this worker started, so this worker does not handle it", "error", claimed)
		return e.worker.Store.Enter(ctx, db, e.worker.Membership)
	}
	return err
}
