package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// processor handles the events of one projection in one partition, one batch a
// message.
//
//	receives  HorizonAdvanced   from its partition: there may be events
//	          ReaderReady       from its partition: where to ask for them
//	          ProgressAsked     from its partition: it ends a round
//	          EventsRead        from the reader
//	sends     ReadEvents        to the reader: one question at a time, a page ahead of what it handles
//	          Informed          to its partition, after each message of its
//	          Fenced            to its partition: the checkpoint is somebody else's; it stays still from then on
//	itself    proceed, flushDue, flushWanted
//
// A batch runs within Receive, so that the actor is idle when it says that it
// has stopped. The run's contexts end a batch early: soft after the event it is
// at, hard by the handler's own context. abandon ends the wait for a handler that does
// not heed it: see call. Few messages come meanwhile: its partition and the reader
// send no other before it has answered or asked.
type processor struct {
	worker  *worker
	log     *slog.Logger
	loop    *health.Loop
	run     *run
	fence   pgcoord.Fence
	handler handling.Projection
	policy  handling.Policy

	pieces     []slot.Piece // the checkpoints as the tables have them, without those that are stopped or paused
	resting    []slot.Piece // those that are
	parked     parked
	succession succession

	shownStopped, shownHeld, shownParked bool       // their series have been made
	known                                bool       // pieces are what the tables say; if not, read them
	readTo                               int64      // everything wanted up to here has been handled
	horizon                              int64      // up to which events can be read
	epoch                                uint64     // of the horizon
	buffer                               pageBuffer // what has been read and not been committed
	size                                 batchSize
	failing                              failing
	turns                                turns
	failures                             handling.State // of its events
	requests                             requests
	databaseFailures                     int // in a row
	moved                                int // batches in a row whose rows were not as believed

	looked    time.Time   // at the checkpoints, while it waits to retry
	halted    bool        // fenced
	wakened   bool        // a proceed is on its way
	flushSoon bool        // write the checkpoint though nothing was in scope
	committed time.Time   // when the checkpoint was last written
	wake      *time.Timer // sends proceed after a backoff
	flush     *time.Timer // sends flushDue
	waits     waits
}

type (
	// proceed asks for one batch.
	proceed struct{}
	// flushDue says that the checkpoint has stayed behind long enough.
	flushDue struct{}
)

// processorRound is how long a round of a processor may take, besides the time in which it waits for handlers, or for others to let it begin a batch.
const processorRound = 30 * time.Second

// processorStep is how long the statements of one step may take. A server that is slow gets up to two minutes to answer one.
const processorStep = 150 * time.Second

// failureBackoff is how long a batch waits after those before it have failed.
var failureBackoff = dbfault.Backoff{First: 50 * time.Millisecond, Max: 2 * time.Second}

// endRound ends a round within a step.
func (p *processor) endRound() {
	p.loop.Round()
	p.loop.Allow(processorStep)
}

// next is what follows a step.
type next struct {
	more  bool          // there is more to do at once
	after time.Duration // or after this, unless it is 0
}

// newProcessor makes a processor that begins with the assignment's pieces; with
// none, it reads them first.
func newProcessor(w *worker, r *run, fence pgcoord.Fence, d handling.Description, a messages.ProjectionAssignment) *processor {
	handler, policy := d.Projection, d.Policy
	if policy.Backoff == (dbfault.Backoff{}) {
		policy.Backoff = dbfault.Backoff{First: w.Batch.RetryFirst, Max: w.Batch.RetryMax}
	}
	if policy.MaxParkedEvents == 0 {
		policy.MaxParkedEvents = handling.DefaultMaxParked
	}
	role := succession{replaces: d.Replaces}
	role.read(fence.Projection, a.Successions)
	running, resting := role.divide(a.Pieces)
	p := &processor{
		worker: w, run: r, fence: fence, handler: handler, policy: policy,
		log: w.logger(kindProcessor).With("projection", fence.Projection,
			"partition", fence.Partition.String(), "generation", fence.Generation),
		loop:   w.Loops.Watch(kindProcessor+" "+fence.Projection+" "+fence.Partition.String(), processorRound),
		pieces: running, resting: resting, parked: parkedIn(a.Parked, fence.Projection, fence.Partition.Range()), succession: role, known: len(a.Pieces) > 0, readTo: readFrom(running, resting),
		failing: failing{unsettled: max(0, a.Unsettled), unknown: a.Unsettled == messages.UnsettledUnknown},
		buffer: pageBuffer{
			consumer: fence.Projection + " " + fence.Partition.String(),
			scope:    w.scopes[fence.Projection], end: readFrom(running, resting), partial: len(resting) > 0,
		},
		size: newBatchSize(w.Batch, handler),
	}
	p.requests.forget(a.Pieces)
	return p
}

