package actors

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// What people ask for that needs the projection's handler, the owner of the slots does: it handles the letters of a parked aggregate. A retry goes through them
// in order, in batches of their own, and a batch that was committed stays. Between two of them the processor does a step of its own work. The checkpoints stay
// where they are, but are locked and compared as for any batch, so that nobody else parks, handles or discards letters of the aggregate meanwhile.
//
// Requests are an aid. Where their table cannot be read, handling goes on.

// requests are those of the partition's slots that wait.
type requests struct {
	list     []replicaset.Request // in order
	known    bool                 // list is what the table says
	served   bool                 // the last step was for a request
	again    time.Time            // until when none is served
	size     int                  // letters of the next batch; 0 for the first of a request
	lockWait time.Duration        // how long the next reset waits for a batch; 0 for the first time
	failures handling.State
	unserved int // in a row, failures of a handler that say nothing of its letters
}

const (
	// firstLetters is how many letters the first batch of a request has, and mostLetters how many one may have.
	firstLetters = 16
	mostLetters  = 512
	// mostRequests is how many requests are read at once.
	mostRequests = 100
	// tryLetters is how many letters are tried at most, in one transaction, and tryTime for how long.
	tryLetters = 1000
	tryTime    = 5 * time.Second
)

// forget has the requests read again. They are looked for only where somebody has raised a revision, as whoever asks for something does. What is known of
// the one that is being served stays: the checkpoints are read again after each of its batches that fails at the commit.
func (r *requests) forget(rows []slot.Piece) {
	r.known, r.list = !slices.ContainsFunc(rows, func(p slot.Piece) bool { return p.Revision > 0 }), nil
}

// waiting says whether there is, or may be, a request.
func (r *requests) waiting() bool { return !r.known || len(r.list) > 0 }

// due says whether the next step is for a request.
func (r *requests) due() bool {
	if r.served || !r.waiting() || time.Now().Before(r.again) {
		r.served = false
		return false
	}
	r.served = true
	return true
}

// after has a request served after a step of the processor's own work.
func (r *requests) after(n next) next {
	if r.waiting() && time.Now().After(r.again) {
		return next{more: true}
	}
	return n
}

// next is the first request whose slot is not paused. A projection that is paused is reset all the same, since it stays paused.
func (r *requests) next(resting []slot.Piece) (replicaset.Request, bool) {
	for _, one := range r.list {
		if one.Kind == replicaset.Reset || !slices.ContainsFunc(resting, func(p slot.Piece) bool { return p.IsHeld() && p.Contains(one.Slot) }) {
			return one, true
		}
	}
	return replicaset.Request{}, false
}

// postpone puts a request behind the others.
func (r *requests) postpone(one replicaset.Request) {
	r.list = append(slices.DeleteFunc(r.list, func(other replicaset.Request) bool { return other == one }), one)
	r.size, r.failures = 0, handling.State{}
}

// serve does a step of the first request that may be served.
func (p *processor) serve(ctx context.Context) (next, error) {
	if !p.requests.known {
		list, err := p.worker.Store.Requests(ctx, p.worker.db.InTransactions(), p.fence.Projection, p.fence.Partition.Range(), mostRequests)
		if err != nil {
			return p.postponeRequests(ctx, err), nil
		}
		p.requests.known, p.requests.list = true, list
		return next{more: true}, nil
	}
	r, ok := p.requests.next(p.resting)
	if !ok {
		p.requests.again = time.Now().Add(recordPause) // their slots are paused
		return next{more: true}, nil
	}
	if r.Kind == replicaset.Reset {
		return p.reset(ctx, r)
	}
	most := cmp.Or(p.requests.size, firstLetters)
	if r.Kind == replicaset.Try {
		most = tryLetters
	}
	letters, err := p.worker.Store.Letters(ctx, p.worker.db.InTransactions(), r, most)
	if err != nil {
		return p.postponeRequests(ctx, err), nil
	}
	events, err := p.eventsOf(ctx, letters)
	switch {
	case err != nil:
		return p.postponeRequests(ctx, err), nil
	case len(letters) > 0 && events.Len() == 0:
		return p.refuse(ctx, r, letters[0])
	case r.Kind == replicaset.Try:
		return p.try(ctx, r, letters, events)
	case len(letters) > 0 && !p.parked.holds(r.Aggregate):
		return p.refuseUnparked(ctx, r, letters[0])
	}
	return p.retry(ctx, r, events, events.Len() == len(letters) && len(letters) < most)
}

