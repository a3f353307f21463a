package actors

import (
	"context"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// If all events of a projection change one row, no batch ends in a conflict. Each batch waits in its first event until the batch before it has committed. So
// the worker checks batches whose first event is slow. If several in a row wait for another batch, the partitions take turns.

const (
	// slowFirst is how long a batch's first event must take to count as slow.
	slowFirst = 10 * time.Millisecond
	// slowTimes is how many times longer than the batch's other events it must take.
	slowTimes = 4
	// slowBatches is how many batches in a row must have a slow first event before the next one is checked.
	slowBatches = 3
	// slowSkipped is how many batches are not checked after one that waited for no other batch of its projection.
	slowSkipped = 100
	// blockedBatches is how many checked batches in a row must have waited for another one before the partitions take turns.
	blockedBatches = 3
	// slowLook bounds a check.
	slowLook = 100 * time.Millisecond
)

// eventByEvent says whether the projection has several partitions and handles one event at a time. Such a batch may hold a row for long and change it often while
// others wait for it.
func (p *processor) eventByEvent() bool { return !p.wholeBatches() && p.fence.Partition.Total > 1 }

// waitWatch checks once, while a batch's first event is handled, whether the batch waits for another batch of its projection. A nil watch checks nothing.
type waitWatch struct {
	timer *time.Timer
	done  chan struct{} // closed when it has checked
	waits bool
}

// watchWait starts the check if the batches before this one were slow.
func (p *processor) watchWait(ctx context.Context, b *pgcoord.Batch) *waitWatch {
	if p.turns.slow < slowBatches {
		return nil
	}
	w, db, store, name, backend := &waitWatch{done: make(chan struct{})}, p.worker.db, p.worker.Store, p.fence.Projection, b.Backend()
	w.timer = time.AfterFunc(slowFirst, func() {
		defer close(w.done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), slowLook)
		defer cancel()
		waits, err := store.WaitsForShown(ctx, db, name, backend)
		w.waits = err == nil && waits // a check that fails has no other effect
	})
	return w
}

// end says whether the batch waited for another, and whether that is known by now. It waits for nothing, since the batch holds rows.
func (w *waitWatch) end() (waits, known bool) {
	if w == nil || w.timer.Stop() {
		return false, false
	}
	select {
	case <-w.done:
		return w.waits, true
	default:
		return false, false
	}
}

// callWatched is call that learns whether the batch waits for another.
func (p *processor) callWatched(ctx context.Context, b *pgcoord.Batch, events packed.Events) *call {
	watch, began := p.watchWait(ctx, b), time.Now()
	c := p.call(ctx, b, events)
	if c != nil {
		p.learnWait(watch, c, events.Len(), time.Since(began))
	}
	return c
}

// learnWait takes in whether a batch waited for another one, or how long its first event and the whole batch took. The batch was offered so many events.
func (p *processor) learnWait(watch *waitWatch, c *call, offered int, took time.Duration) {
	waits, known := watch.end()
	t := &p.turns
	switch {
	case waits:
		t.blocked++
	case known:
		t.slow, t.blocked = -slowSkipped, 0
	case t.slow < 0:
		t.slow++
	case t.taken || !p.eventByEvent() || offered == 1 || !c.firstStandsOut(took):
		t.slow, t.blocked = 0, 0
	default:
		t.slow++
	}
}

// firstStandsOut says whether the first event seems to have waited for something: it took at least half of the batch's time, and several times as long as
// another event.
func (c *call) firstStandsOut(took time.Duration) bool {
	if c.first < max(slowFirst, took/2) {
		return false
	}
	return c.handled == 1 || c.first >= slowTimes*(took-c.first)/time.Duration(c.handled-1)
}

// noteWaits makes the projection's partitions take turns if several batches in a row waited for others of the projection. Turns cost little then, since
// the batches run one after the other anyway. The server can remove old versions of the row, which it must keep while a statement waits. noteWaits is called
// between two batches, when this one holds no rows.
func (p *processor) noteWaits(ctx context.Context) {
	t := &p.turns
	if t.blocked < blockedBatches {
		return
	}
	t.slow, t.blocked = 0, 0
	if p.worker.withoutTurns() {
		return
	}
	took, err := p.worker.Store.NoteConflicts(ctx, p.worker.db, p.fence.Projection, 1)
	if err != nil {
		t.slow = -slowSkipped
		if ctx.Err() == nil {
			p.log.Warn("a conflict could not be noted, so the partitions do not take turns", "note_error", err)
		}
		return
	}
	p.worker.Metrics.Conflict(p.fence.Projection)
	t.taken = true
	if took > 0 {
		p.log.Warn("batches wait for each other's rows, so the projection's partitions take turns; more workers help little while its events change the same row",
			"for", took)
	}
}
