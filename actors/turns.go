package actors

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// turns is what a processor knows of conflicts with other batches of its projection. Only its processor uses it.
type turns struct {
	taken     bool // the last batch took a turn, or waited for one
	waits     int  // batches in a row that did not get the turn
	conflicts int  // batches in a row that ended in a conflict
	slow      int  // batches in a row whose first event was slow; if negative, how many more are not checked
	blocked   int  // checked batches in a row that waited for another one
}

// turnPlace is the place for one batch of a worker and projection that has its turn, or waits for it.
type turnPlace struct {
	place chan struct{}
	left  time.Time // when the last batch left it; used only by the batch that has the place
}

func newTurnPlace() *turnPlace { return &turnPlace{place: make(chan struct{}, 1)} }

const (
	// waitsMost is how many batches in a row may wait for the turn, each for pgcoord.TurnWait. The next one goes without. The holder
	// does not give the turn back, and may be in nobody's way.
	waitsMost = 30
	// conflictsHalve is how many conflicts in a row make batches smaller: other transactions than the projection's are in
	// the way, and a small batch is in fewer ways.
	conflictsHalve = 3
	// conflictsReport is how many conflicts in a row are an error that a person should see. Twice as many are again.
	conflictsReport = 16
	// turnAgain is about when a batch is tried again that did not get the turn.
	turnAgain = 20 * time.Millisecond
	// turnsTimeout bounds looking whether the table of turns can be read.
	turnsTimeout = 2 * time.Second
	// turnGrace is how long a batch goes on waiting for its turn when it is to stop. To give up costs its connection.
	turnGrace = 100 * time.Millisecond
	// turnPoll is about how often a batch that waits outside the database asks whether the turn is free.
	turnPoll = 4 * time.Millisecond
	// turnOutside is how long it does so. Then it waits in the database, since batches that wait there come first.
	turnOutside = 400 * time.Millisecond
	// turnYield is how long a worker leaves the turn to others that ask for it.
	turnYield = 3 * turnPoll / 2
)

// conflictBackoff is how long a batch waits that ended in a conflict.
var conflictBackoff = dbfault.Backoff{First: 10 * time.Millisecond, Max: time.Second}

// errNoTurn says that another batch of this worker has the turn.
var errNoTurn = fmt.Errorf("%w: it is this worker's", pgcoord.ErrTurn)

// queue waits for the projection's other batches of this worker, while they take turns, so that only one of them waits in the database and
// holds a connection for it. The caller must call the function that it returns.
func (p *processor) queue(ctx context.Context) (leave func(), err error) {
	p.noteWaits(ctx)
	if !p.turns.taken || p.withoutTurn() {
		return func() {}, nil
	}
	turn := p.worker.turns[p.fence.Projection]
	patience := time.NewTimer(pgcoord.TurnWait)
	defer patience.Stop()
	select {
	case turn.place <- struct{}{}:
	case <-patience.C:
		return nil, errNoTurn
	case <-p.run.soft.Done():
		return nil, context.Cause(p.run.soft)
	}
	if err := p.awaitTurn(ctx, turnYield-time.Since(turn.left)); err != nil {
		<-turn.place
		return nil, err
	}
	return func() {
		turn.left = time.Now()
		<-turn.place
	}, nil
}

// withoutTurn says whether the next batch goes without a turn.
func (p *processor) withoutTurn() bool {
	return p.turns.waits >= waitsMost || p.worker.withoutTurns()
}

// awaitTurn waits until no other worker's batch has the turn, without keeping a statement waiting: it asks (pgcoord.Store.TurnTaken), first after rest. After
// turnOutside it returns, and the batch waits in its transaction, where turns are given in order. A projection that handles whole batches changes each row once
// in a batch, so its batches wait there at once.
func (p *processor) awaitTurn(ctx context.Context, rest time.Duration) error {
	if !p.eventByEvent() || p.fence.Partition.Total <= p.worker.Membership.Partitions {
		return nil
	}
	ctx, forget := p.untilStopping(ctx)
	defer forget()
	for began := time.Now(); time.Since(began) < turnOutside; rest = turnPoll/2 + rand.N(turnPoll) {
		select {
		case <-time.After(rest):
		case <-p.run.soft.Done():
			return context.Cause(p.run.soft)
		}
		if taken, err := p.turnTaken(ctx); err != nil || !taken {
			return nil // the batch meets the same error
		}
	}
	return nil
}

func (p *processor) turnTaken(ctx context.Context) (bool, error) {
	ctx, _, end := p.worker.db.Limit(ctx)
	defer end()
	return p.worker.Store.TurnTaken(ctx, p.worker.db, p.fence.Projection)
}

// untilStopping ends ctx turnGrace after the processor was told to stop.
func (p *processor) untilStopping(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	forget := context.AfterFunc(p.run.soft, func() {
		time.AfterFunc(turnGrace, func() { cancel(context.Cause(p.run.soft)) })
	})
	return ctx, func() {
		forget()
		cancel(nil)
	}
}

