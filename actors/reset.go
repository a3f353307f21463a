package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// reset empties the projection's read model and sets its checkpoints back, those of other workers too, in one transaction that holds all of them. The others'
// batches are refused by the fence from then on, and read the checkpoints again.
func (p *processor) reset(ctx context.Context, r replicaset.Request) (next, error) {
	release, err := p.acquire(ctx)
	if err != nil {
		return next{}, err
	}
	b, err := p.beginReset(ctx, r)
	if errors.Is(err, pgcoord.ErrMoved) { // and until a generation repairs what somebody has changed, it would be so again at once
		p.requests.again = time.Now().Add(recordPause)
	}
	if errors.Is(err, pgcoord.ErrLocked) && p.run.soft.Err() == nil {
		release()
		return p.resetWaits(r), nil
	}
	if err != nil {
		release()
		return p.notBegun(err)
	}
	p.requests.lockWait = 0
	done := sync.OnceFunc(func() {
		b.Rollback(ctx) // does nothing if it has ended
		release()
	})
	defer done()
	began := time.Now()
	stand := packed.Pack([]es.PersistedEvent{{EventType: "(reset)", GlobalPosition: r.Target}}) // for what is logged of the call
	call := p.callAs(ctx, b, stand, handling.Emptying(p.handler), p.delivery(), 0, p.worker.Batch.Time)
	if call == nil {
		return next{}, nil // abandoned; it is stopping
	}
	if call.err != nil || call.handled == 0 {
		if ctx.Err() != nil {
			p.log.Warn("emptying the read model was interrupted, since the worker stops or a generation changes; it begins again",
				"operation", r.Operation, "took", time.Since(began))
		}
		return p.requestRolledBack(ctx, b, done, r, stand, call, began)
	}
	b.SetBack(r)
	if err := p.commitRequest(ctx, b); err != nil {
		if ctx.Err() != nil {
			return next{}, err
		}
		lost := !b.Alive()
		done()
		return p.requestFailed(ctx, r, stand, handling.Failure{Err: err, AtCommit: true, Lost: lost, Took: time.Since(began)})
	}
	p.log.Info("the read model was emptied, and the projection begins again", "position", r.Target, "operation", r.Operation, "took", time.Since(began))
	p.known, p.requests.failures, p.requests.unserved = false, handling.State{}, 0
	p.worker.Store.AnnounceChange(ctx, p.worker.db.InTransactions())
	return next{more: true}, nil
}

const (
	// longestResetWait bounds how long a reset waits for each partition's batch.
	longestResetWait = time.Minute
	// longestResetStart bounds how long it waits for all of them. After that, its connection counts as dead.
	longestResetStart = 3 * longestResetWait
)

// beginReset waits for all batches of the projection, unless it is to stop.
func (p *processor) beginReset(ctx context.Context, r replicaset.Request) (*pgcoord.Batch, error) {
	settings := p.worker.Batch.Settings
	settings.IdleTimeout = p.idleTimeout()
	ctx, forget := p.untilStopping(ctx)
	defer forget()
	patience := p.worker.db.Patience()
	settings.LockWait = cmp.Or(p.requests.lockWait, patience*3/4)
	waits := time.Duration(p.fence.Partition.Total) * settings.LockWait
	ctx, explain, end := p.worker.db.LimitTo(ctx, patience+min(waits, longestResetStart))
	defer end()
	b, err := p.worker.Store.BeginReset(ctx, p.worker.db, p.fence, r, settings)
	return b, explain(err)
}

// resetWaits decides what follows a reset that has waited in vain for a batch. It lets the other partitions handle events again, and waits longer
// the next time.
func (p *processor) resetWaits(r replicaset.Request) next {
	p.requests.lockWait = min(2*cmp.Or(p.requests.lockWait, p.worker.db.Patience()*3/4), longestResetWait)
	if p.worker.notices.due("reset "+p.fence.Projection, personInterval) {
		p.log.Warn("a reset waits for a batch that takes long; it tries again", "operation", r.Operation, "next_wait", p.requests.lockWait)
	}
	p.requests.again = time.Now().Add(recordPause)
	return next{more: true}
}

// failReset ends a request whose read model could not be emptied. Nothing has changed.
func (p *processor) failReset(ctx context.Context, r replicaset.Request, d handling.Decision) (next, error) {
	text := handling.Abridged(fmt.Sprint(d.Err))
	p.log.Warn("the read model could not be emptied; the projection goes on as before", "operation", r.Operation, "error", text)
	return p.answer(ctx, r, func(b *pgcoord.Batch) { b.ResetFailed(r, text) })
}
