package projection

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/batchtx"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/tracing"
)

// This file handles a page of events in the manual runner. It divides the page into batches, runs each batch's handlers
// in a transaction, and commits the checkpoint with it.

const (
	// endTimeout is how long COMMIT or ROLLBACK may take, even after the processor's context has ended.
	endTimeout = 10 * time.Second

	// idleTimeout is how long a handler may leave its transaction idle, at first. It takes the place of the role's own
	// idle_in_transaction_session_timeout.
	idleTimeout = 10 * time.Minute

	// storeAfter is how many positions without a wanted event are passed before
	// the checkpoint is advanced for their sake alone.
	storeAfter = 10_000
)

// errCheckpointMoved says that the checkpoint's rows are not where the processor
// believed: nothing was handled.
var errCheckpointMoved = errors.New("another processor has moved the checkpoint")

// portion is the events of a batch: those to be handled, and those of parked aggregates, which are put aside.
type portion struct {
	handle, aside []es.PersistedEvent
	upTo          int64 // the position that the batch reaches
}

// portion divides the events.
func (r *runner) portion(events []es.PersistedEvent, upTo int64) portion {
	if len(r.parked) == 0 {
		return portion{handle: events, upTo: upTo}
	}
	q := portion{upTo: upTo}
	for _, e := range events {
		if _, is := r.parked[aggregateOf(e)]; is {
			q.aside = append(q.aside, e)
		} else {
			q.handle = append(q.handle, e)
		}
	}
	return q
}

// before is how many of the events are before a position.
func before(events []es.PersistedEvent, position int64) int {
	return sort.Search(len(events), func(i int) bool { return events[i].GlobalPosition >= position })
}

// handle handles a page's events and records that the stream was read up to the page's end. After a crash of the server
// it drops the page, since positions that the page passed may be allocated again.
func (r *runner) handle(ctx context.Context, page eventread.Page) error {
	if len(page.Events) > 0 { // before the horizon's age is looked at, since this may take long
		giveBack, err := r.places.Acquire(ctx, r.name, func(time.Duration, []string) {})
		if err != nil {
			return err
		}
		defer giveBack()
	}
	if time.Since(r.probed) > horizonAge {
		epoch := r.epoch
		if err := r.advance(ctx); err != nil || r.epoch != epoch {
			return err
		}
	}
	events, upTo := page.Events, page.UpTo
	if n := r.mayHandle(events); n < len(events) {
		if n == 0 {
			return r.perform(ctx)
		}
		events, upTo = events[:n], events[n-1].GlobalPosition
	}
	if len(events) > 0 || upTo >= r.stored()+storeAfter {
		if err := r.handleParts(ctx, events, upTo); err != nil {
			return err
		}
	}
	r.scanned = upTo
	return nil
}

// mayHandle is how many of the events come before one with an outcome that is still to be performed: because it failed, or because its aggregate is
// parked and has as many letters as it may.
func (r *runner) mayHandle(events []es.PersistedEvent) int {
	n := len(events)
	if r.pending() {
		n = before(events, r.failing.event.GlobalPosition)
	}
	if len(r.parked) == 0 {
		return n
	}
	aside := handling.Aside(r.parked, r.policy.MaxParkedEvents, n, func(i int) aggregate { return aggregateOf(events[i]) })
	if len(aside) == 0 && n > 0 {
		r.stopFull(events[0])
	}
	return len(aside)
}

// handleParts handles the events in one transaction. If one fails, those before
// it are handled again in a transaction that is committed, and then the failure has its outcome. To
// find the one that made HandleBatch or COMMIT fail, the events are divided.
func (r *runner) handleParts(ctx context.Context, events []es.PersistedEvent, upTo int64) error {
	for size, failed := len(events), false; ; {
		part, to := events[:size], upTo
		if size < len(events) {
			to = part[size-1].GlobalPosition
		}
		q := r.portion(part, to)
		d, err := r.handleBatch(ctx, q)
		if err != nil {
			return err
		}
		switch d.Verdict {
		case handling.Conflict, handling.Idle, handling.Database:
			r.size = max(1, len(part)/2)
			if d.Size > 0 {
				r.size = max(1, before(part, q.handle[d.Size].GlobalPosition))
			}
			if d.Delay > 0 {
				r.retryAt = time.Now().Add(d.Delay)
			}
			return repeated(part, d)
		case handling.Smaller:
			size = max(1, before(part, q.handle[d.Size].GlobalPosition))
			if d.Delay > 0 {
				r.size, r.retryAt = size, time.Now().Add(d.Delay)
				return errAgain
			}
			continue
		case handling.EventFailed:
			r.eventFailed(ctx, q.handle[d.Event], d)
			if size = before(part, r.failing.event.GlobalPosition); size == 0 {
				return r.perform(ctx)
			}
			events, failed, upTo = part[:size], true, part[size-1].GlobalPosition
			size = min(size, max(1, d.Size))
			continue
		}
		r.size = min(2*r.size, r.config.BatchSize)
		switch {
		case size < len(events):
			events = events[size:]
			size = min(size, len(events))
		case failed:
			return r.perform(ctx)
		default:
			return nil
		}
	}
}

