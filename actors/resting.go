package actors

import (
	"context"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// Slots of a partition rest while the projection is stopped at an event, or while somebody has paused it. Their rows say so.
//
// One pause has three names: the rows, and slot.Piece, say held (hold_at, Held, IsHeld); a processor says resting, for stopped slots too; logs, the
// command line and package admin say paused. What locks rows is called sqlLock…, never hold.

// noticeResting sets the metrics of slots that rest, and logs why, once a minute.
func (p *processor) noticeResting() {
	var stopped, held []slot.Piece
	for _, piece := range p.resting {
		if piece.Stopped != 0 {
			stopped = append(stopped, piece)
		}
		if piece.IsHeld() && p.succession.replacedBy == "" {
			held = append(held, piece)
		}
	}
	name, partition := p.fence.Projection, p.fence.Partition.String()
	if len(stopped) > 0 || p.shownStopped {
		p.shownStopped = true
		p.worker.Metrics.Stopped(name, partition, len(stopped) > 0)
	}
	if len(held) > 0 || p.shownHeld {
		p.shownHeld = true
		p.worker.Metrics.Held(name, partition, len(held) > 0)
	}
	p.logStopped(stopped)
	p.logHeld(held)
}

func (p *processor) logStopped(stopped []slot.Piece) {
	name, partition := p.fence.Projection, p.fence.Partition.String()
	if len(stopped) == 0 || !p.worker.notices.due("stopped "+name+" "+partition, personInterval) {
		return
	}
	at := stopped[0].Stopped
	for _, piece := range stopped {
		at = min(at, piece.Stopped)
	}
	p.log.Error("the projection is stopped at an event that could not be handled, and its slots wait until a person decides; orchestrator_dead_letters has the error",
		"position", at, "all_slots", len(p.pieces) == 0,
		"remedy", "repair the handler, then call admin.Resume, or UPDATE orchestrator_checkpoints SET stopped_at = NULL, revision = revision + 1 WHERE projection = '"+name+"'; docs/errors.md says how to skip the event")
}

func (p *processor) logHeld(held []slot.Piece) {
	name, partition := p.fence.Projection, p.fence.Partition.String()
	if len(held) == 0 || !p.worker.notices.due("held "+name+" "+partition, personInterval) {
		return
	}
	attrs := []any{"position", slot.Lowest(held), "all_slots", len(p.pieces) == 0}
	if until := held[0].HeldUntil; until != 0 {
		attrs = append(attrs, "until", time.UnixMicro(until).UTC())
	}
	p.log.Info("the projection is paused; orchestrator_operations says who has paused it, and why", attrs...)
}

// lookAtResting looks at the checkpoints now and then while some rest: a person may have them resume, or a pause may have ended.
func (p *processor) lookAtResting(ctx context.Context) (changed bool, err error) {
	if len(p.resting) == 0 {
		return false, nil
	}
	if changed, err = p.look(ctx); err == nil && !changed {
		p.noticeSuccession()
		p.noticeResting()
	}
	return changed, err
}

// retryLooks is how often a processor that waits to retry an event looks at its checkpoints.
const retryLooks = time.Second

// untilNextAttempt is how long to wait before the next attempt at the next events; 0 or less if they do not wait.
func (p *processor) untilNextAttempt() time.Duration {
	wait := time.Until(p.size.again)
	if p.atFailing() {
		wait = max(wait, time.Until(p.failing.retryAt))
	}
	return wait
}

// waitToRetry waits, and reads the checkpoints now and then: a person may skip the event or begin a rebuild, which must not have to wait
// for the next try.
func (p *processor) waitToRetry(ctx context.Context, wait time.Duration) (next, error) {
	if changed, err := p.look(ctx); changed || err != nil {
		return next{more: changed}, err
	}
	return next{after: min(wait, retryLooks)}, nil
}

// look reads the checkpoints if it has not done so lately, and says whether they are not as believed.
func (p *processor) look(ctx context.Context) (changed bool, err error) {
	if time.Since(p.looked) < retryLooks {
		return false, nil
	}
	p.looked = time.Now()
	pieces, err := p.worker.Store.Pieces(ctx, p.worker.db.InTransactions(), p.fence)
	switch {
	case err != nil:
		return false, err
	case !slices.Equal(pieces, p.rows()):
		p.known = false
		return true, nil
	}
	return false, nil
}
