package invoices

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func event(id, eventType, amount string) es.Event {
	return es.Event{BoundedContext: "Sales", AggregateType: "Invoice", AggregateID: id, EventType: eventType, Payload: []byte(amount)}
}

var history = []es.Event{
	event("1", "InvoiceSent", "100"), event("2", "InvoiceSent", "50"),
	event("1", "InvoicePaid", "60"), event("1", "InvoicePaid", "40"), event("2", "InvoicePaid", "20"),
}

// The handler alone, in a transaction that is rolled back.
func TestPaymentsAreSubtracted(t *testing.T) {
	ctx := context.Background()
	tx, err := testDatabase(t).Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	orchestratortest.Handle(t, tx, Invoices{}, history...)
	open, err := Open(ctx, tx)
	if want := map[string]int64{"1": 0, "2": 30}; err != nil || !maps.Equal(open, want) {
		t.Errorf("open: %v, not %v (%v)", open, want, err)
	}
}

// The read model depends on the events only: not on batches, partitions, crashes and repetitions.
func TestInvoicesKeepTheLaws(t *testing.T) {
	orchestratortest.CheckLaws(t, testDatabase(t), Invoices{}, history, func(tx pgx.Tx) (any, error) {
		return Open(context.Background(), tx)
	})
}

// As in production: a worker handles what was appended.
func TestWorkersHandleInvoices(t *testing.T) {
	db, store := testDatabase(t), eventstore.New()
	for _, e := range history {
		err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			_, err := store.Append(t.Context(), tx, es.Any(), []es.Event{e})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	report := orchestratortest.CatchUp(t, db, store, Invoices{})
	if handled := report.Projections[0].Events; handled != 5 {
		t.Errorf("%d events were handled, not 5", handled)
	}
}

// What the error policy does when one invoice fails.
func TestAFaultyInvoiceIsParked(t *testing.T) {
	db, store := testDatabase(t), eventstore.New()
	err := pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		_, err := store.Append(t.Context(), tx, es.NoStream(), history[:1])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	faulty := orchestratortest.Failing(Invoices{}, func(e es.PersistedEvent) error {
		return errors.New("the disk is full, say")
	})
	orch, err := orchestrator.New(db, store, "test", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Park}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{faulty}); err != nil {
		t.Fatal(err)
	}
	a, err := admin.New(db, store, "test")
	if err != nil {
		t.Fatal(err)
	}
	for letter, err := range a.DeadLetters(ctx, admin.Filter{Projection: "invoices"}) {
		if err != nil || letter.State != "parked" || letter.Aggregate.ID != "1" {
			t.Errorf("the letter is %+v (%v)", letter, err)
		}
		return
	}
	t.Error("nothing is parked")
}
