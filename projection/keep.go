package projection

import (
	"context"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// keep maintains the checkpoint about once a second. It stores how far the stream was read, checks whether somebody has
// moved the rows, and joins rows that have met. This keeps a partition without events from falling behind the others,
// and detects a checkpoint that was moved above the sequence.
func (r *runner) keep(ctx context.Context) error {
	if time.Since(r.kept) < keepEvery {
		return nil
	}
	r.kept = time.Now()
	switch {
	case len(r.own) > 1 && r.stored() == highest(r.own):
		return r.join(ctx)
	case r.scanned > r.stored():
		return r.handleParts(ctx, nil, r.scanned)
	}
	limited, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	own, err := r.rows.read(limited, r.db)
	if err == nil && !slices.Equal(own, r.own) {
		return errCheckpointMoved
	}
	return err
}

// join merges rows that have met into one.
func (r *runner) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	own, _, err := r.rows.arrange(ctx, r.db, false)
	if err != nil {
		return err
	}
	if slot.Lowest(manual.Slots(own)) != r.stored() {
		return errCheckpointMoved
	}
	r.own = own
	return nil
}

// finishTimeout bounds the work after ctx has ended.
const finishTimeout = 5 * time.Second

// finish stores how far the stream was read when Run ends. If nothing was left to handle, it looks once more, so that
// all partitions of a projection that has handled everything end at the same position.
func (r *runner) finish(ctx context.Context) {
	if !r.ready {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	for probed := false; ; {
		if r.scanned >= r.horizon {
			if probed || r.advance(ctx) != nil || r.scanned >= r.horizon {
				break
			}
			probed = true
		}
		page, err := r.read(ctx)
		if err != nil || len(page.Events) > 0 || r.handle(ctx, page) != nil {
			break
		}
	}
	if r.scanned <= r.stored() {
		return
	}
	if err := r.handleParts(ctx, nil, r.scanned); err != nil {
		r.log.InfoContext(ctx, "the checkpoint could not be advanced past events that the projection does not want", "error", err, "position", r.stored(), "passed", r.scanned)
	}
}