// handleBatch handles the events and advances the checkpoint to upTo, in one
// transaction. The decision is the zero value if that was committed. The error is of what came before the handlers, or of ctx.
func (r *runner) handleBatch(ctx context.Context, q portion) (d handling.Decision, err error) {
	b, err := r.begin(ctx, q.upTo)
	if err != nil {
		return d, err
	}
	defer b.release()
	began, committed := time.Now(), 0
	within, span := r.startSpan(ctx, q.handle)
	defer func() { span.End(committed, errors.Join(err, d.Err)) }()
	handled, err := r.call(within, b.conn, b.tx, q.handle)
	switch {
	case errors.Is(err, ErrHandlerRunning):
		b.conn = nil // the handler still has the connection
		return d, err
	case err != nil:
		d, err = r.rolledBack(ctx, b.tx, q.handle, handled, time.Since(began), err)
		b.err = errors.Join(err, d.Err)
		return d, err
	}
	err = r.commit(ctx, b, q.upTo, r.recordsOf(q))
	switch {
	case errors.Is(err, errCheckpointMoved):
		return d, err
	case err != nil:
		return r.decide(ctx, q.handle, handling.Failure{Err: err, AtCommit: true, Lost: b.lost, Took: time.Since(began)}), nil
	}
	committed = len(q.handle)
	for _, e := range q.aside {
		r.parked[aggregateOf(e)]++
	}
	return d, nil
}

// startSpan begins the span of a batch.
func (r *runner) startSpan(ctx context.Context, events []es.PersistedEvent) (context.Context, *tracing.Span) {
	if r.tracer == nil || len(events) == 0 {
		return ctx, nil
	}
	table := r.config.EventStore.EventsTable()
	return r.tracer.Start(ctx, tracing.Batch{EventsTable: table[len(table)-1], Projection: r.name, Partition: r.partition.String()}, handling.List(events))
}

// recordsOf is what a batch records of its events.
func (r *runner) recordsOf(q portion) (statements []batchtx.Statement) {
	if len(q.aside) > 0 {
		statements = append(statements, r.letters.putAside(q.aside))
	}
	var positions []int64
	for _, e := range q.handle {
		if e.GlobalPosition > r.unsettled {
			break
		}
		positions = append(positions, e.GlobalPosition)
	}
	if len(positions) > 0 && r.letters != nil {
		statements = append(statements, r.letters.handled(positions))
	}
	return statements
}

// batch is a transaction that locks the checkpoint's rows.
type batch struct {
	conn *pgxpool.Conn // nil once a handler keeps it
	tx   *batchtx.Tx
	err  error // that the connection has met
	lost bool  // the connection had been lost when the commit failed
}

// release gives the connection back.
func (b *batch) release() {
	if b.conn != nil {
		dbguard.Release(b.conn, b.err)
	}
}

// begin begins a transaction that locks the checkpoint's rows below upTo.
func (r *runner) begin(ctx context.Context, upTo int64) (*batch, error) {
	begin, cancel := context.WithTimeout(ctx, roundTrip)
	defer cancel()
	conn, err := r.db.Acquire(begin)
	if err != nil {
		return nil, fmt.Errorf("acquiring a connection for a batch (the pool's limit is %d): %w", r.config.DB.Config().MaxConns, err)
	}
	b := &batch{conn: conn}
	locks := r.rows.locks(r.own, upTo)
	if r.letters != nil {
		locks = append(locks, r.letters.notStopped())
	}
	tx, found, err := batchtx.Begin(begin, conn.Conn(), batchtx.Settings{
		ApplicationName: r.application, IdleTimeout: r.idle, SynchronousCommit: true,
	}, locks...)
	switch {
	case err != nil:
		if begin.Err() != nil && ctx.Err() == nil {
			r.db.Suspect() // another processor has the rows, or the connection has died without a sign
		}
		err = fmt.Errorf("locking the checkpoint of %q, partition %v, at %d: %w", r.name, r.partition, r.stored(), err)
	case found != int64(len(locks)):
		batchtx.Rollback(ctx, conn.Conn())
		err = errCheckpointMoved
	default:
		b.tx = tx
		return b, nil
	}
	b.err = err
	b.release()
	return nil, err
}

// commit runs the statements, advances the rows that are locked to upTo where they are lower, and commits.
func (r *runner) commit(ctx context.Context, b *batch, upTo int64, statements []batchtx.Statement) error {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if err := explainLetters(b.tx.CommitWith(end, append(statements, r.rows.advances(r.own, upTo)...)...)); err != nil {
		batchtx.Rollback(ctx, b.conn.Conn())
		b.lost = b.conn.Conn().IsClosed()
		if batchtx.Spoils(err) {
			batchtx.Close(b.conn.Conn())
		}
		if end.Err() != nil {
			r.db.Suspect()
		}
		b.err = fmt.Errorf("committing a batch of %q, partition %v, up to position %d: %w", r.name, r.partition, upTo, err)
		return b.err
	}
	for i := range r.own {
		r.own[i].Position = max(r.own[i].Position, upTo)
	}
	r.failures = r.failures.Committed(upTo)
	return nil
}

// stored is the position of the lowest of the checkpoint's rows, as they are believed to be.
func (r *runner) stored() int64 { return slot.Lowest(manual.Slots(r.own)) }

// highest is the position of the highest row.
func highest(rows []manual.Piece) int64 {
	position := int64(0)
	for _, p := range rows {
		position = max(position, p.Position)
	}
	return position
}

// rollbackQuietly ends tx after an error that is being returned already; if it
// fails the connection is closed, and the server rolls back.
func rollbackQuietly(ctx context.Context, tx pgx.Tx) {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	_ = tx.Rollback(end)
}
