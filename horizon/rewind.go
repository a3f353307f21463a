package horizon

import (
	"context"
	"errors"
)

// rewind remembers that the sequence went back, below a checkpoint perhaps: when it
// has passed the checkpoint again, this is the only trace of it.
type rewind struct {
	low        int64 // where the sequence stood, at its lowest
	checkpoint int64 // the highest; until the next start, what was reached
}

// settledFloor is the floor that the highest checkpoint gives. After a rewind it is
// no higher than where the sequence stood, until the checkpoints are set back.
func (p *Prober) settledFloor(checkpoint int64) int64 {
	if p.rewind == nil || checkpoint <= p.rewind.low {
		p.rewind = nil
		return checkpoint
	}
	p.rewind.checkpoint = checkpoint
	return p.rewind.low
}

// rewound remembers from the tracker's error how low the sequence stood, and
// returns the error for the caller. Whether a checkpoint is ahead shows at the start
// that follows: by then the sequence may have passed it.
func (p *Prober) rewound(err error) error {
	var back *RewoundError
	if !errors.As(err, &back) {
		return err
	}
	if p.rewind == nil {
		p.rewind = &rewind{low: back.LastValue, checkpoint: back.Reached}
	}
	p.rewind.low = min(p.rewind.low, back.LastValue)
	if !back.Floor {
		return err
	}
	return &RewoundError{Reached: p.rewind.checkpoint, LastValue: p.rewind.low, Floor: true}
}

// afterRewind lets nothing be read after a rewind until the checkpoints were set
// back, or the sequence was lifted past the highest one and no event is or can be
// stored in between.
func (p *Prober) afterRewind(ctx context.Context, lastValue, position int64) (int64, error) {
	r := p.rewind
	switch {
	case r == nil:
		return position, nil
	case lastValue < r.checkpoint:
		return 0, &RewoundError{Reached: r.checkpoint, LastValue: r.low, Floor: true}
	case position < r.checkpoint: // somebody may still own a position in between
		return r.low, nil
	}
	reused, err := p.countVisible(ctx, r.low, r.checkpoint)
	if err != nil {
		return 0, err
	}
	if reused > 0 {
		return 0, &RewoundError{Reached: r.checkpoint, LastValue: r.low, Floor: true, Reused: reused}
	}
	p.rewind = nil
	return position, nil
}
