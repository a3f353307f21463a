package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/puddle/v2"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/migrations"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// WaitFor waits until the projection has handled every event up to and including the position, of all aggregates. It
// does not need Run: any process may run the projection, in any replica set on the same events table. A read that begins
// on the primary after WaitFor has returned nil sees what the handlers have written. Events that an error policy skipped
// or parked count as handled, except the event at the position itself.
//
// WaitFor returns an error at once if the position cannot be reached until a person acts or a worker starts. The error
// wraps ErrNotRunning, ErrProjectionPaused, ErrProjectionStopped, ErrProjectionReplaced or ErrAggregateParked. After a
// start of the server, workers have their stale worker timeout before they count as gone. When ctx ends, WaitFor returns
// an error that wraps ctx.Err() and says how far the projection is. Until then it keeps waiting, even while the database
// cannot be reached or a rebuild has moved the projection back. It also waits for a position that no event has yet, so
// give ctx a deadline.
//
// All waits of a process on one pool share one connection, and one statement per look at the checkpoints. Do not wait
// within a transaction. Other waits may need its connection, and the projection cannot see its events before it commits.
func (o *Orchestrator) WaitFor(ctx context.Context, projection string, position int64) error {
	err := o.wait(ctx, waiting.Wait{Projection: projection, Position: position})
	if err != nil {
		return fmt.Errorf("waiting until projection %q has handled position %d: %w", projection, position, err)
	}
	return nil
}

// WaitForAppend waits until the projection has handled the appended events. r is the result of Append. Call it after the
// transaction has committed. Unlike WaitFor it does not wait for other aggregates, except those that share a slot with
// this one. It returns an error that wraps ErrAggregateParked if the aggregate is parked for the projection, unless it
// was parked for a later event. Otherwise it is like WaitFor.
func (o *Orchestrator) WaitForAppend(ctx context.Context, projection string, r es.AppendResult) error {
	w, err := waitOf(projection, r)
	if err == nil {
		err = o.wait(ctx, w)
	}
	if err != nil {
		return fmt.Errorf("waiting until projection %q has handled what was appended: %w", projection, err)
	}
	return nil
}

// waitOf returns the wait for an append.
func waitOf(projection string, r es.AppendResult) (waiting.Wait, error) {
	if len(r.Events) == 0 {
		return waiting.Wait{}, errors.New("the result has no events: it must be what Append has returned")
	}
	last := r.Events[len(r.Events)-1]
	aggregate := replicaset.Aggregate{BoundedContext: last.BoundedContext, Type: last.AggregateType, ID: last.AggregateID}
	for i, e := range r.Events {
		if (replicaset.Aggregate{BoundedContext: e.BoundedContext, Type: e.AggregateType, ID: e.AggregateID}) != aggregate || e.GlobalPosition > last.GlobalPosition {
			return waiting.Wait{}, fmt.Errorf("the result's events must be of one aggregate and in order, as Append returns them: that at index %d is not", i)
		}
	}
	if last.GlobalPosition < 1 {
		return waiting.Wait{}, fmt.Errorf("the result's events must have their positions, as Append returns them, got %d", last.GlobalPosition)
	}
	return waiting.Wait{Projection: projection, Position: last.GlobalPosition, Aggregate: &aggregate}, nil
}

func (o *Orchestrator) wait(ctx context.Context, w waiting.Wait) error {
	switch {
	case ctx == nil:
		return errors.New("ctx must not be nil")
	case !validName(w.Projection):
		return fmt.Errorf("the projection's name must have between 1 and %d bytes of valid UTF-8 without NUL", maxNameLength)
	case w.Position < 0:
		return fmt.Errorf("the position must not be negative, got %d", w.Position)
	}
	hub := o.joinWaits()
	defer hub.Leave()
	began := time.Now()
	err := hub.Wait(ctx, w)
	result := "handled"
	switch {
	case ctx.Err() != nil:
		result = "given_up"
	case err != nil:
		result = "failed"
	}
	o.recorder.Load().Waited(result, time.Since(began))
	return err
}

// waitPlace is the key under which the waits of a process are shared: those that use one pool and the same tables.
type waitPlace struct {
	pool           *pgxpool.Pool
	schema, events string
	replicaSet     string        // that a projection without checkpoints belongs to
	stale          time.Duration // after which a worker does not count
}

// joinWaits returns the waits of the process. The caller must leave them.
func (o *Orchestrator) joinWaits() *waiting.Hub {
	place := waitPlace{pool: o.db, schema: o.config.schema, events: o.eventStore.EventsTable().Sanitize(), replicaSet: o.replicaSet, stale: o.config.staleWorkerTimeout}
	return waiting.Join(place, waiting.Database{Look: o.lookForWaits, Ask: o.askToFlush, Waited: o.waitedElsewhere, Why: o.whyWaitFailed, MayPass: mayPass, Grace: o.config.staleWorkerTimeout})
}

