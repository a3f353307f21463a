package orchestratortest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
)

// Printer prints invoices.
type Printer struct{}

func (Printer) Name() string { return "printer" }

func (Printer) Handle(_ context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	fmt.Println("printed", event.AggregateID)
	return nil
}

// A projection that fails on the second invoice, to see what its error policy does. In a test it is run by CatchUp, or by workers.
func ExampleFailing() {
	faulty := orchestratortest.Failing(Printer{}, func(event es.PersistedEvent) error {
		if event.AggregateID == "2" {
			return errors.New("out of paper")
		}
		return nil
	})
	for _, id := range []string{"1", "2"} {
		if err := faulty.Handle(context.Background(), nil, es.PersistedEvent{AggregateID: id}); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// printed 1
	// out of paper
}