// postponeRequests leaves the requests alone for a while, after they, or what they refer to, could not be read.
func (p *processor) postponeRequests(ctx context.Context, err error) next {
	if ctx.Err() == nil {
		p.worker.recordFailed(p.log, err)
	}
	p.requests.again = time.Now().Add(recordPause)
	return next{more: true}
}

// eventsOf reads the events of the first letters, up to one whose event is not there any more.
func (p *processor) eventsOf(ctx context.Context, letters []pgcoord.ParkedEvent) (packed.Events, error) {
	if len(letters) == 0 {
		return packed.Events{}, nil
	}
	positions := make([]int64, len(letters))
	for i, letter := range letters {
		positions[i] = letter.Position
	}
	events, err := eventread.ByPositions(ctx, p.worker.db.InTransactions(), p.worker.EventStore.EventsTable(), positions, readBytes)
	if err != nil {
		return packed.Events{}, err
	}
	n := 0
	for n < events.Len() && events.Position(n) == letters[n].Position && events.At(n).EventID == letters[n].EventID {
		n++
	}
	return events.Slice(0, n), nil
}

// refuse ends a request at a letter whose event is not there.
func (p *processor) refuse(ctx context.Context, r replicaset.Request, letter pgcoord.ParkedEvent) (next, error) {
	return p.answer(ctx, r, func(b *pgcoord.Batch) {
		b.Tried(r, 0, letter.Position, fmt.Sprintf("the events table has no event %s at position %d, which the letter refers to: discard the aggregate's letters", letter.EventID, letter.Position))
	})
}

// refuseUnparked ends a retry whose aggregate is not parked although it has letters, as after somebody has deleted its row. Later events
// of the aggregate are handled, so its letters cannot be retried in order. The batch's fence makes sure that nobody has parked it since.
func (p *processor) refuseUnparked(ctx context.Context, r replicaset.Request, letter pgcoord.ParkedEvent) (next, error) {
	p.log.Warn("a retry is refused, since its aggregate has letters but is not parked; verify says what helps", "operation", r.Operation,
		"position", letter.Position, "aggregate_id", r.ID, "aggregate_type", r.Type)
	return p.answer(ctx, r, func(b *pgcoord.Batch) {
		b.Tried(r, 0, letter.Position, "the aggregate is not parked, although it has letters: somebody has changed orchestrator_parked_aggregates by hand; verify says what helps")
	})
}

// lockSlot opens a batch that locks the checkpoint of the request's slot. The caller calls done when the batch has ended, and before another is opened: it
// holds the turn and the connection until then. done may be called more than once.
func (p *processor) lockSlot(ctx context.Context, r replicaset.Request) (b *pgcoord.Batch, done func(), err error) {
	leave, err := p.queue(ctx)
	if err != nil {
		return nil, nil, err
	}
	release, err := p.acquire(ctx)
	if err != nil {
		leave()
		return nil, nil, err
	}
	row := slices.DeleteFunc(slices.Clone(p.rows()), func(row slot.Piece) bool { return !row.Contains(r.Slot) })
	if err = pgcoord.ErrMoved; len(row) == 1 { // nothing else would lock the aggregate
		b, err = p.beginInTurn(ctx, row, math.MaxInt64)
	}
	if err != nil {
		release()
		leave()
		return nil, nil, err
	}
	return b, sync.OnceFunc(func() {
		b.Rollback(ctx) // does nothing if it has ended
		release()
		leave()
	}), nil
}

