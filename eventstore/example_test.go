package eventstore_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Events are appended in the caller's transaction. The expected version finds out whether somebody else was faster.
func ExampleStore_Append() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx := context.Background()
	store := eventstore.New(eventstore.WithLogger(nil))
	if err := eventstore.RunMigrations(db, eventstore.WithLogger(nil)); err != nil { // only where there are no pupsourcing tables
		panic(err)
	}

	place := func(expected es.ExpectedVersion) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			result, err := store.Append(ctx, tx, expected, []es.Event{{
				BoundedContext: "Sales", AggregateType: "Order", AggregateID: "7c1a",
				EventType: "OrderPlaced", Payload: []byte(`{"total": 12}`),
			}})
			if err == nil {
				fmt.Println("the order is at version", result.ToVersion())
			}
			return err
		})
	}
	if err := place(es.NoStream()); err != nil {
		panic(err)
	}
	err := place(es.NoStream())
	fmt.Println("somebody was faster:", errors.Is(err, eventstore.ErrOptimisticConcurrency))
	if err := place(es.Exact(1)); err != nil {
		panic(err)
	}
	// Output:
	// the order is at version 1
	// somebody was faster: true
	// the order is at version 2
}
