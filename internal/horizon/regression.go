package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Regression says that the sequence of an events table went back below a checkpoint.
// As long as it stands, nothing may be handled: when the sequence has passed the
// checkpoint again, it is the only trace of what happened.
type Regression struct {
	// Number counts the regressions of the events table from 1; 0 is none.
	Number int64
	// Low is where the sequence stood, at its lowest since.
	Low int64
	// Settled says that it is over: the checkpoints were set back, or nothing
	// could be skipped.
	Settled bool
}

// stands says whether there is a regression that is not settled.
func (r Regression) stands() bool { return r.Number > 0 && !r.Settled }

// Checkpoints are those of all readers by horizon of one events table, the
// regressions below them, and the horizon that is stored for all. Probers that share them settle a regression once for all, also if
// some see later than others that a person has set the checkpoints back.
type Checkpoints interface {
	// Known returns all, as of one moment.
	Known(ctx context.Context) (Known, error)
	// Latest returns the latest regression, and the stored horizon.
	Latest(ctx context.Context) (Regression, Stored, error)
	// Regressed takes down a regression, if a checkpoint is above low: that of the given
	// number, or the low of that one, if there is one and it stands. If it is
	// settled, what is reported was a part of it, and nothing happens. If a horizon or an event above low is stored under the given term, the horizon
	// becomes void as by Void, and such an event is forgotten, since its position may be given again.
	Regressed(ctx context.Context, number, low, term int64) error
	// Settle ends a regression that stands as it is given.
	Settle(ctx context.Context, r Regression) error
	// Store stores a horizon, if that of its term and sequence is lower, has not been stored within the last second, and the server has
	// surely not crashed since the run. It says whether it has stored it.
	// It waits for nobody who is storing at the same time.
	Store(ctx context.Context, s Stored, run Run) (bool, error)
	// Void replaces what is stored under the term of s by 0, for the sequence and the table of s, under the next term.
	Void(ctx context.Context, s Stored) error
}

// InMemory returns Checkpoints for one Prober that shares its knowledge with
// nobody. highest reads the position that Known returns as the checkpoint. They store no horizon. They are not
// safe for concurrent use.
func InMemory(highest func(context.Context) (int64, error)) Checkpoints {
	return &inMemory{highest: highest}
}

type inMemory struct {
	highest func(context.Context) (int64, error)
	latest  Regression
}

// Known calls the function.
func (m *inMemory) Known(ctx context.Context) (Known, error) {
	position, err := m.highest(ctx)
	return Known{Checkpoint: position, Regression: m.latest}, err
}

// Latest is what is remembered.
func (m *inMemory) Latest(context.Context) (Regression, Stored, error) {
	return m.latest, Stored{}, nil
}

// Regressed remembers the regression.
func (m *inMemory) Regressed(ctx context.Context, number, low, _ int64) error {
	position, err := m.highest(ctx)
	switch {
	case err != nil || position <= low:
	case number > m.latest.Number:
		m.latest = Regression{Number: number, Low: low}
	case number == m.latest.Number && m.latest.stands():
		m.latest.Low = min(m.latest.Low, low)
	}
	return err
}

// Settle remembers that it is over.
func (m *inMemory) Settle(_ context.Context, r Regression) error {
	if m.latest == r {
		m.latest.Settled = true
	}
	return nil
}

// Store does nothing: what is remembered would outlive a crash of the server.
func (m *inMemory) Store(context.Context, Stored, Run) (bool, error) { return false, nil }

// Void does nothing.
func (m *inMemory) Void(context.Context, Stored) error { return nil }

