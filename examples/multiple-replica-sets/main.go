// Command multiple-replica-sets runs two replica sets in one process: one keeps
// a table of users, the other counts them per day. Each has workers, generations
// and partitions of its own and scales by itself; they share the pool, the
// registry of metrics and the HTTP server that shows it. The program runs until
// a signal comes.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("METRICS_ADDRESS"))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "multiple-replica-sets:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, databaseURL, metricsAddress string) error {
	if databaseURL == "" {
		return errors.New("set DATABASE_URL to a PostgreSQL database, for example postgres://localhost/example")
	}
	if metricsAddress == "" {
		metricsAddress = "127.0.0.1:9090"
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
	if err := registerUsers(ctx, db, eventStore, "Ada", "Grace", "Barbara"); err != nil {
		return err
	}

	registry := prometheus.NewRegistry()
	options := []orchestrator.Option{
		orchestrator.WithMetricsRegisterer(registry),
		orchestrator.WithLogger(slog.New(slog.NewTextHandler(os.Stderr, nil))),
	}
	users, err := orchestrator.New(db, eventStore, "example-users", options...)
	if err != nil {
		return err
	}
	statistics, err := orchestrator.New(db, eventStore, "example-statistics", options...)
	if err != nil {
		return err
	}
	err = runAll(
		ctx,
		func(ctx context.Context) error { return serveMetrics(ctx, metricsAddress, registry) },
		func(ctx context.Context) error { return users.Run(ctx, []projection.Projection{userTable{}}) },
		func(ctx context.Context) error {
			return statistics.Run(ctx, []projection.Projection{registrationsPerDay{}})
		},
	)
	if err == nil {
		fmt.Println("stopped")
	}
	return err
}

// runAll runs the tasks until ctx ends or one of them fails, which ends the
// others, and waits for all.
func runAll(ctx context.Context, tasks ...func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(tasks))
	for _, task := range tasks {
		go func() {
			err := task(ctx)
			if err != nil {
				cancel()
			}
			ended <- err
		}()
	}
	var err error
	for range tasks {
		err = errors.Join(err, <-ended)
	}
	return err
}

// serveMetrics serves /metrics until ctx ends.
func serveMetrics(ctx context.Context, address string, registry *prometheus.Registry) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics.Handler(registry))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Printf("metrics at http://%s/metrics\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// createTables makes the tables of the event store, the orchestrator and the
// read models. An application does this when it is deployed.
func createTables(ctx context.Context, db *pgxpool.Pool) error {
	if err := eventstore.RunMigrations(db); err != nil { // only where no pupsourcing tables exist yet
		return err
	}
	if err := orchestrator.RunMigrations(db); err != nil {
		return err
	}
	_, err := db.Exec(ctx, `
		SELECT pg_advisory_xact_lock(20260102); -- several processes may do this at once
		CREATE TABLE IF NOT EXISTS example_user_table (id text PRIMARY KEY, name text NOT NULL);
		CREATE TABLE IF NOT EXISTS example_registrations (day date PRIMARY KEY, users bigint NOT NULL)`)
	return err
}

// registerUsers appends one event for each name.
func registerUsers(ctx context.Context, db *pgxpool.Pool, eventStore *eventstore.Store, names ...string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		for _, name := range names {
			_, err := eventStore.Append(ctx, tx, es.NoStream(), []es.Event{{
				BoundedContext: "Identity", AggregateType: "User", AggregateID: uuid.NewString(),
				EventType: "UserRegistered", Payload: []byte(name),
			}})
			if err != nil {
				return err
			}
		}
		return nil
	})
}
