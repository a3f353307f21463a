package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// CutOver is the result of [Admin.CutOver].
type CutOver struct {
	// Operation is the number of the row in orchestrator_operations.
	Operation int64
	// Position is the highest position that the old projection has handled. The new one continues after it. If Paused is
	// 0, slots may be at lower positions, and the new projection continues after those.
	Position int64
	// Paused is how long projections were held in total. It is 0 if both were already at the same positions.
	Paused time.Duration
}

// ErrTooFarBehind means that the projections are too far apart for a cut-over (see WithCutOverLimits). CutOver returns
// an error that wraps it and says how far.
var ErrTooFarBehind = errors.New("the projections are too far apart")

// Defaults of WithCutOverLimits.
const (
	defaultApart = 10_000
	defaultPause = 30 * time.Second
)

// longestPause bounds WithCutOverLimits.
const longestPause = 10 * time.Minute

// WithCutOverLimits bounds how long CutOver may hold projections. apart is how many positions the lowest checkpoint of
// the two projections may be behind the highest. Defaults to 10,000. pause is how long the projections are held at most.
// Defaults to 30 seconds. It must not be above 10 minutes.
func WithCutOverLimits(apart int64, pause time.Duration) Option {
	return func(a *Admin) { a.apart, a.pause = apart, pause }
}

// CutOver makes one projection take over from another, in one transaction. to must be a projection.Successor that
// replaces from, and workers must run it. After the cut-over, the handlers of to are no longer told that they replay
// (projection.Delivery.Replay), and from handles nothing more. Each event takes effect through exactly one of them:
// from, or to without Replay.
//
// If both projections are at the same positions, the cut-over is done at once. Otherwise CutOver holds both at their
// highest checkpoint, and waits until all checkpoints of both have reached it. CutOver refuses to begin, and holds
// nothing, if this may take too long (ErrTooFarBehind, WithCutOverLimits). It also refuses if either projection is
// paused or stopped, retries an event, has parked aggregates or waiting requests, or has no worker that could continue.
//
// CutOver gives up when ctx ends, when the longest pause has passed, or when an event is parked or stops a projection
// during the wait. It then removes the holds, both projections continue as before, and the error says why. If the
// process ends, the holds end by themselves, after the longest pause at most. Another CutOver continues at once. Resume
// of either projection, and Cancel, end a cut-over that has begun.
//
// A cut-over cannot be undone. To go back, run the old code under a new name as a Successor of to.
func (a *Admin) CutOver(ctx context.Context, from, to, reason string) (CutOver, error) {
	result, err := a.cutOver(ctx, from, to, reason)
	return result, a.explainCutOver(ctx, from, to, err)
}

// explainCutOver is [Admin.explain] for a cut-over.
func (a *Admin) explainCutOver(ctx context.Context, from, to string, err error) error {
	return a.explain(ctx, cutOverRights, fmt.Sprintf("cutting over from projection %q to %q", from, to), err)
}

// cutting is a cut-over that is going on.
type cutting struct {
	*Admin
	from, to, reason string
	key              string // names the attempt in the operation's row
	id               int64  // of the operation; 0 before it is known
	at               int64  // where both are held
	until            time.Time
	expired          bool      // until has passed, by the database's clock
	began            time.Time // by this process's clock, before they were held
}

func (a *Admin) cutOver(ctx context.Context, from, to, reason string) (CutOver, error) {
	c := &cutting{Admin: a, from: from, to: to, reason: reason, key: uuid.NewString()}
	if err := c.validate(); err != nil {
		return CutOver{}, err
	}
	if err := c.mayEnd(ctx); err != nil {
		return CutOver{}, err
	}
	done, err := c.begin(ctx)
	if err != nil {
		done, err = c.despite(ctx, err)
	}
	if err == nil && !done {
		if err = c.await(ctx); err != nil {
			if over, _ := c.despite(ctx, err); over {
				err = nil
			}
		}
	}
	if err != nil {
		return CutOver{}, errors.Join(err, c.takeBack(ctx, err))
	}
	result := CutOver{Operation: c.id, Position: c.at}
	if !done {
		result.Paused = time.Since(c.began)
	}
	return result, nil
}

// mayEnd makes sure that the role has all rights of a cut-over. One that lacks a right at its end would have held both projections, and could not take that back.
func (c *cutting) mayEnd(ctx context.Context) error {
	if _, err := c.open(ctx); err != nil {
		return err
	}
	return dbrights.Check(ctx, c.pool, cutOverRights.needs(c.schema, c.eventStore.EventsTable()))
}