// Receive is the actor's protocol.
func (p *processor) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *actor.Started:
		if p.known {
			p.worker.positions.believe(p.fence, p.rows())
			p.noticeSuccession()
			p.noticeResting()
			p.showParked()
		}
		p.worker.Metrics.ShowPartition(p.fence.Projection, p.fence.Partition.String())
		if !p.policy.IsZero() {
			p.worker.Metrics.ShowPolicy(p.fence.Projection, p.fence.Partition.String())
		}
		p.showPosition()
		p.awaitWaits(c)
		p.proceed(c)
	case messages.HorizonAdvanced:
		c.Request(c.Parent(), messages.Informed{})
		p.advance(m)
		p.showPosition() // the lag grows also while a handler fails
		p.proceed(c)
	case messages.CheckpointsChanged:
		c.Request(c.Parent(), messages.Informed{})
		p.known = false
		p.proceed(c)
	case messages.ReaderReady:
		c.Request(c.Parent(), messages.Informed{})
		p.buffer.reader = actor.NewPID(c.Self().Address, m.Reader)
		p.buffer.reset(p.readTo)
		p.proceed(c)
	case messages.ProgressAsked:
		c.Request(c.Parent(), messages.Informed{})
		p.loop.Round()
	case messages.EventsRead:
		p.receive(c, m)
	case *proceed:
		p.wakened = false
		p.work(c)
	case *flushDue:
		p.flush = nil
		p.flushSoon = p.flushSoon || time.Since(p.committed) >= p.flushAfter()
		p.proceed(c)
	case *flushWanted:
		p.waited(c)
	case *actor.Stopping:
		stopTimers(p.wake, p.flush)
		p.run.endLoop(p.loop)
		p.worker.Waits.Forget(p.waits.flusher)
		p.worker.positions.forget(p.fence)
		p.worker.Metrics.ForgetPartition(p.fence.Projection, p.fence.Partition.String())
	default:
		unknown(c, p.worker, kindProcessor)
	}
}

// advance takes in the horizon. In a new epoch, what was read and not handled
// may be gone, and its positions in use again.
func (p *processor) advance(m messages.HorizonAdvanced) {
	if m.Epoch != p.epoch {
		p.known, p.horizon = p.known && p.epoch == 0, 0
		p.epoch = m.Epoch
		p.buffer.reset(p.readTo)
	}
	p.horizon = max(p.horizon, m.Position)
}

// receive takes in an answer of the reader.
func (p *processor) receive(c actor.Context, m messages.EventsRead) {
	if err := p.buffer.take(m, p.pieces); err != nil {
		p.schedule(c, p.failed(c, err))
		return
	}
	p.proceed(c)
}

// proceed asks itself for a batch, unless it has, or a backoff is running.
func (p *processor) proceed(c actor.Context) {
	if !p.wakened && !p.halted {
		p.wakened = true
		c.Send(c.Self(), &proceed{})
	}
}

// work does one step and arranges for what follows.
func (p *processor) work(c actor.Context) {
	if p.halted || p.run.soft.Err() != nil {
		return
	}
	p.loop.Allow(processorStep)
	n, err := p.step(c)
	p.loop.Round()
	if err != nil {
		n = p.failed(c, err)
	}
	p.schedule(c, n)
}

// schedule arranges for what follows a step.
func (p *processor) schedule(c actor.Context, n next) {
	root, self := c.ActorSystem().Root, c.Self()
	p.tellUnwritten()
	switch {
	case p.halted || p.run.soft.Err() != nil:
	case n.after > 0:
		p.wakened = true // until the timer's message: new events don't cut a backoff short
		p.wake = time.AfterFunc(n.after, func() { root.Send(self, &proceed{}) })
	case n.more:
		p.proceed(c)
	case (p.behind() > 0 || p.unsettled() || len(p.resting) > 0 || p.requests.waiting()) && p.flush == nil:
		p.flush = time.AfterFunc(p.flushIn(), func() { root.Send(self, &flushDue{}) })
	}
}

// step reads the checkpoints if they are not known, serves a request, or asks for
// events and handles a batch of those at hand.
func (p *processor) step(c actor.Context) (next, error) {
	ctx := p.run.hard
	if !p.known {
		if err := p.reload(ctx); err != nil {
			return next{}, err
		}
	}
	p.settleFailures(ctx)
	if p.succession.replacedBy != "" {
		return p.progress(ctx, c) // which finds nothing to do
	}
	if p.requests.due() {
		return p.serve(ctx)
	}
	n, err := p.progress(ctx, c)
	if err != nil {
		return next{}, err
	}
	return p.requests.after(n), nil
}