// beginInTurn opens a batch's transaction, which holds those of the checkpoints that are below upTo, after its turn has come.
func (p *processor) beginInTurn(ctx context.Context, pieces []slot.Piece, upTo int64) (*pgcoord.Batch, error) {
	if p.turns.taken {
		within, forget := p.untilStopping(ctx)
		defer forget()
		ctx = within
	}
	settings := p.worker.Batch.Settings
	settings.IdleTimeout = p.idleTimeout()
	settings.Turn = !p.withoutTurn()
	settings.Shown = p.eventByEvent()
	ctx, lockWait, explain, end := p.limitLocks(ctx)
	defer end()
	settings.LockWait = lockWait
	b, err := p.beginAnyhow(ctx, pieces, upTo, settings)
	if err != nil {
		return nil, explain(err)
	}
	p.turns.taken, p.turns.waits = b.InTurn(), 0
	return b, nil
}

// withoutTurns says whether batches take no turns for a while, since their table cannot be read.
func (w *worker) withoutTurns() bool { return time.Now().UnixNano() < w.noTurns.Load() }

// beginAnyhow opens a batch's transaction. Turns are an aid: where only the table of turns cannot be read, the batch goes without, and so do
// all of the worker for a while. A batch that waits for a lock may be waiting for the lock on that table.
func (p *processor) beginAnyhow(ctx context.Context, pieces []slot.Piece, upTo int64, settings pgcoord.BatchSettings) (*pgcoord.Batch, error) {
	b, err := p.worker.Store.BeginBatch(ctx, p.worker.db, p.fence, pieces, upTo, settings)
	if err == nil || !settings.Turn || errors.Is(err, pgcoord.ErrLocked) {
		return b, err
	}
	var unread error
	if errors.Is(err, pgcoord.ErrTurn) || dbfault.Code(err) == "55P03" || ctx.Err() != nil { // it may have waited for somebody who has locked the table
		unread = p.turnsUnread()
	} else if remedyOf(err) != "" {
		unread = err
	}
	if unread == nil {
		return nil, err
	}
	if ctx.Err() == nil {
		settings.Turn = false
		if b, err = p.worker.Store.BeginBatch(ctx, p.worker.db, p.fence, pieces, upTo, settings); err != nil {
			return nil, err
		}
	}
	p.worker.noTurns.Store(time.Now().Add(personInterval).UnixNano())
	p.worker.aidFailed(p.log, "the partitions of a projection cannot take turns (orchestrator_turns), so conflicting batches are repeated more often; handling goes on, "+
		"and the worker keeps trying", "turns", unread)
	return b, err
}

// turnsUnread is why the table of turns cannot be read; nil if it can, or if that cannot be told.
func (p *processor) turnsUnread() error {
	ctx, cancel := context.WithTimeout(p.run.soft, turnsTimeout)
	defer cancel()
	if err := p.worker.Store.CheckTurns(ctx, p.worker.db); dbfault.IsRefused(err) {
		return err
	}
	return nil
}

// noTurn decides what follows a batch that did not get its turn.
func (p *processor) noTurn() next {
	p.turns.taken = true
	p.turns.waits++
	return next{after: 1 + rand.N(turnAgain)}
}

// conflicted decides what follows a batch that the database ended because of a concurrent transaction. No event has failed: the
// same work goes through when nobody is in the way.
func (p *processor) conflicted(ctx context.Context, events packed.Events, err error) next {
	p.turns.conflicts++
	n := p.turns.conflicts
	p.worker.Metrics.Conflict(p.fence.Projection)
	after := conflictBackoff.After(n)
	attrs := []any{
		"error", handling.Abridged(fmt.Sprint(err)), "conflicts_in_a_row", n, "next_try", after,
		"first_position", events.Position(0), "last_position", events.Position(events.Len() - 1),
	}
	var took time.Duration
	var noteErr error
	if !p.worker.withoutTurns() {
		took, noteErr = p.worker.Store.NoteConflicts(ctx, p.worker.db, p.fence.Projection, 1)
	}
	switch {
	case noteErr != nil && ctx.Err() == nil:
		p.log.Warn("a conflict could not be noted, so the partitions do not take turns", "note_error", noteErr, "error", err)
	case took > 0:
		p.turns.taken = true
		p.log.Warn("batches are in conflict, so the projection's partitions take turns; a handler that changes rows in a stable order, such as by key, avoids this",
			append(attrs, "for", took)...)
	}
	if n >= conflictsReport && n&(n-1) == 0 {
		p.log.Error("batches keep conflicting although the projection's partitions take turns: something else changes the same rows", attrs...)
	}
	if n >= conflictsHalve {
		p.size.next = max(1, events.Len()/2)
	}
	return next{after: after}
}