func (c *cutting) validate() error {
	for what, text := range map[string]string{"the old projection's name": c.from, "the new projection's name": c.to} {
		if err := checkText(what, text, 1, mostText); err != nil {
			return err
		}
	}
	switch {
	case c.from == c.to:
		return wrong("the new projection must be another one than %q", c.from)
	case c.apart < 0:
		return wrong("WithCutOverLimits: apart must not be negative, got %d", c.apart)
	case c.pause <= 0 || c.pause > longestPause:
		return wrong("WithCutOverLimits: pause must be above 0 and at most %s, got %s", longestPause, c.pause)
	}
	return checkText("the reason", c.reason, 0, mostReason)
}

const (
	// Where nothing is in scope of a projection, workers write down every second or two how far they are, and at once if they are asked.
	writtenWithin  = 2 * time.Second
	cutOverLook    = 25 * time.Millisecond
	askAgainAfter  = 500 * time.Millisecond
	takeBackWithin = 10 * time.Second
)

// begin holds both projections, or has the new one take over at once: then done is true.
func (c *cutting) begin(ctx context.Context) (done bool, err error) {
	since := time.Now()
	for {
		done, err = c.hold(ctx)
		if !errors.Is(err, ErrTooFarBehind) || time.Since(since) >= writtenWithin {
			return done, err
		}
		c.askToWrite(ctx)
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(4 * cutOverLook):
		}
	}
}

// hold is begin's transaction. It waits for the handlers that run, which it holds up meanwhile, no longer than a pause may be.
func (c *cutting) hold(ctx context.Context) (done bool, err error) {
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	c.began = time.Now()
	err = c.busyPair(ctx, c.change(ctx, func(tx change) error {
		done = false
		if err := tx.lockPair(ctx, c.from, c.to); err != nil {
			return err
		}
		if _, err := tx.endCutOvers(ctx, waitingCutOvers{from: c.from, to: c.to}, "another attempt has taken over"); err != nil {
			return err
		}
		pair, err := standingsOf(ctx, tx.store, tx.tx, c.from, c.to)
		if err != nil {
			return err
		}
		if err := tx.checkCutOver(ctx, c, pair); err != nil {
			return err
		}
		if err := tx.forgetBegun(ctx, c.from, c.to); err != nil { // their holds have ended, or it would have been refused
			return err
		}
		c.at = pair.highest()
		if slot.Level(pair.from.Pieces, pair.to.Pieces) {
			done = true
			return tx.switchOver(ctx, c, false)
		}
		return tx.holdUntil(ctx, c)
	}))
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return done, err
}

// bounded is a context for a transaction that holds up handlers.
func (c *cutting) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.pause, fmt.Errorf("%s have passed, the longest pause that is allowed", c.pause))
}

// despite finds out what came of a transaction whose answer was lost.
func (c *cutting) despite(ctx context.Context, cause error) (done bool, err error) {
	if _, refused := errors.AsType[refusal](cause); refused {
		return false, cause
	}
	look, end := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer end()
	state, err := c.outcome(look)
	switch {
	case err == nil && state == "done":
		return true, nil
	case err == nil && state == "waiting" && ctx.Err() == nil:
		return false, nil
	}
	return false, cause
}

const sqlCutOverState = `
SELECT id, state, (arguments ->> 'position')::bigint, (arguments ->> 'until')::timestamptz, coalesce((arguments ->> 'until')::timestamptz < pg_catalog.now(), false), coalesce(result ->> 'cancelled_because', '')
FROM {{schema}}orchestrator_operations WHERE replica_set = $1 AND kind = 'cut-over' AND arguments ->> 'key' = $2 AND ($3::bigint = 0 OR id = $3::bigint)`

// outcome reads the operation's row.
func (c *cutting) outcome(ctx context.Context) (state string, err error) {
	store, err := c.open(ctx)
	if err != nil {
		return "", err
	}
	var until *time.Time
	var why string
	var id int64
	err = c.db.QueryRow(ctx, store.SQL(sqlCutOverState), c.replicaSet, c.key, c.id).Scan(&id, &state, &c.at, &until, &c.expired, &why)
	if err == nil {
		c.id = id
	}
	if err == nil && until != nil {
		c.until = *until
	}
	if err == nil && state == "cancelled" {
		return state, fmt.Errorf("operation %d: %w: %s", c.id, ErrCancelled, why)
	}
	return state, err
}

