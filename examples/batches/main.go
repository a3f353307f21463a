// Command batches keeps two read models by whole batches: totals with one INSERT … SELECT unnest for many events, and a ledger with COPY.
package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

const tables = `
	CREATE TABLE totals (customer text PRIMARY KEY, orders bigint NOT NULL, total bigint NOT NULL);
	CREATE TABLE ledger (position bigint PRIMARY KEY, customer text NOT NULL, amount bigint NOT NULL)`

func main() { setup.Main("example_batches", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	events := make([]es.Event, 1000)
	for i := range events {
		events[i] = setup.Event("Customer", fmt.Sprintf("customer-%d", i%3+1), "OrderPlaced", strconv.Itoa(i%10+1))
	}
	if _, err := setup.Append(ctx, db, store, events...); err != nil {
		return err
	}
	// Batches begin with 16 events and grow up to this size while the handler is fast.
	orch, err := orchestrator.New(db, store, "example", orchestrator.WithLogger(setup.Logger()), orchestrator.WithBatchSize(500))
	if err != nil {
		return err
	}
	totals, ledger := &Totals{}, &Ledger{}
	if _, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{totals, ledger}); err != nil {
		return err
	}
	fmt.Printf("totals: 1000 events in %d statements\n", totals.statements)
	fmt.Printf("ledger: 1000 events in %d statements\n", ledger.statements)
	return setup.PrintLines(ctx, db, `SELECT customer || ': ' || orders || ' orders, ' || total || ' in all; the ledger has ' || sum(amount)
		FROM totals JOIN ledger USING (customer) GROUP BY customer ORDER BY customer`)
}

// Totals adds up the orders of each customer. A projection that embeds BatchOnly has no Handle.
type Totals struct {
	projection.BatchOnly
	statements int // one partition, so one goroutine counts
}

// Name is the name of the projection.
func (*Totals) Name() string { return "totals" }

// HandleBatch adds a batch up in memory, and writes each customer once. The customers are sorted: partitions that update rows in one order have no deadlocks.
func (t *Totals) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	type sum struct{ orders, total int64 }
	sums := map[string]sum{}
	for _, event := range events {
		amount, err := strconv.ParseInt(string(event.Payload), 10, 64)
		if err != nil {
			return projection.Permanent(err) // the library halves the batch until it has found the event
		}
		s := sums[event.AggregateID]
		sums[event.AggregateID] = sum{s.orders + 1, s.total + amount}
	}
	customers := slices.Sorted(maps.Keys(sums))
	var orders, totals []int64
	for _, customer := range customers {
		orders, totals = append(orders, sums[customer].orders), append(totals, sums[customer].total)
	}
	t.statements++
	_, err := tx.Exec(ctx, `INSERT INTO totals AS t (customer, orders, total)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
		ON CONFLICT (customer) DO UPDATE SET orders = t.orders + excluded.orders, total = t.total + excluded.total`, customers, orders, totals)
	return err
}

// Ledger has a row for each order.
type Ledger struct {
	projection.BatchOnly
	statements int
}

// Name is the name of the projection.
func (*Ledger) Name() string { return "ledger" }

// HandleBatch writes all rows by COPY, which is the fastest way into a table that is only added to. An event is never there twice: a batch that was rolled back has left nothing.
func (l *Ledger) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	l.statements++
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"ledger"}, []string{"position", "customer", "amount"}, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		amount, err := strconv.ParseInt(string(events[i].Payload), 10, 64)
		return []any{events[i].GlobalPosition, events[i].AggregateID, amount}, err
	}))
	return err
}
