package actors

import (
	"context"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// Where all events of a projection change one row, no batch ends in a conflict: each waits in its first event until the one before it has committed. So
// the worker looks at batches whose first event takes long, and has the partitions take turns if one waits for another.

const (
	// slowFirst is how long the first event of a batch takes at least that may have waited for another batch's row.
	slowFirst = 10 * time.Millisecond
	// slowBatches in a row with such a first event have the next one looked at while it waits. If it waits for no batch of the projection,
	// slowSkipped batches are not looked at.
	slowBatches, slowSkipped = 3, 100
	// slowTimes is how many times as long as another event the first one takes at least.
	slowTimes = 4
	// waitedBatches in a row that waited for another have the partitions take turns.
	waitedBatches = 3
	// slowLook is how long a look may take.
	slowLook = 100 * time.Millisecond
)

// eventByEvent says whether the projection has several partitions whose batches are handled event by event: then a batch may hold a row for long that others
// wait for, and change it often.
func (p *processor) eventByEvent() bool { return !p.wholeBatches() && p.fence.Partition.Total > 1 }

// waitWatch looks once, while a batch's first event is handled, whether the batch waits for another of its projection. Nil looks at nothing.
type waitWatch struct {
	timer *time.Timer
	done  chan struct{} // closed when it has looked
	waits bool
}

// watchWait begins to look, if the batches before this one have been slow.
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
		w.waits = err == nil && waits // it is an aid
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

// learnWait notes how long the first event of a batch took, of all that the batch took, and whether it waited for another batch.
func (p *processor) learnWait(watch *waitWatch, c *call, offered int, took time.Duration) {
	waits, known := watch.end()
	t := &p.turns
	switch {
	case waits:
		t.waited++
	case known:
		t.slow, t.waited = -slowSkipped, 0
	case t.slow < 0:
		t.slow++
	case t.taken || !p.eventByEvent() || offered == 1 || !c.firstStandsOut(took):
		t.slow, t.waited = 0, 0
	default:
		t.slow++
	}
}

// firstStandsOut says whether the first event took as long as if it had waited for something: half of the batch's time at least, and several times as long as
// another event.
func (c *call) firstStandsOut(took time.Duration) bool {
	if c.first < max(slowFirst, took/2) {
		return false
	}
	return c.handled == 1 || c.first >= slowTimes*(took-c.first)/time.Duration(c.handled-1)
}

// noteWaits has the projection's partitions take turns, if several batches in a row have waited for others of the projection. Turns cost little then,
// since the batches come one after the other anyway, and spare the server the old versions of a row that it must keep while anybody waits. It is called between two
// batches, when no rows are held.
func (p *processor) noteWaits(ctx context.Context) {
	t := &p.turns
	if t.waited < waitedBatches {
		return
	}
	t.slow, t.waited = 0, 0
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
		p.log.Warn("batches wait for each other's rows: the partitions of the projection take turns; more workers bring little while its events change the same row",
			"for", took)
	}
}
