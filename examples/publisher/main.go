// Command publisher publishes integration events to a broker, all in the order of the stream. The projection is unpartitioned, so one worker of the replica set
// runs it, and when that stops another goes on.
package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
)

func main() { setup.Main("example_publisher", "", run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store, broker := eventstore.New(), &Broker{published: make(chan Message, 10)}
	first, err := startWorker(ctx, db, store, "worker-1", broker)
	if err != nil {
		return err
	}
	if err := placeOrders(ctx, db, store, 1); err != nil {
		return err
	}
	if err := broker.show(ctx, 3); err != nil {
		return err
	}
	// Publishing comes before the commit: without this, the second worker might publish the last messages again.
	waits, err := orchestrator.New(db, store, "example", orchestrator.WithLogger(setup.Logger()))
	if err != nil {
		return err
	}
	if err := waits.WaitFor(ctx, "publisher", 4); err != nil {
		return err
	}
	second, err := startWorker(ctx, db, store, "worker-2", broker)
	if err != nil {
		return err
	}
	if err := first.Stop(); err != nil {
		return err
	}
	if err := placeOrders(ctx, db, store, 2); err != nil {
		return err
	}
	if err := broker.show(ctx, 3); err != nil {
		return err
	}
	return second.Stop()
}

func startWorker(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, name string, broker *Broker) (*setup.Worker, error) {
	orch, err := orchestrator.New(db, store, "example", orchestrator.WithLogger(setup.Logger()), orchestrator.WithWorkerName(name))
	if err != nil {
		return nil, err
	}
	return setup.Start(ctx, orch, &Publisher{broker: broker, worker: name})
}

// placeOrders appends events of several aggregates.
func placeOrders(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, day int) error {
	order, customer := fmt.Sprintf("order-%d", day), fmt.Sprintf("customer-%d", day)
	_, err := setup.Append(
		ctx, db, store,
		setup.Event("Customer", customer, "CustomerMoved", "Berlin"),
		setup.Event("Order", order, "OrderPlaced", "12"),
		setup.Event("Order", order, "CartEmptied", ""), // is nobody else's business
		setup.Event("Order", order, "OrderPaid", "12"),
	)
	return err
}

// Publisher publishes what other systems may know.
type Publisher struct {
	broker *Broker
	worker string
}

// Name is the name of the projection.
func (*Publisher) Name() string { return "publisher" }

// Unpartitioned says that one worker handles all aggregates, in the order of the stream.
func (*Publisher) Unpartitioned() bool { return true }

// Handle publishes an event in a form that is a contract with others, and independent of how the event is stored. After a crash the last ones may be published again, with the
// same id.
func (p *Publisher) Handle(ctx context.Context, _ pgx.Tx, event es.PersistedEvent) error {
	topics := map[string]string{"CustomerMoved": "shop.customer-moved.v1", "OrderPlaced": "shop.order-placed.v1", "OrderPaid": "shop.order-paid.v1"}
	topic, public := topics[event.EventType]
	if !public {
		return nil
	}
	return p.broker.Publish(ctx, Message{ID: event.EventID.String(), Topic: topic, Key: event.AggregateID, Body: string(event.Payload), publishedBy: p.worker})
}

// Message is an integration event. Consumers leave out an ID that they have seen.
type Message struct{ ID, Topic, Key, Body, publishedBy string }

// Broker stands for Kafka, NATS or the like.
type Broker struct{ published chan Message }

// Publish returns when the broker has the message. Nothing is lost if it waits for that: the checkpoint moves afterwards.
func (b *Broker) Publish(ctx context.Context, m Message) error {
	select {
	case b.published <- m:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// show prints the next n messages.
func (b *Broker) show(ctx context.Context, n int) error {
	for range n {
		select {
		case m := <-b.published:
			fmt.Printf("%s published %s %s %q\n", m.publishedBy, m.Topic, m.Key, m.Body)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