// retry handles letters of a request's aggregate and commits what succeeds. If last is true, the aggregate has no other letters; it may have none either way.
func (p *processor) retry(ctx context.Context, r replicaset.Request, events packed.Events, last bool) (next, error) {
	b, done, err := p.lockSlot(ctx, r)
	if err != nil {
		return p.notBegun(err)
	}
	defer done()
	began, handled := time.Now(), 0
	var end ending
	if events.Len() > 0 {
		within, span := p.startSpan(ctx, events)
		defer func() { span.End(end.committed, end.err) }()
		call := p.call(within, b, events)
		if call == nil {
			end.err = tracing.ErrAbandoned
			return next{}, nil // abandoned; it is stopping
		}
		if handled = call.handled; call.err != nil || handled == 0 {
			end.err = call.err
			return p.requestRolledBack(ctx, b, done, r, events, call, began)
		}
	}
	positions := make([]int64, handled)
	for i := range positions {
		positions[i] = events.Position(i)
	}
	b.Retried(r, positions)
	if err := p.commitRequest(ctx, b); err != nil {
		end.err = err
		if ctx.Err() != nil || handled == 0 {
			return next{}, err
		}
		lost := !b.Alive()
		done()
		return p.requestFailed(ctx, r, events, handling.Failure{Err: err, AtCommit: true, Lost: lost, Took: time.Since(began)})
	}
	end.committed = handled
	p.turns.conflicts, p.requests.failures, p.requests.unserved = 0, handling.State{}, 0
	p.worker.Metrics.EventsHandled(p.fence.Projection, handled)
	if left := p.parked.retried(r.Aggregate, handled); handled == events.Len() && (last || !left) {
		p.log.Info("a parked aggregate was retried, and is not parked any more", "aggregate_id", r.ID, "aggregate_type", r.Type, "operation", r.Operation)
		p.known, p.requests.size = false, 0 // to know what is parked, and asked for
		return next{more: true}, nil
	}
	p.showParked()
	p.requests.size = min(mostLetters, max(cmp.Or(p.requests.size, firstLetters), 2*handled))
	return next{more: true}, nil
}

// commitRequest commits a batch that does not move the checkpoint.
func (p *processor) commitRequest(ctx context.Context, b *pgcoord.Batch) error {
	ctx, explain, cancel := p.worker.db.Limit(context.WithoutCancel(ctx))
	defer cancel()
	err := explain(b.Commit(ctx, 0))
	if err != nil {
		p.known = false // the commit may have happened
		return err
	}
	p.moved = 0
	p.worker.Waits.Changed(p.fence.Projection)
	return nil
}

// try handles letters of a request's aggregate, and rolls back.
func (p *processor) try(ctx context.Context, r replicaset.Request, letters []pgcoord.ParkedEvent, events packed.Events) (next, error) {
	if events.Len() == 0 {
		return p.answer(ctx, r, func(b *pgcoord.Batch) { b.Tried(r, 0, 0, "") })
	}
	b, done, err := p.lockSlot(ctx, r)
	if err != nil {
		return p.notBegun(err)
	}
	began := time.Now()
	delivery := p.delivery()
	delivery.Trial = true
	call := p.callAs(ctx, b, events, oneByOne(p.handler), delivery, p.policy.Timeout, tryTime)
	if call == nil {
		done()
		return next{}, nil // abandoned; it is stopping
	}
	if call.err == nil && call.handled > 0 {
		call.err = b.CheckDeferred(ctx)
	}
	if call.err != nil || call.handled == 0 {
		return p.requestRolledBack(ctx, b, done, r, events, call, began)
	}
	done()
	if call.handled < len(letters) && call.handled == events.Len() {
		rest, err := p.eventsOf(ctx, letters[call.handled:call.handled+1])
		switch {
		case err != nil:
			return p.postponeRequests(ctx, err), nil
		case rest.Len() == 0:
			return p.refuse(ctx, r, letters[call.handled])
		}
	}
	return p.answer(ctx, r, func(b *pgcoord.Batch) { b.Tried(r, call.handled, 0, "") })
}

// answer ends a request, in a batch without handlers.
func (p *processor) answer(ctx context.Context, r replicaset.Request, record func(*pgcoord.Batch)) (next, error) {
	b, done, err := p.lockSlot(ctx, r)
	if err != nil {
		return p.notBegun(err)
	}
	defer done()
	record(b)
	if err := p.commitRequest(ctx, b); err != nil {
		return next{}, err
	}
	p.requests.list = slices.DeleteFunc(p.requests.list, func(one replicaset.Request) bool { return one == r })
	p.requests.known = len(p.requests.list) > 0 // else there may be more
	p.requests.size, p.requests.failures, p.requests.unserved = 0, handling.State{}, 0
	return next{more: true}, nil
}

