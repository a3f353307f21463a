package admin_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Invoices fails on what it cannot read, and puts the aggregate of such an event aside.
type Invoices struct{}

func (Invoices) Name() string { return "invoices" }

func (Invoices) ErrorPolicy() projection.ErrorPolicy {
	return projection.ErrorPolicy{Attempts: 1, Then: projection.Park}
}

func (Invoices) Handle(_ context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	if len(event.Payload) == 0 {
		return errors.New("the invoice is empty")
	}
	return nil
}

// handled runs a worker until it has handled two invoices, the second of them empty.
func handled(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store) {
	must(eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	must(orchestrator.RunMigrations(db))
	for id, payload := range []string{"12 EUR", ""} {
		must(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := store.Append(ctx, tx, es.NoStream(), []es.Event{{
				BoundedContext: "Sales", AggregateType: "Invoice", AggregateID: fmt.Sprint(id + 1), EventType: "InvoiceSent", Payload: []byte(payload),
			}})
			return err
		}))
	}
	orch, err := orchestrator.New(db, store, "main-projections", orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	must(err)
	_, err = orch.RunUntilCaughtUp(ctx, []projection.Projection{Invoices{}})
	must(err)
}

// A snapshot is everything about a replica set at one moment.
func ExampleAdmin_Snapshot() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, store := context.Background(), eventstore.New(eventstore.WithLogger(nil))
	handled(ctx, db, store)

	a, err := admin.New(db, store, "main-projections")
	must(err)
	snapshot, err := a.Snapshot(ctx)
	must(err)
	for _, p := range snapshot.Projections {
		fmt.Printf("%s: position %d, lag %d, parked aggregates %d\n", p.Name, p.Position, p.Lag, p.Parked.Aggregates)
	}
	// Output: invoices: position 2, lag 0, parked aggregates 1
}

// What could not be handled is listed with its error. Each letter belongs to a parked aggregate, a stopped projection, or an event that was skipped.
func ExampleAdmin_DeadLetters() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, store := context.Background(), eventstore.New(eventstore.WithLogger(nil))
	handled(ctx, db, store)

	a, err := admin.New(db, store, "main-projections", admin.WithActor("anna"))
	must(err)
	for letter, err := range a.DeadLetters(ctx, admin.Filter{Projection: "invoices"}) {
		must(err)
		fmt.Printf("%s at position %d is %s: %s\n", letter.EventType, letter.Position, letter.State, letter.Error)
	}
	result, err := a.Discard(ctx, admin.Filter{Projection: "invoices"}, "nobody needs it")
	must(err)
	fmt.Println("discarded:", result.Events)
	// Output:
	// InvoiceSent at position 2 is parked: the invoice is empty
	// discarded: 1
}

// A pause holds a projection back until it ends by itself or somebody resumes the projection.
func ExampleAdmin_Pause() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, store := context.Background(), eventstore.New(eventstore.WithLogger(nil))
	handled(ctx, db, store)

	a, err := admin.New(db, store, "main-projections", admin.WithActor("anna"))
	must(err)
	must(a.Pause(ctx, admin.Target{Projection: "invoices"}, "the printer is repaired", time.Now().Add(time.Hour)))
	snapshot, err := a.Snapshot(ctx)
	must(err)
	for _, hold := range snapshot.Holds {
		fmt.Printf("%s is paused by %s: %s\n", hold.Projection, hold.Actor, hold.Reason)
	}
	must(a.Resume(ctx, admin.Target{Projection: "invoices"}, "it prints again"))
	// Output: invoices is paused by anna: the printer is repaired
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
