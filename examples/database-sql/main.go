// Command database-sql runs four projections that use database/sql and tools that are built on it: plain SQL, GORM, bun and sqlc. It appends the events of an order within
// a *sql.Tx, has all projections catch up, prints their read models and ends.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

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
		fmt.Fprintln(os.Stderr, "database-sql:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, databaseURL string) error {
	if databaseURL == "" {
		return errors.New("set DATABASE_URL to a PostgreSQL database, for example postgres://localhost/example")
	}
	// One pool for the worker and for the application, which sees it as a *sql.DB.
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	if err := createTables(ctx, pool, db); err != nil {
		return err
	}

	eventStore := eventstore.New()
	order, err := placeOrder(ctx, db, eventStore)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	orch, err := orchestrator.New(pool, eventStore, "database-sql-example", orchestrator.WithLogger(logger))
	if err != nil {
		return err
	}
	projections := []projection.Projection{byHand{}, withGORM{}, withBun{db: newBun(db)}, withSQLC{}, withSQLCAndPgx{}}
	if _, err := orch.RunUntilCaughtUp(ctx, projections); err != nil {
		return err
	}
	return printOrder(ctx, db, order)
}

// createTables makes the tables of the event store, the orchestrator and the read models. An application does this when it is deployed.
func createTables(ctx context.Context, pool *pgxpool.Pool, db *sql.DB) error {
	if err := eventstore.RunMigrations(pool); err != nil { // only where no pupsourcing tables exist yet
		return err
	}
	if err := orchestrator.RunMigrations(pool); err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(20260101)"); err != nil { // several processes may do this at once
		return err
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return err
	}
	return tx.Commit()
}

// placeOrder appends the events of a new order within a transaction of database/sql, as an application would beside its other writes, and returns the order's id.
func placeOrder(ctx context.Context, db *sql.DB, eventStore *eventstore.Store) (string, error) {
	id := uuid.NewString()
	event := func(eventType, payload string) es.Event {
		return es.Event{BoundedContext: "Sales", AggregateType: "Order", AggregateID: id, EventType: eventType, Payload: []byte(payload)}
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }()
	_, err = eventStore.AppendSQL(ctx, tx, es.NoStream(), []es.Event{
		event("ItemAdded", `{"item": "tea", "price": 5}`), event("ItemAdded", `{"item": "cup", "price": 12}`), event("OrderPlaced", `{}`),
	})
	if err != nil {
		return "", err
	}
	return id, tx.Commit()
}

// printOrder prints what each read model says of the order.
func printOrder(ctx context.Context, db *sql.DB, id string) error {
	for _, table := range []string{"orders_by_hand", "orders_gorm", "orders_bun", "orders_sqlc", "orders_sqlc_pgx"} {
		var items, total int
		var placed bool
		if err := db.QueryRowContext(ctx, "SELECT items, total, placed FROM "+table+" WHERE id = $1", id).Scan(&items, &total, &placed); err != nil {
			return fmt.Errorf("reading %s: %w", table, err)
		}
		fmt.Printf("%s: %d items, %d in all, placed: %t\n", table, items, total, placed)
	}
	return nil
}
