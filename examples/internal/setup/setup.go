// Package setup holds what most examples have in common, so that each shows its own subject only: it connects, makes the tables and appends events.
// The example basic has all of it written out.
package setup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Logger writes warnings and errors to standard error, so that standard output has what the example prints.
func Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// Main is an example's main function. It connects to DATABASE_URL, makes the tables of the event store, of the orchestrator and of the example, and calls run with a
// context that ends at SIGINT or SIGTERM. All tables are in the schema with the given name, which it drops first: so every run begins with an empty stream.
func Main(schema, tables string, run func(context.Context, *pgxpool.Pool) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := withDatabase(ctx, schema, tables, run)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func withDatabase(ctx context.Context, schema, tables string, run func(context.Context, *pgxpool.Pool) error) error {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("set DATABASE_URL to a PostgreSQL database, for example postgres://localhost/example")
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return err
	}
	config.MaxConns = 10
	config.ConnConfig.RuntimeParams["search_path"] = schema
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(ctx, "DROP SCHEMA IF EXISTS "+schema+" CASCADE; CREATE SCHEMA "+schema); err != nil {
		return err
	}
	if err := errors.Join(eventstore.RunMigrations(db, eventstore.WithLogger(Logger())), orchestrator.RunMigrations(db, orchestrator.WithLogger(Logger()))); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, tables); err != nil {
		return err
	}
	return run(ctx, db)
}

// Event is an event of the bounded context "Shop".
func Event(aggregateType, aggregateID, eventType, payload string) es.Event {
	return es.Event{BoundedContext: "Shop", AggregateType: aggregateType, AggregateID: aggregateID, EventType: eventType, Payload: []byte(payload)}
}

// Append appends events in one transaction, in their order. It returns the result of the last.
func Append(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, events ...es.Event) (result es.AppendResult, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, event := range events {
			if result, err = store.Append(ctx, tx, es.Any(), []es.Event{event}); err != nil {
				return err
			}
		}
		return nil
	})
	return result, err
}

// PrintLines prints the one text that each row of a query has.
func PrintLines(ctx context.Context, db *pgxpool.Pool, query string) error {
	rows, err := db.Query(ctx, query)
	if err != nil {
		return err
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, line := range lines {
		fmt.Println(line)
	}
	return err
}

// Worker is a worker that runs in the background.
type Worker struct {
	cancel context.CancelFunc
	ended  chan error
}

// Start runs projections in the background, and returns when the worker handles events.
func Start(ctx context.Context, orch *orchestrator.Orchestrator, projections ...projection.Projection) (*Worker, error) {
	ctx, cancel := context.WithCancel(ctx)
	w := &Worker{cancel: cancel, ended: make(chan error, 1)}
	go func() { w.ended <- orch.Run(ctx, projections) }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		if orch.Health().Ready {
			return w, nil
		}
		select {
		case err := <-w.ended:
			cancel()
			return nil, errors.Join(err, ctx.Err())
		case <-look.C:
		}
	}
}

// Stop ends the worker, and waits until it has left.
func (w *Worker) Stop() error {
	w.cancel()
	return <-w.ended
}