// await waits until both are where they are held, and has the new one take over.
func (c *cutting) await(ctx context.Context) error {
	var asked time.Time
	ctx, cancel := context.WithTimeoutCause(ctx, c.pause+takeBackWithin, errors.New("the database has not answered")) // else its clock says when the pause is over
	defer cancel()
	for {
		if time.Since(asked) >= askAgainAfter {
			asked = time.Now()
			c.askToWrite(ctx)
		}
		switch over, err := c.step(ctx); {
		case over:
			return nil
		case err != nil && ctx.Err() != nil:
			return fmt.Errorf("%w; %w", context.Cause(ctx), err)
		case err != nil && !mayPass(err):
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(cutOverLook):
		}
	}
}

// step looks how far both are, and has the new one take over if it can.
func (c *cutting) step(ctx context.Context) (over bool, err error) {
	state, err := c.outcome(ctx)
	if err != nil || state == "done" {
		return err == nil, err
	}
	store, err := c.open(ctx)
	if err != nil {
		return false, err
	}
	pair, err := standingsOf(ctx, store, c.db, c.from, c.to)
	if err != nil {
		return false, err
	}
	if c.arrived(pair) {
		return c.finish(ctx)
	}
	disturbed := c.undisturbed(pair)
	if disturbed != nil { // why may be known by now
		if _, err := c.outcome(ctx); errors.Is(err, ErrCancelled) {
			return false, err
		}
	}
	if c.expired {
		return false, refuse("%s have passed, the longest pause that is allowed, and not all of both projections came to position %d: %s", c.pause, c.at, pair.text(c.from, c.to))
	}
	return false, disturbed
}

// arrived says whether all parts of both are where they are held.
func (c *cutting) arrived(pair pair) bool { return pair.lowest() == c.at && pair.highest() == c.at }

// finish is the transaction in which the new projection takes over.
func (c *cutting) finish(ctx context.Context) (over bool, err error) {
	err = c.busyPair(ctx, c.change(ctx, func(tx change) error {
		over = false
		if err := tx.lockPair(ctx, c.from, c.to); err != nil {
			return err
		}
		pair, err := standingsOf(ctx, tx.store, tx.tx, c.from, c.to)
		if err != nil {
			return err
		}
		if err := c.undisturbed(pair); err != nil {
			return err
		}
		if !c.arrived(pair) {
			return nil
		}
		over = true
		return tx.switchOver(ctx, c, true)
	}))
	return over && err == nil, err
}

// undisturbed says what has happened to the projections that were held.
func (c *cutting) undisturbed(pair pair) error {
	for _, s := range pair.each(c.from, c.to) {
		name := s.name
		if s.Parked {
			return refuse("an aggregate of projection %q was parked meanwhile", name)
		}
		for _, p := range s.Pieces {
			switch {
			case p.Stopped != 0:
				return refuse("projection %q has stopped at position %d meanwhile", name, p.Stopped)
			case p.Held == 0 && p.Position == c.at: // the hold has ended, or somebody has taken it back; nothing was handled since
			case p.Held != c.at+1 || p.HeldUntil != c.until.UnixMicro():
				return refuse("projection %q is not held as this cut-over has left it: somebody has changed that; %s", name, pair.text(c.from, c.to))
			}
		}
	}
	return nil
}

// takeBack ends what was begun. The holds end by themselves if it fails.
func (c *cutting) takeBack(ctx context.Context, cause error) error {
	if _, refused := errors.AsType[refusal](cause); refused && c.id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer cancel()
	err := c.change(ctx, func(tx change) error {
		_, err := tx.endCutOvers(ctx, waitingCutOvers{key: c.key}, cause.Error())
		return err
	})
	if err != nil {
		return fmt.Errorf("the projections stay held for up to %s: %w", c.pause, err)
	}
	return nil
}

// askToWrite asks the workers to write down how far they are. It is an aid.
func (c *cutting) askToWrite(ctx context.Context) {
	store, err := c.open(ctx)
	if err != nil {
		return
	}
	for _, projection := range []string{c.from, c.to} {
		_ = store.AskToFlush(ctx, c.db, c.replicaSet, projection)
	}
}

// busyPair is orBusy for both.
func (c *cutting) busyPair(ctx context.Context, err error) error {
	return c.orBusy(ctx, Target{Projection: c.from}, c.orBusy(ctx, Target{Projection: c.to}, err))
}