// requestRolledBack rolls back a batch whose handler failed, or handled nothing since it is to stop, and decides what follows.
func (p *processor) requestRolledBack(ctx context.Context, b *pgcoord.Batch, done func(), r replicaset.Request, events packed.Events, call *call, began time.Time) (next, error) {
	alive, conflict, cause := b.Alive(), b.Conflict(call.err), b.Cause()
	done()
	if stopping := call.err == nil || ctx.Err() != nil; stopping {
		return next{}, nil
	}
	return p.requestFailed(ctx, r, events, handling.Failure{
		Err: call.err, Cause: cause, Conflict: conflict, Lost: !alive, Took: time.Since(began),
		Handled: min(call.handled, events.Len()-1), Whole: p.wholeBatches() && r.Kind == replicaset.Retry,
	})
}

// requestFailed decides what follows a batch of letters that was not committed.
func (p *processor) requestFailed(ctx context.Context, r replicaset.Request, events packed.Events, f handling.Failure) (next, error) {
	f.Events, f.Position, f.Idle = events.Len(), events.Position(f.Handled), p.idleTimeout()
	if r.Kind == replicaset.Try {
		f.Events = 1 // which one failed is known
	}
	var d handling.Decision
	p.requests.failures, d = handling.Decide(p.policy, p.requests.failures, f)
	switch d.Verdict {
	case handling.Conflict:
		p.requests.again = time.Now().Add(p.conflicted(ctx, events, d.Err).after)
	case handling.Idle:
		p.giveMoreIdle(d)
	case handling.Smaller:
		p.requests.size = max(1, d.Size)
	case handling.EventFailed:
		if r.Kind == replicaset.Retry && d.Event > 0 {
			p.requests.size = d.Event // those before it are committed first
			break
		}
		return p.failRequest(ctx, r, events, d)
	case handling.Database:
		if f.AtCommit || f.Lost {
			return next{}, d.Err
		}
		if d.Size > 0 && r.Kind == replicaset.Retry {
			p.requests.size = d.Size // those before it are committed first
			break
		}
		p.tryRequestsLater(r, d.Err)
	}
	return next{more: true}, nil
}

// tryRequestsLater leaves the requests alone for a while, after a handler's error that counts as no attempt, such as that another system cannot be reached. The
// partition's own events do not wait for that. The other requests come first then, since their handlers may not need that system.
func (p *processor) tryRequestsLater(r replicaset.Request, err error) {
	p.requests.postpone(r)
	p.requests.unserved++
	after := failureBackoff.After(p.requests.unserved)
	p.requests.again = time.Now().Add(after)
	p.worker.Metrics.DatabaseError("batch")
	p.worker.databaseFailed(p.log, "request", err, "next_try", after)
}

// failRequest ends a request at an event that could not be handled. Its aggregate stays parked.
func (p *processor) failRequest(ctx context.Context, r replicaset.Request, events packed.Events, d handling.Decision) (next, error) {
	if r.Kind == replicaset.Reset {
		return p.failReset(ctx, r, d)
	}
	event := events.At(d.Event)
	kind, frame := handling.Alike(d.Err, p.handler)
	letter := pgcoord.Letter{Event: event, Error: handling.Abridged(fmt.Sprint(d.Err)), Kind: kind, Frame: frame}
	p.log.Warn("a letter of a parked aggregate could not be handled; the aggregate stays parked", "request", r.Kind, "operation", r.Operation,
		"error", letter.Error, "class", d.Class.String(), "position", event.GlobalPosition, "event_id", event.EventID, "aggregate_id", event.AggregateID)
	return p.answer(ctx, r, func(b *pgcoord.Batch) {
		if r.Kind == replicaset.Try {
			b.Tried(r, d.Event, event.GlobalPosition, letter.Error)
			return
		}
		b.RetryFailed(r, letter)
	})
}

// eachAlone handles one event at a time, though the projection handles whole batches.
type eachAlone struct {
	handling.Projection
	batches handling.BatchHandler
}

// oneByOne is the projection, called for one event at a time.
func oneByOne(p handling.Projection) handling.Projection {
	if batches, whole := p.(handling.BatchHandler); whole {
		return eachAlone{Projection: p, batches: batches}
	}
	return p
}

// Handle has the event handled as a batch.
func (e eachAlone) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	return e.batches.HandleBatch(ctx, tx, []es.PersistedEvent{event})
}
