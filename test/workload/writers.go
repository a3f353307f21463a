package workload

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// WriterOptions says how events are written. Fields left zero get the value named.
type WriterOptions struct {
	// Writers is how many connections write at once. 4.
	Writers int
	// AggregateTypes are the types of the aggregates. account, order, shipment.
	AggregateTypes []string
	// Aggregates is how many aggregates there are of each type; writers share them. 200.
	Aggregates int
	// MaxAppends is the most appends in one transaction, each to another aggregate. 4.
	MaxAppends int
	// MaxEvents is the most events in one append. 3.
	MaxEvents int
	// MaxHold is how long a transaction stays open at most, spread over its appends. 60ms.
	MaxHold time.Duration
	// MaxPause is the longest pause of a writer between two transactions. 20ms.
	MaxPause time.Duration
	// RollbackShare is the share of transactions that are rolled back, from 0 to 1. 0.
	RollbackShare float64
	// Transactions is how many each writer tries before it ends. 0 means no end.
	Transactions int
}

func (o WriterOptions) withDefaults() WriterOptions {
	orElse(&o.Writers, 4)
	orElse(&o.Aggregates, 200)
	orElse(&o.MaxAppends, 4)
	orElse(&o.MaxEvents, 3)
	orElse(&o.MaxHold, 60*time.Millisecond)
	orElse(&o.MaxPause, 20*time.Millisecond)
	if len(o.AggregateTypes) == 0 {
		o.AggregateTypes = []string{"account", "order", "shipment"}
	}
	return o
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// WriterStats is what writers have done. It is for display: what was committed stands in the events table, also where the answer
// to a commit was lost.
type WriterStats struct {
	Committed  int64 // transactions
	RolledBack int64 // transactions, on purpose
	Failed     int64 // transactions, with an error
	Events     int64 // in committed transactions
	// Err is the last error, other than one that PgBouncer made by mistake.
	Err error
}

// Writers are connections that append events all the time. Errors do not stop them, so that the database may be restarted under
// them; they are counted.
type Writers struct {
	pool    *pgxpool.Pool
	store   *eventstore.Store
	options WriterOptions
	stop    chan struct{} // closed to end after the transactions in flight
	once    sync.Once
	group   sync.WaitGroup

	mu    sync.Mutex
	stats WriterStats
}

// StartWriters starts writing. The pool must have a connection for each writer. They end with ctx, or with [Writers.Stop], which
// must be called either way.
func StartWriters(ctx context.Context, pool *pgxpool.Pool, store *eventstore.Store, options WriterOptions) *Writers {
	w := &Writers{pool: pool, store: store, options: options.withDefaults(), stop: make(chan struct{})}
	for range w.options.Writers {
		w.group.Go(func() { w.write(ctx) })
	}
	return w
}

// Stop ends the writers and waits for the transactions in flight.
func (w *Writers) Stop() WriterStats {
	w.once.Do(func() { close(w.stop) })
	w.group.Wait()
	return w.Stats()
}

// Wait waits until every writer has tried its [WriterOptions.Transactions], or was stopped.
func (w *Writers) Wait() WriterStats {
	w.group.Wait()
	return w.Stats()
}

// Stats is what has been done so far.
func (w *Writers) Stats() WriterStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

// afterFailure is how long a writer waits after an error: the database may be away.
const afterFailure = 100 * time.Millisecond

// write writes until it is to end.
func (w *Writers) write(ctx context.Context) {
	for i := 0; w.options.Transactions == 0 || i < w.options.Transactions; i++ {
		t := newTransaction(w.options)
		err := t.run(ctx, w.pool, w.store)
		if ctx.Err() != nil {
			return
		}
		w.count(t, err)
		rest := t.rest
		if err != nil && !errors.Is(err, errRolledBack) {
			rest = afterFailure
		}
		select {
		case <-w.stop:
			return
		case <-ctx.Done():
			return
		case <-time.After(rest):
		}
	}
}

// count adds a transaction's outcome.
func (w *Writers) count(t transaction, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case errors.Is(err, errRolledBack):
		w.stats.RolledBack++
	case mistakenForCancel(err):
		w.stats.Failed++
	case err != nil:
		w.stats.Failed++
		w.stats.Err = fmt.Errorf("writing events: %w", err)
	default:
		w.stats.Committed++
		w.stats.Events += int64(t.events())
	}
}

// mistakenForCancel says whether PgBouncer 1.18 ended the connection by mistake. Where a client that cancels goes away at the wrong moment,
// PgBouncer gives its place to another and then ends that one (pgbouncer/pgbouncer#801).
func mistakenForCancel(err error) bool {
	var answer *pgconn.PgError
	return errors.As(err, &answer) && answer.Code == "08P01" && answer.Message == "successfully sent cancel request"
}
