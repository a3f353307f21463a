package projection_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Totals adds up orders. It gets many events in one call, and events of orders only.
type Totals struct {
	projection.BatchOnly
	done context.CancelFunc
}

func (Totals) Name() string { return "totals" }

// AggregateTypes makes it a scoped projection: the database filters.
func (Totals) AggregateTypes() []string { return []string{"Order"} }

// HandleBatch writes many events with one statement.
func (t Totals) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	_, err := tx.Exec(ctx, "UPDATE totals SET orders = orders + $1", len(events))
	fmt.Printf("%d orders, the first at position %d\n", len(events), events[0].GlobalPosition)
	t.done()
	return err
}

// The manual runner handles one partition of one projection, without coordination.
func ExamplePostgresProcessor() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := eventstore.New(eventstore.WithLogger(nil))
	must(eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	_, err := db.Exec(ctx, "CREATE TABLE totals (orders bigint NOT NULL); INSERT INTO totals VALUES (0)")
	must(err)
	for _, kind := range []string{"User", "Order", "Order"} {
		must(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := store.Append(ctx, tx, es.NoStream(), []es.Event{{
				BoundedContext: "Shop", AggregateType: kind, AggregateID: uuid.NewString(), EventType: kind + "Created",
			}})
			return err
		}))
	}

	processor := projection.NewPostgresProcessor(projection.ProcessorConfig{
		DB: db, EventStore: store, Projection: Totals{done: cancel}, BatchSize: 100, PartitionKey: 0, TotalPartitions: 1,
	})
	if err := processor.Run(ctx); err != nil { // returns when ctx ends, or a handler fails
		fmt.Println(err)
	}
	// Output: 2 orders, the first at position 2
}

// Mails sends a mail for each user that has registered. It passes on the event's id, by which the other system recognises a repeated call,
// and the fencing token, by which it refuses a worker that has been replaced.
type Mails struct {
	send func(to string, idempotencyKey uuid.UUID, fencingToken int64) error
}

func (Mails) Name() string { return "mails" }

func (m Mails) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	delivery, ok := projection.DeliveryFrom(ctx)
	if !ok {
		return errors.New("the context is not a worker's")
	}
	return m.send(string(event.Payload), event.EventID, delivery.Generation)
}

func ExampleDeliveryFrom() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := eventstore.New(eventstore.WithLogger(nil))
	must(eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	must(orchestrator.RunMigrations(db))
	must(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := store.Append(ctx, tx, es.NoStream(), []es.Event{{
			BoundedContext: "Shop", AggregateType: "User", AggregateID: "ada", EventType: "UserRegistered", Payload: []byte("ada@example.org"),
		}})
		return err
	}))

	orch, err := orchestrator.New(db, store, "mails", orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	must(err)
	must(orch.Run(ctx, []projection.Projection{Mails{send: func(to string, _ uuid.UUID, fencingToken int64) error {
		fmt.Println("mail to", to, "with token", fencingToken)
		cancel()
		return nil
	}}}))
	// Output: mail to ada@example.org with token 1
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// MailsV2 is to take over from Mails. While it is built it handles all events that Mails has sent mails for, so it sends none then.
type MailsV2 struct {
	sent func(to string, replay bool)
}

func (MailsV2) Name() string { return "mails-2" }

func (MailsV2) Replaces() string { return "mails" }

func (m MailsV2) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	delivery, _ := projection.DeliveryFrom(ctx)
	m.sent(string(event.Payload), delivery.Replay)
	return nil
}

func ExampleSuccessor() {
	db, end := pgtest.ForExample() // a *pgxpool.Pool
	defer end()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := eventstore.New(eventstore.WithLogger(nil))
	must(eventstore.RunMigrations(db, eventstore.WithLogger(nil)))
	must(orchestrator.RunMigrations(db))
	register := func(id string) {
		must(pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := store.Append(ctx, tx, es.NoStream(), []es.Event{{
				BoundedContext: "Shop", AggregateType: "User", AggregateID: id, EventType: "UserRegistered", Payload: []byte(id + "@example.org"),
			}})
			return err
		}))
	}
	register("ada")

	handled := make(chan string, 10)
	old := Mails{send: func(string, uuid.UUID, int64) error { return nil }}
	next := MailsV2{sent: func(to string, replay bool) { handled <- fmt.Sprintf("%s, replay: %v", to, replay) }}
	orch, err := orchestrator.New(db, store, "mails", orchestrator.WithLogger(slog.New(slog.DiscardHandler)))
	must(err)
	ended := make(chan error, 1)
	go func() { ended <- orch.Run(ctx, []projection.Projection{old, next}) }()
	fmt.Println(<-handled)

	operator, err := admin.New(db, store, "mails")
	must(err)
	_, err = operator.CutOver(ctx, "mails", "mails-2", "mails in HTML")
	must(err)
	register("grace")
	fmt.Println(<-handled)
	cancel()
	must(<-ended)
	// Output:
	// ada@example.org, replay: true
	// grace@example.org, replay: false
}
