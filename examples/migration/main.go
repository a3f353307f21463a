// Command migration moves a projection from the manual runner to the orchestrator. Two processors of the manual runner handle the first events, each one partition. Then their checkpoints
// are imported, and workers go on: nothing is left out, and nothing is handled twice.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A plain INSERT fails if an event is handled twice.
const tables = `CREATE TABLE visits (event_id uuid PRIMARY KEY, page text NOT NULL, handled_by text NOT NULL)`

func main() { setup.Main("example_migration", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	if err := visit(ctx, db, store, 100); err != nil {
		return err
	}
	if err := manualRunner(ctx, db, store, 100); err != nil {
		return err
	}
	if err := visit(ctx, db, store, 50); err != nil { // appends go on
		return err
	}

	a, err := admin.New(db, store, "main-projections")
	if err != nil {
		return err
	}
	imported, err := a.ImportCheckpoints(ctx, "visits", "we move to the orchestrator")
	if err != nil {
		return err
	}
	for _, row := range imported.Rows {
		fmt.Printf("imported %s at position %d\n", row.Name, row.Position)
	}
	fmt.Println("events that may be handled again:", imported.MayRepeat)

	orch, err := orchestrator.New(db, store, "main-projections", orchestrator.WithLogger(setup.Logger()))
	if err != nil {
		return err
	}
	if _, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{Visits{by: "worker"}}); err != nil {
		return err
	}
	return setup.PrintLines(ctx, db, "SELECT handled_by || ': ' || count(*) || ' events' FROM visits GROUP BY handled_by ORDER BY 1")
}

// manualRunner runs two processors until they have handled so many events.
func manualRunner(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, events int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	for key := range 2 {
		processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
			DB: db, EventStore: store, Projection: Visits{by: "manual runner"}, PartitionKey: key, TotalPartitions: 2, Logger: setup.Logger(),
		})
		go func() { ended <- processor.Run(ctx) }()
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for handled := 0; handled < events; <-look.C {
		if err := db.QueryRow(ctx, "SELECT count(*) FROM visits").Scan(&handled); err != nil {
			return err
		}
	}
	cancel() // the people who start and stop processors stop them
	return errors.Join(<-ended, <-ended)
}

// visit appends so many events.
func visit(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, n int) error {
	events := make([]es.Event, n)
	for i := range events {
		events[i] = setup.Event("Page", fmt.Sprintf("page-%d", i%10), "PageVisited", "")
	}
	_, err := setup.Append(ctx, db, store, events...)
	return err
}

// Visits has a row for each visit. It is the same under the manual runner and under the orchestrator.
type Visits struct{ by string }

// Name is the name of the projection, which must stay.
func (Visits) Name() string { return "visits" }

// Handle writes a row.
func (v Visits) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "INSERT INTO visits VALUES ($1, $2, $3)", event.EventID, event.AggregateID, v.by)
	return err
}
