package actors

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// The record of failed events, orchestrator_dead_letters, is an aid. Whatever is the matter with it, handling goes on. What could not be
// recorded is recorded later.

// recordPause is how long the record is left alone after it could not be read or written.
const recordPause = time.Second

// lateRecords is events that had failed and were handled, which the table does not say yet. It is safe for concurrent use. If the process
// ends before they are recorded, they look as if they had been skipped.
type lateRecords struct {
	mu   sync.Mutex
	list []*handledEvents
}

// handledEvents are events that one batch has handled.
type handledEvents struct {
	projection string
	positions  []int64
	at         time.Time
}

// lateMost bounds how many positions are remembered, for a table that is away for long.
const lateMost = 1 << 16

func (u *lateRecords) add(h *handledEvents) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list = append(u.list, h)
	total := 0
	for _, one := range u.list {
		total += len(one.positions)
	}
	for total > lateMost && len(u.list) > 1 {
		total -= len(u.list[0].positions)
		u.list = u.list[1:]
	}
}

func (u *lateRecords) all() []*handledEvents {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.list)
}

func (u *lateRecords) remove(h *handledEvents) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list = slices.DeleteFunc(u.list, func(one *handledEvents) bool { return one == h })
}

// recordIn has the batch record which of its events had failed before, and returns their positions, or those that may have.
func (p *processor) recordIn(b *pgcoord.Batch, events packed.Events) []int64 {
	n := events.Len()
	if !p.failing.unknown {
		n = sort.Search(n, func(i int) bool { return events.Position(i) > p.failing.unsettled })
	}
	positions := make([]int64, n)
	for i := range positions {
		positions[i] = events.Position(i)
	}
	if len(positions) > 0 && !p.failing.apart && time.Now().After(p.failing.recordAgain) {
		b.Recovered(positions)
	}
	return positions
}

// recordLater remembers what the batch, which was committed, could not record.
func (p *processor) recordLater(b *pgcoord.Batch, positions []int64) {
	if len(positions) == 0 || b.Recorded() {
		return
	}
	if err := b.Unrecorded(); err != nil {
		p.worker.recordFailed(p.log, err)
		p.failing.recordAgain = time.Now().Add(recordPause)
	}
	p.worker.late.add(&handledEvents{projection: p.fence.Projection, positions: positions, at: time.Now()})
}

// recordAttempt records a failed attempt in the table, and takes over its count of them.
func (p *processor) recordAttempt(ctx context.Context, event es.PersistedEvent) {
	letter := pgcoord.Letter{Event: event, Attempts: p.failing.attempts, Error: p.failing.text, Kind: p.failing.kind, Frame: p.failing.frame}
	attempts, recordErr := p.worker.Store.RecordFailure(ctx, p.worker.db.InTransactions(), p.fence, letter)
	if recordErr != nil && ctx.Err() == nil {
		p.worker.recordFailed(p.log, recordErr)
	}
	p.failing.attempts = max(p.failing.attempts, attempts)
}

// report tells of a failed event: metrics, log. The log counts attempts as the table does.
func (p *processor) report(event es.PersistedEvent, d handling.Decision) {
	kind := measure.KindError
	panicked, isPanic := errors.AsType[*handling.PanicError](d.Err)
	switch {
	case isPanic:
		kind = measure.KindPanic
	case d.Class == handling.ClassTimeout:
		kind = measure.KindTimeout
	}
	p.worker.Metrics.HandlerError(p.fence.Projection, kind)
	p.worker.Metrics.Retrying(p.fence.Projection, p.fence.Partition.String(), true)
	attrs := []any{
		"error", p.failing.text, "class", d.Class.String(), "event_id", event.EventID, "event_type", event.EventType, "aggregate_id", event.AggregateID, "position", event.GlobalPosition,
		"attempt", p.failing.attempts,
	}
	if isPanic && p.failing.panicked != p.failing.text {
		p.failing.panicked = p.failing.text // its stack is logged once
		attrs = append(attrs, "stack", string(panicked.Stack))
	}
	if d.Outcome != handling.Retry {
		p.log.Error("a handler failed; its projection's error policy applies its outcome to the event", append(attrs, "outcome", d.Outcome.String())...)
		return
	}
	p.log.Error("a handler failed; its partition of this projection waits for the event", append(attrs, "next_try", d.Delay)...)
}

// recovered says that the event that had failed was handled.
func (p *processor) recovered() {
	p.log.Info("the event that had failed was handled", "position", p.failing.position, "attempts", p.failing.attempts)
	p.notRetrying()
}

func (p *processor) notRetrying() {
	p.worker.Metrics.Retrying(p.fence.Projection, p.fence.Partition.String(), false)
	p.failing.position, p.failing.outcome, p.failing.last = 0, handling.Retry, nil
}

// unsettled says whether the record of failures is to be read or written, though there may be nothing to handle.
func (p *processor) unsettled() bool {
	return p.failing.unknown || len(p.worker.late.all()) > 0 || p.failing.unsettled > 0 && p.known && slot.Lowest(p.pieces) >= p.failing.unsettled
}

// settleFailures records which of the events that had failed, here or on another worker, were skipped, once the checkpoints have
// passed all of them. Those that were handled are recorded already, or by this.
func (p *processor) settleFailures(ctx context.Context) {
	if !p.unsettled() || time.Now().Before(p.failing.recordAgain) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	if err := p.settle(ctx); err != nil {
		p.worker.recordFailed(p.log, err)
		p.failing.recordAgain = time.Now().Add(recordPause)
	}
}

func (p *processor) settle(ctx context.Context) error {
	db := p.worker.db.InTransactions()
	for _, h := range p.worker.late.all() {
		if err := p.worker.Store.RecordHandled(ctx, db, h.projection, h.positions, time.Since(h.at)); err != nil {
			return err
		}
		p.worker.late.remove(h)
	}
	if p.failing.unknown {
		found, err := p.worker.Store.Unsettled(ctx, db)
		if err != nil {
			return err
		}
		p.failing.unknown, p.failing.unsettled = false, found[p.fence.Projection]
	}
	reached := slot.Lowest(p.pieces)
	if p.failing.unsettled == 0 || !p.known || reached < p.failing.unsettled {
		return nil
	}
	skipped, err := p.worker.Store.RecordSkipped(ctx, db, p.fence)
	if err != nil {
		return err
	}
	p.failing.unsettled = 0
	for _, position := range skipped {
		p.log.Warn("an event that had failed was skipped: the checkpoint was advanced past it, and no handler has handled it", "position", position)
	}
	switch {
	case p.failing.position == 0 || p.failing.position > reached:
	case slices.Contains(skipped, p.failing.position):
		p.notRetrying()
	default: // the answer to its commit was lost
		p.recovered()
	}
	return nil
}

// isRevised says whether a checkpoint's revision was raised.
func isRevised(now, before []slot.Piece) bool {
	return slices.ContainsFunc(now, func(n slot.Piece) bool {
		return slices.ContainsFunc(before, func(b slot.Piece) bool {
			return n.From < b.To && b.From < n.To && n.Revision > b.Revision
		})
	})
}
