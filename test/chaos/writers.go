package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// writing is what the ordinary writers do.
var writing = workload.WriterOptions{Writers: 4, Aggregates: 60, MaxHold: 80 * time.Millisecond, MaxPause: 60 * time.Millisecond, RollbackShare: 0.1}

// troublemakers are writers of the rarer sort: some draw numbers and do not use them, one prepares transactions and leaves them.
type troublemakers struct {
	pool  *pgxpool.Pool
	store *eventstore.Store
	stop  context.CancelFunc
	group sync.WaitGroup
	// prepared is how many transactions were; only the goroutine that prepares them looks at it.
	prepared int
}

// startTroublemakers starts those that the options name.
func startTroublemakers(ctx context.Context, pool *pgxpool.Pool, store *eventstore.Store, o options) *troublemakers {
	ctx, stop := context.WithCancel(ctx)
	t := &troublemakers{pool: pool, store: store, stop: stop}
	rng := rand.New(rand.NewPCG(o.Seed, 2))
	if has(o.Faults, faultHoles) {
		pauses := rand.New(rand.NewPCG(o.Seed, 3))
		t.group.Go(func() { t.repeat(ctx, pauses, 20*time.Millisecond, 300*time.Millisecond, t.hole) })
	}
	if has(o.Faults, faultPrepared) {
		t.group.Go(func() {
			t.repeat(ctx, rng, time.Second, 6*time.Second, func(ctx context.Context) error { return t.prepare(ctx, rng) })
		})
	}
	return t
}

// repeat does something again and again, with pauses between. Errors are the database's, which is restarted under it.
func (t *troublemakers) repeat(ctx context.Context, rng *rand.Rand, least, most time.Duration, do func(context.Context) error) {
	for rest(ctx, between(rng, least, most)) {
		_ = do(ctx)
	}
}

// hole draws numbers from the sequence of positions.
func (t *troublemakers) hole(ctx context.Context) error {
	_, err := t.pool.Exec(ctx, "SELECT nextval(pg_get_serial_sequence('events', 'global_position')) FROM generate_series(1, 3)")
	return err
}

// prepare appends an event in a transaction that is prepared, left alone for a while, and ended one way or the other. As long as
// it is there, no event with a higher number may be handled.
func (t *troublemakers) prepare(ctx context.Context, rng *rand.Rand) error {
	ending, left := "COMMIT", between(rng, 100*time.Millisecond, 3*time.Second)
	if rng.IntN(2) == 0 {
		ending = "ROLLBACK"
	}
	// The end of the run does not interrupt it: a pooler may pass on what was sent before, after finish has looked for it.
	preparing, done := context.WithTimeout(context.WithoutCancel(ctx), preparePatience)
	err := t.pool.AcquireFunc(preparing, func(conn *pgxpool.Conn) error { return t.prepareOn(preparing, conn) })
	done()
	rest(ctx, left) // also after an error: the transaction may be there, and the answer lost
	// The server may be away. Left for much longer, the transaction would hold up everything and hide what else happens.
	for endErr := t.end(ctx, ending); endErr != nil && rest(ctx, 50*time.Millisecond); {
		endErr = t.end(ctx, ending)
	}
	return err
}

// preparePatience bounds how long a transaction is being prepared.
const preparePatience = 15 * time.Second

// prepareOn prepares a transaction with an event.
func (t *troublemakers) prepareOn(ctx context.Context, conn *pgxpool.Conn) error {
	t.prepared++
	name := fmt.Sprintf("chaos-%d", t.prepared)
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // of one that was not prepared
	event := es.Event{
		BoundedContext: workload.BoundedContext, AggregateType: "account", AggregateID: name, EventType: "Prepared", Payload: []byte("{}"),
	}
	if _, err := t.store.Append(ctx, tx, es.NoStream(), []es.Event{event}); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "PREPARE TRANSACTION '"+name+"'")
	return err
}

// end ends all prepared transactions.
func (t *troublemakers) end(ctx context.Context, ending string) error {
	rows, err := t.pool.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared")
	if err != nil {
		return fmt.Errorf("listing the prepared transactions: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("listing the prepared transactions: %w", err)
	}
	for _, name := range names {
		if _, err := t.pool.Exec(ctx, ending+" PREPARED '"+name+"'"); err != nil {
			return fmt.Errorf("ending the prepared transaction %s: %w", name, err)
		}
	}
	return nil
}

// finish ends the troublemakers and what they have left.
func (t *troublemakers) finish(ctx context.Context) error {
	t.stop()
	t.group.Wait()
	return t.end(ctx, "COMMIT")
}

// rest waits for d; false if ctx ends before.
func rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
