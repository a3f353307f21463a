package projection

import (
	"context"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// keep looks after the checkpoint about once a second: it writes how far the stream was looked through, looks whether
// somebody has moved the rows, and joins rows that have met. So a partition without events does not stay behind the others, and
// a checkpoint that is moved above the sequence is noticed.
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

// join makes one row of rows that have met.
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

// finishTimeout bounds what is done after ctx has ended.
const finishTimeout = 5 * time.Second

// finish writes how far the stream has been looked through when Run ends. If nothing was left to handle it looks once more, so that the
// partitions of a projection that has handled everything stop at the same position.
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
		r.log.InfoContext(ctx, "the checkpoint could not be advanced over events that are not wanted", "error", err, "position", r.stored(), "passed", r.scanned)
	}
}