// readKnown reads what all know, and settles a regression below which all checkpoints were set back.
func (p *Prober) readKnown(ctx context.Context) error {
	if err := p.takeDown(ctx); err != nil {
		return err
	}
	known, err := p.checkpoints.Known(ctx)
	if err == nil && known.Regression.stands() && known.Checkpoint <= known.Regression.Low {
		if err := p.checkpoints.Settle(ctx, known.Regression); err != nil {
			return fmt.Errorf("settling a regression: %w", err)
		}
		known, err = p.checkpoints.Known(ctx)
	}
	if err != nil {
		return fmt.Errorf("reading the highest checkpoint: %w", err)
	}
	p.known, p.asked = known, time.Now()
	return nil
}

// outdated says whether others have seen or settled a regression, or have found the stored horizon void, since the prober
// last asked. It asks now and then.
func (p *Prober) outdated(ctx context.Context) (bool, error) {
	if time.Since(p.asked) < p.opts.RegressionsEvery {
		return false, nil
	}
	latest, stored, err := p.checkpoints.Latest(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the latest regression: %w", err)
	}
	p.asked = time.Now()
	if latest != p.known.Regression || stored.Term != p.known.Stored.Term {
		return true, nil
	}
	p.known.Stored = stored
	return false, nil
}

// regressed takes down from the tracker's error how low the sequence stood, and
// returns the error for the caller. Whether a checkpoint is ahead, if that is not
// known yet, shows at the start that follows.
func (p *Prober) regressed(ctx context.Context, err error) error {
	var back *RegressionError
	if !errors.As(err, &back) {
		return err
	}
	if p.noticed == nil || back.LastValue < *p.noticed {
		p.noticed = &back.LastValue
	}
	p.mine, p.last = mine{}, Stored{} // positions up to it may be given again
	if back.Floor && p.known.Regression.stands() {
		err = p.standing(0)
	}
	if failed := p.takeDown(ctx); failed != nil {
		return fmt.Errorf("%w; %w", err, failed)
	}
	return err
}

// standing is the error while a regression stands.
func (p *Prober) standing(reused int64) *RegressionError {
	low := p.known.Regression.Low
	if p.noticed != nil {
		low = min(low, *p.noticed)
	}
	back := &RegressionError{Reached: p.known.Checkpoint, LastValue: low, Floor: true, Reused: reused}
	if reused == 0 {
		back.Highest = p.above(back.Reached)
	}
	return back
}

// above is the highest position of a stored event if that is above another position, else 0.
func (p *Prober) above(position int64) int64 {
	if p.extent.highest > position {
		return p.extent.highest
	}
	return 0
}

// takeDown hands on what was noticed. It is tried again if it fails, as the regression
// that it was then, so that one that was settled meanwhile does not stand again.
func (p *Prober) takeDown(ctx context.Context) error {
	if p.noticed == nil {
		return nil
	}
	number := p.known.Regression.Number
	if !p.known.Regression.stands() {
		number++
	}
	if err := p.checkpoints.Regressed(ctx, number, *p.noticed, p.known.Stored.Term); err != nil {
		return fmt.Errorf("taking down that the sequence stood at %d: %w", *p.noticed, err)
	}
	p.noticed = nil
	return nil
}

// afterRegression lets nothing be read while a regression stands: until the checkpoints
// were set back, or the sequence was lifted past the highest one and no event is or can
// be stored in between. Then it settles it, and the prober must start afresh.
func (p *Prober) afterRegression(ctx context.Context, lastValue, position int64) (settled int64, steady bool, err error) {
	switch {
	case !p.known.Regression.stands():
		return position, true, nil
	case lastValue < p.known.Checkpoint:
		return 0, false, p.standing(0)
	case position < p.known.Checkpoint: // somebody may still own a position in between
		return min(position, p.known.Regression.Low), true, nil
	}
	reused, err := p.countVisible(ctx, p.known.Regression.Low, p.known.Checkpoint)
	if err != nil {
		return 0, false, err
	}
	if reused > 0 {
		return 0, false, p.standing(reused)
	}
	if err := p.checkpoints.Settle(ctx, p.known.Regression); err != nil {
		return 0, false, fmt.Errorf("settling a regression: %w", err)
	}
	return 0, false, nil
}