// mayPass says whether looking at the tables may succeed later.
func mayPass(err error) bool {
	return !errors.Is(err, puddle.ErrClosedPool) && !dbguard.HidesRows(err) && dbguard.MayPass(err, configurationFaults...)
}

// lookForWaits answers the waiters' question.
func (o *Orchestrator) lookForWaits(ctx context.Context, q waiting.Question) (waiting.Answer, error) {
	store, err := o.waitStore(ctx)
	var answer waiting.Answer
	if err == nil {
		q.Restarts = true
		answer, err = store.Standings(ctx, o.guarded, o.config.staleWorkerTimeout, q)
	}
	if err != nil {
		o.waits.Store(nil) // the tables may be others by now
		if dbrights.IsRefusal(err) {
			err = dbrights.Explain(ctx, o.db, err, pgcoord.WaitNeeds(o.config.schema))
		}
		o.logWaiting(ctx, err)
	}
	return answer, err
}

// waitStore resolves the tables on the first call.
func (o *Orchestrator) waitStore(ctx context.Context) (*pgcoord.Store, error) {
	if store := o.waits.Load(); store != nil {
		return store, nil
	}
	schema, err := migrations.Locate(ctx, o.guarded, o.config.schema)
	if err != nil {
		return nil, err
	}
	events, err := o.eventStore.Resolve(ctx, o.guarded)
	if err != nil {
		return nil, dbguard.Finding(ctx, err)
	}
	store, err := pgcoord.Open(ctx, o.guarded, schema, o.replicaSet, events.EventsTable())
	if err == nil {
		o.waits.Store(store)
	}
	return store, err
}

// askToFlush asks the workers to store their positions now. Otherwise they do so within a second.
func (o *Orchestrator) askToFlush(ctx context.Context, projection string, standing waiting.Standing) {
	store := o.waits.Load()
	if store == nil || standing.ReplicaSet == "" {
		return
	}
	err := store.AskToFlush(ctx, o.guarded, standing.ReplicaSet, projection)
	if standing.PollOnly {
		err = errors.Join(err, store.NoteWait(ctx, o.guarded, projection, waiting.FlushFor))
	}
	if err != nil {
		o.config.logger.DebugContext(ctx, "the workers could not be told that somebody waits for the projection", "projection", projection, "error", err)
	}
}

// hintPatience is how long a look at orchestrator_waits waits for a lock.
const hintPatience = 100 * time.Millisecond

// waitedElsewhere returns the projections that another process waits for. It is for workers that get no notifications.
func (o *Orchestrator) waitedElsewhere(ctx context.Context, projections []string) (waited []string, err error) {
	store, err := o.waitStore(ctx)
	if err == nil {
		waited, err = store.Waited(ctx, o.guarded.Waiting(hintPatience), projections)
	}
	if err != nil {
		o.waits.Store(nil) // the tables may be others by now
		o.recorder.Load().DatabaseError("aid")
		if dbrights.IsRefusal(err) {
			err = dbrights.Explain(ctx, o.db, err, pgcoord.WaitNeeds(o.config.schema))
		}
		if ctx.Err() == nil && onceAMinute(&o.hintsLogged) {
			o.config.logger.WarnContext(ctx, "waits for a projection cannot be looked up (orchestrator_waits), so waits in other processes take up to a second longer; "+
				"handling goes on, and the worker keeps trying", "replica_set", o.replicaSet, "error", err)
		}
	}
	return waited, err
}

// whyWaitFailed says who paused the projection, or why the event failed. If that cannot be read, it says nothing.
func (o *Orchestrator) whyWaitFailed(ctx context.Context, w waiting.Wait, failure error) string {
	store := o.waits.Load()
	if store == nil {
		return ""
	}
	why, err := store.WhyWaitFailed(ctx, o.guarded, w, failure)
	if err != nil {
		o.config.logger.DebugContext(ctx, "why a projection does not go on could not be looked up", "projection", w.Projection, "error", err)
	}
	return why
}

// logWaiting logs, at most once a minute, that the waits cannot read the tables.
func (o *Orchestrator) logWaiting(ctx context.Context, err error) {
	if mayPass(err) && onceAMinute(&o.waitsLogged) {
		o.config.logger.WarnContext(ctx, "the checkpoints cannot be read; calls that wait for a projection keep waiting and trying",
			"replica_set", o.replicaSet, "pool_connections", o.db.Config().MaxConns, "error", err)
	}
}

// onceAMinute returns true at most once a minute.
func onceAMinute(said *atomic.Int64) bool {
	now, last := time.Now().UnixNano(), said.Load()
	return (last == 0 || now-last >= int64(time.Minute)) && said.CompareAndSwap(last, now)
}