// progress does a step of the partition's own work.
func (p *processor) progress(ctx context.Context, c actor.Context) (next, error) {
	if changed, err := p.lookAtResting(ctx); changed || err != nil {
		return next{more: changed}, err
	}
	for len(p.pieces) > 0 {
		p.buffer.ask(c, p.pieces, p.horizon, p.epoch)
		first, ok := p.buffer.first()
		if !ok {
			return p.catchUp(ctx)
		}
		if limit := slot.Ceiling(p.pieces); first.begins() > limit {
			return next{more: true}, p.advanceTo(ctx, limit) // some of them rest from here on
		}
		if first.events.Len() > 0 {
			break
		}
		p.readTo = max(p.readTo, first.upTo) // nothing is wanted up to there
		p.buffer.handled(0)
		p.showPosition()
	}
	if len(p.pieces) == 0 {
		return next{}, nil
	}
	if p.failing.outcome != handling.Retry && p.atFailing() {
		return p.perform(ctx)
	}
	if wait := p.untilNextAttempt(); wait > 0 {
		if err := p.advanceTo(ctx, p.buffer.pages[0].events.Position(0)-1); err != nil {
			return next{}, err
		}
		return p.waitToRetry(ctx, wait)
	}
	return p.batch(ctx)
}

// errFenced says that the partition is somebody else's.
var errFenced = errors.New("the checkpoints do not belong to this worker any more")

// reload reads the checkpoints as they stand: after a crash, after a batch
// whose outcome is not known, or when they were not as believed.
func (p *processor) reload(ctx context.Context) error {
	pieces, err := p.worker.Store.Pieces(ctx, p.worker.db.InTransactions(), p.fence)
	if err != nil {
		return err
	}
	if len(pieces) == 0 {
		return errFenced
	}
	all, err := p.worker.Store.Parked(ctx, p.worker.db.InTransactions(), p.fence.Projection) // after the revisions that fence it
	if err != nil {
		return err
	}
	successions, err := p.worker.Store.Successions(ctx, p.worker.db.InTransactions(), p.fence.Projection)
	if err != nil {
		return err
	}
	p.succession.read(p.fence.Projection, successions)
	running, resting := p.succession.divide(pieces)
	if slot.Lowest(running) > slot.Lowest(p.pieces) {
		p.databaseFailures, p.failures = 0, p.failures.Committed(slot.Lowest(running)) // a batch was committed, though its answer was lost
	}
	if slot.IsSetBack(pieces, p.rows()) || len(resting) < len(p.resting) {
		p.failing.unknown = true // what was skipped, or stopped at, is to be handled now
	}
	if !slot.Level(pieces, p.rows()) {
		p.size.again = time.Time{} // it was for other events
	}
	changed := p.changedSince(pieces)
	p.requests.forget(pieces)
	p.noticeAbove(pieces)
	p.pieces, p.resting, p.known, p.readTo = running, resting, true, readFrom(running, resting)
	p.worker.positions.believe(p.fence, p.rows())
	p.buffer.partial = len(resting) > 0
	p.buffer.reset(p.readTo)
	p.parked = parkedIn(all, p.fence.Projection, p.fence.Partition.Range())
	p.showParked()
	p.performed()
	if changed {
		p.forgetFailing()
	}
	p.noticeSuccession()
	p.noticeResting()
	return nil
}

// behind is how far the checkpoint stays behind what has been handled, because
// nothing was in scope since.
func (p *processor) behind() int64 {
	if !p.known || len(p.pieces) == 0 {
		return 0
	}
	return p.readTo - slot.Lowest(p.pieces)
}

// catchUp advances the checkpoint over positions where nothing was in scope, if
// they are many or it is time.
func (p *processor) catchUp(ctx context.Context) (next, error) {
	due := p.flushSoon || p.behind() >= p.worker.Batch.FlushEvery
	if !due || p.behind() == 0 {
		p.flushSoon = false
		return next{}, nil
	}
	p.flushSoon = false
	return next{}, p.advanceTo(ctx, p.readTo)
}

// advanceTo advances the checkpoint to a position up to which nothing is left to handle, if
// it is behind.
func (p *processor) advanceTo(ctx context.Context, upTo int64) error {
	p.readTo = max(p.readTo, upTo)
	if p.behind() == 0 {
		return nil
	}
	b, err := p.begin(ctx, p.readTo)
	if err != nil {
		return err
	}
	return p.commit(ctx, b, p.readTo)
}

// failed decides what follows an error that is not the handler's.
func (p *processor) failed(c actor.Context, err error) next {
	switch {
	case p.run.hard.Err() != nil:
		return next{}
	case errors.Is(err, errFenced):
		p.halted = true
		p.worker.positions.forget(p.fence)
		p.worker.Metrics.Fenced()
		p.log.Warn("fenced: another generation owns the partition", "error", err)
		c.Send(c.Parent(), messages.Fenced{Generation: p.fence.Generation, Projection: p.fence.Projection, Partition: p.fence.Partition})
		return next{}
	case errors.Is(err, pgcoord.ErrMoved):
		p.known = false
		return p.afterMove(err)
	case errors.Is(err, pgcoord.ErrLocked):
		p.known = false
		return p.afterLock(err)
	}
	p.known = false
	p.databaseFailures++
	after := failureBackoff.After(p.databaseFailures)
	p.worker.Metrics.DatabaseError("batch")
	p.worker.databaseFailed(p.log, "batch", err, "next_try", max(after, time.Until(p.size.again)))
	return next{after: after}
}
