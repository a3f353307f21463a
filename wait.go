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

// WaitFor waits until the projection has handled every event up to and including the position, of all aggregates. It needs no Run: the projection may be
// run by any process, in any replica set of the same events table. When it returns nil, a read that begins afterwards on the primary shows what the handlers
// have written. Events that an error policy has skipped or put aside count as handled, but for the event at the position itself.
//
// It returns at once with an error that wraps ErrNotRunning, ErrProjectionPaused, ErrProjectionStopped, ErrProjectionReplaced or ErrAggregateParked if the position will not be
// reached before a person, or a worker that starts, does something about it. When ctx ends, it returns an error that wraps ctx.Err() and says how
// far the projection is. Until then it goes on, also while the database is not reached and while a rebuild has set the projection back. A position that no event
// has yet is waited for as well, so ctx should have a deadline.
//
// All waits of a process on one pool share one connection, and one statement for each look at the checkpoints. Do not wait within a transaction: others may need its
// connection, and the projection does not see its events before it commits.
func (o *Orchestrator) WaitFor(ctx context.Context, projection string, position int64) error {
	err := o.wait(ctx, waiting.Wait{Projection: projection, Position: position})
	if err != nil {
		return fmt.Errorf("waiting until projection %q has handled position %d: %w", projection, position, err)
	}
	return nil
}

// WaitForAppend is WaitFor for the events that were appended: it waits until the projection has handled these, and does not wait for other aggregates, but for
// those that have a slot with this one. It fails with ErrAggregateParked if the aggregate is parked for the projection, unless it was parked for a later event. r is what
// Append has returned. Wait after the transaction was committed.
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

// waitOf is what to wait for after an append.
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

// waitPlace is where the waits of a process are one: all that use a pool, with the same tables.
type waitPlace struct {
	pool           *pgxpool.Pool
	schema, events string
	replicaSet     string        // that a projection without checkpoints belongs to
	stale          time.Duration // after which a worker does not count
}

// joinWaits returns the waits of the process. The caller must leave them.
func (o *Orchestrator) joinWaits() *waiting.Hub {
	place := waitPlace{pool: o.db, schema: o.config.schema, events: o.eventStore.EventsTable().Sanitize(), replicaSet: o.replicaSet, stale: o.config.staleWorkerTimeout}
	return waiting.Join(place, waiting.Database{Look: o.lookForWaits, Ask: o.askToFlush, Waited: o.waitedElsewhere, Why: o.whyWaitFailed, MayPass: mayPass})
}

// mayPass says whether looking at the tables may succeed later.
func mayPass(err error) bool {
	return !errors.Is(err, puddle.ErrClosedPool) && !dbguard.HidesRows(err) && dbguard.MayPass(err, configurationFaults...)
}

// lookForWaits answers a question of those who wait.
func (o *Orchestrator) lookForWaits(ctx context.Context, q waiting.Question) (waiting.Answer, error) {
	store, err := o.waitStore(ctx)
	var answer waiting.Answer
	if err == nil {
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

// waitStore finds the tables, once.
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

// askToFlush asks the workers to write down how far they are. Without it they do so within a second.
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

// waitedElsewhere says which of the projections somebody waits for in another process. The workers of this one get no notifications.
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
			o.config.logger.WarnContext(ctx, "whether somebody waits for a projection cannot be looked up (orchestrator_waits), so waits in other processes take up to a second longer; "+
				"handling goes on, and it is tried again", "replica_set", o.replicaSet, "error", err)
		}
	}
	return waited, err
}

// whyWaitFailed says who paused the projection, or what the event failed with. It is an aid.
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

// logWaiting logs that those who wait learn nothing, once a minute.
func (o *Orchestrator) logWaiting(ctx context.Context, err error) {
	if mayPass(err) && onceAMinute(&o.waitsLogged) {
		o.config.logger.WarnContext(ctx, "the checkpoints cannot be looked at; those who wait for a projection wait on, and it is tried again",
			"replica_set", o.replicaSet, "pool_connections", o.db.Config().MaxConns, "error", err)
	}
}

// onceAMinute says whether a minute has passed since it did so last.
func onceAMinute(said *atomic.Int64) bool {
	now, last := time.Now().UnixNano(), said.Load()
	return (last == 0 || now-last >= int64(time.Minute)) && said.CompareAndSwap(last, now)
}
