package actors

import (
	"context"
	"time"
)

// movesAtOnce is how many batches in a row are repeated at once after their rows were not as believed. An operator's change refuses one,
// and a second may follow where several are made.
const movesAtOnce = 3

// afterMove decides what follows a batch whose rows were not as believed. They are read again at once. If that did not help, the
// next batches wait, and a line says so once a minute.
func (p *processor) afterMove(err error) next {
	p.moved++
	if p.moved <= movesAtOnce {
		return next{more: true}
	}
	after := failureBackoff.After(p.moved - movesAtOnce)
	if p.worker.notices.due("refused "+p.fence.Projection+" "+p.fence.Partition.String(), personInterval) {
		p.log.Warn("batches are refused one after the other, because rows differ from what the worker has just read; the worker keeps trying",
			"error", err, "refused_in_a_row", p.moved, "next_try", after)
	}
	return next{after: after}
}

// limitLocks bounds how long a batch may wait to begin. Its locks give up before that, so that rows that another transaction holds are not
// taken for a server that does not answer.
func (p *processor) limitLocks(ctx context.Context) (limited context.Context, lockWait time.Duration, explain func(error) error, end context.CancelFunc) {
	patience := p.worker.db.Patience()
	limited, explain, end = p.worker.db.LimitTo(ctx, patience)
	return limited, patience * 3 / 4, explain, end
}

// afterLock decides what follows a batch whose rows another transaction held for long. It is tried again at once, since it has waited. A
// line says so once a minute.
func (p *processor) afterLock(err error) next {
	if p.worker.notices.due("locked "+p.fence.Projection+" "+p.fence.Partition.String(), personInterval) {
		p.log.Warn("another transaction holds a checkpoint, and the partition waits for it: a reset or a pause that takes long, or somebody's own", "error", err)
	}
	return next{more: true}
}
