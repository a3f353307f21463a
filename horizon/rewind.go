package horizon

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Rewind says that the sequence of an events table went back below a checkpoint.
// As long as it stands, nothing may be handled: when the sequence has passed the
// checkpoint again, it is the only trace of what happened.
type Rewind struct {
	// Number counts the rewinds of the events table from 1; 0 is none.
	Number int64
	// Low is where the sequence stood, at its lowest since.
	Low int64
	// Settled says that it is over: the checkpoints were set back, or nothing
	// could be skipped.
	Settled bool
}

// stands says whether there is a rewind that is not settled.
func (r Rewind) stands() bool { return r.Number > 0 && !r.Settled }

// Checkpoints are those of all readers by horizon of one events table, and the
// rewinds below them. Probers that share them settle a rewind once for all, also if
// some see later than others that a person has set the checkpoints back.
type Checkpoints interface {
	// Highest returns the highest position that any reader has stored, 0 if there
	// is none, and the latest rewind, both as of one moment. A position that is too
	// low only makes a start among open transactions slower; one that no horizon
	// justified loses events.
	Highest(ctx context.Context) (position int64, latest Rewind, err error)
	// Latest returns the latest rewind.
	Latest(ctx context.Context) (Rewind, error)
	// Rewound takes down a rewind, if a checkpoint is above low: that of the given
	// number, or the low of that one, if there is one and it stands. If it is
	// settled, what is reported was a part of it, and nothing happens.
	Rewound(ctx context.Context, number, low int64) error
	// Settle ends a rewind that stands as it is given.
	Settle(ctx context.Context, r Rewind) error
}

// InMemory returns Checkpoints for one Prober that shares its knowledge with
// nobody. highest reads the position that Checkpoints.Highest returns. They are not
// safe for concurrent use.
func InMemory(highest func(context.Context) (int64, error)) Checkpoints {
	return &inMemory{highest: highest}
}

type inMemory struct {
	highest func(context.Context) (int64, error)
	latest  Rewind
}

// Highest calls the function.
func (m *inMemory) Highest(ctx context.Context) (int64, Rewind, error) {
	position, err := m.highest(ctx)
	return position, m.latest, err
}

// Latest is what is remembered.
func (m *inMemory) Latest(context.Context) (Rewind, error) { return m.latest, nil }

// Rewound remembers the rewind.
func (m *inMemory) Rewound(ctx context.Context, number, low int64) error {
	position, err := m.highest(ctx)
	switch {
	case err != nil || position <= low:
	case number > m.latest.Number:
		m.latest = Rewind{Number: number, Low: low}
	case number == m.latest.Number && m.latest.stands():
		m.latest.Low = min(m.latest.Low, low)
	}
	return err
}

// Settle remembers that it is over.
func (m *inMemory) Settle(_ context.Context, r Rewind) error {
	if m.latest == r {
		m.latest.Settled = true
	}
	return nil
}

// settledFloor reads the floor that the highest checkpoint gives. While a rewind
// stands it is no higher than where the sequence stood.
func (p *Prober) settledFloor(ctx context.Context) (int64, error) {
	if err := p.takeDown(ctx); err != nil {
		return 0, err
	}
	position, latest, err := p.checkpoints.Highest(ctx)
	if err == nil && latest.stands() && position <= latest.Low { // all were set back
		if err := p.checkpoints.Settle(ctx, latest); err != nil {
			return 0, fmt.Errorf("settling a rewind: %w", err)
		}
		position, latest, err = p.checkpoints.Highest(ctx)
	}
	if err != nil {
		return 0, fmt.Errorf("reading the highest checkpoint: %w", err)
	}
	p.latest, p.checkpoint, p.asked = latest, position, time.Now()
	if latest.stands() {
		return min(position, latest.Low), nil
	}
	return position, nil
}

// outdated says whether others have seen or settled a rewind since the prober
// last asked. It asks now and then.
func (p *Prober) outdated(ctx context.Context) (bool, error) {
	if time.Since(p.asked) < p.opts.RewindsEvery {
		return false, nil
	}
	latest, err := p.checkpoints.Latest(ctx)
	if err != nil {
		return false, fmt.Errorf("reading the latest rewind: %w", err)
	}
	p.asked = time.Now()
	return latest != p.latest, nil
}

// rewound takes down from the tracker's error how low the sequence stood, and
// returns the error for the caller. Whether a checkpoint is ahead, if that is not
// known yet, shows at the start that follows.
func (p *Prober) rewound(ctx context.Context, err error) error {
	var back *RewoundError
	if !errors.As(err, &back) {
		return err
	}
	if p.noticed == nil || back.LastValue < *p.noticed {
		p.noticed = &back.LastValue
	}
	if back.Floor && p.latest.stands() {
		err = p.standing(0)
	}
	if failed := p.takeDown(ctx); failed != nil {
		return fmt.Errorf("%w; %w", err, failed)
	}
	return err
}

// standing is the error while a rewind stands.
func (p *Prober) standing(reused int64) *RewoundError {
	low := p.latest.Low
	if p.noticed != nil {
		low = min(low, *p.noticed)
	}
	return &RewoundError{Reached: p.checkpoint, LastValue: low, Floor: true, Reused: reused}
}

// takeDown hands on what was noticed. It is tried again if it fails, as the rewind
// that it was then, so that one that was settled meanwhile does not stand anew.
func (p *Prober) takeDown(ctx context.Context) error {
	if p.noticed == nil {
		return nil
	}
	number := p.latest.Number
	if !p.latest.stands() {
		number++
	}
	if err := p.checkpoints.Rewound(ctx, number, *p.noticed); err != nil {
		return fmt.Errorf("taking down that the sequence stood at %d: %w", *p.noticed, err)
	}
	p.noticed = nil
	return nil
}

// afterRewind lets nothing be read while a rewind stands: until the checkpoints
// were set back, or the sequence was lifted past the highest one and no event is or can
// be stored in between. Then it settles it, and the prober must start afresh.
func (p *Prober) afterRewind(ctx context.Context, lastValue, position int64) (settled int64, steady bool, err error) {
	switch {
	case !p.latest.stands():
		return position, true, nil
	case lastValue < p.checkpoint:
		return 0, false, p.standing(0)
	case position < p.checkpoint: // somebody may still own a position in between
		return min(position, p.latest.Low), true, nil
	}
	reused, err := p.countVisible(ctx, p.latest.Low, p.checkpoint)
	if err != nil {
		return 0, false, err
	}
	if reused > 0 {
		return 0, false, p.standing(reused)
	}
	if err := p.checkpoints.Settle(ctx, p.latest); err != nil {
		return 0, false, fmt.Errorf("settling a rewind: %w", err)
	}
	return 0, false, nil
}
