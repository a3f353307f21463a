// Command basic is a small worker: one replica set with one projection, which
// keeps a read model of users. It appends a few events, handles them, prints
// the read model and ends. Start it several times at once against the same
// DATABASE_URL to see the work shared.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv("DATABASE_URL"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "basic:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return errors.New("set DATABASE_URL to a PostgreSQL database, for example postgres://localhost/example")
	}
	db, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := createTables(ctx, db); err != nil {
		return err
	}
	eventStore := eventstore.New()
	id, err := registerUser(ctx, db, eventStore)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	orch, err := orchestrator.New(db, eventStore, "basic-example", orchestrator.WithLogger(logger))
	if err != nil {
		return err
	}

	// Run returns when its context ends: usually at a signal, here also when the
	// user from above has reached the read model.
	ctx, cancel := context.WithCancel(ctx)
	printed := make(chan error, 1)
	go func() {
		defer cancel()
		printed <- printUser(ctx, db, id)
	}()
	err = orch.Run(ctx, []projection.Projection{userProjection{}})
	cancel()
	if err := errors.Join(err, <-printed); err != nil {
		return err
	}
	fmt.Println("stopped")
	return nil
}

// createTables makes the tables of the event store, the orchestrator and the
// read model. An application does this when it is deployed.
func createTables(ctx context.Context, db *pgxpool.Pool) error {
	if err := eventstore.RunMigrations(db); err != nil { // only where no pupsourcing tables exist yet
		return err
	}
	if err := orchestrator.RunMigrations(db); err != nil {
		return err
	}
	_, err := db.Exec(ctx, `
		SELECT pg_advisory_xact_lock(20260101); -- several processes may do this at once
		CREATE TABLE IF NOT EXISTS example_users (id text PRIMARY KEY, name text NOT NULL, renamed int NOT NULL DEFAULT 0)`)
	return err
}

// registerUser appends the events of a new user and returns the user's id.
func registerUser(ctx context.Context, db *pgxpool.Pool, eventStore *eventstore.Store) (string, error) {
	id := uuid.NewString()
	event := func(eventType, name string) es.Event {
		return es.Event{
			BoundedContext: "Identity", AggregateType: "User", AggregateID: id,
			EventType: eventType, Payload: []byte(name),
		}
	}
	events := []es.Event{event("UserRegistered", "Ada Byron"), event("UserRenamed", "Ada Lovelace")}
	return id, pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := eventStore.Append(ctx, tx, es.NoStream(), events)
		return err
	})
}

// userProjection keeps the table example_users.
type userProjection struct{}

// Name is the name under which the projection's checkpoints are kept.
func (userProjection) Name() string { return "example_users" }

// AggregateTypes limits the projection to users: other events are not even read.
func (userProjection) AggregateTypes() []string { return []string{"User"} }

// Handle applies one event. What it writes through tx is committed together
// with the checkpoint, exactly once, so a plain INSERT and a counter will do.
func (userProjection) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	fmt.Printf("handling %s at position %d\n", event.EventType, event.GlobalPosition)
	var err error
	switch event.EventType {
	case "UserRegistered":
		_, err = tx.Exec(ctx, "INSERT INTO example_users (id, name) VALUES ($1, $2)", event.AggregateID, string(event.Payload))
	case "UserRenamed":
		_, err = tx.Exec(ctx, "UPDATE example_users SET name = $2, renamed = renamed + 1 WHERE id = $1", event.AggregateID, string(event.Payload))
	}
	return err
}

// printUser prints the user's row when the read model has it with all that
// happened to the user, or nothing if ctx ends before.
func printUser(ctx context.Context, db *pgxpool.Pool, id string) error {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for {
		var name string
		var renamed int
		err := db.QueryRow(ctx, "SELECT name, renamed FROM example_users WHERE id = $1 AND renamed > 0", id).Scan(&name, &renamed)
		switch {
		case err == nil:
			fmt.Printf("read model: %s, renamed %d time(s)\n", name, renamed)
			return nil
		case ctx.Err() != nil:
			return nil
		case !errors.Is(err, pgx.ErrNoRows):
			return err
		}
		select {
		case <-ctx.Done():
		case <-look.C:
		}
	}
}
