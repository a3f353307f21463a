// Command kubernetes is a worker as it runs in Kubernetes: it logs JSON, serves health and metrics, and ends gracefully at SIGTERM.
//
// "kubernetes migrate" makes the tables; a Job, or an init container, runs it before the workers.
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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

func main() {
	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, logger, os.Args[1:])
	stop()
	if err != nil {
		logger.Error("the worker has ended", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, logger *slog.Logger, args []string) error {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("set DATABASE_URL to a PostgreSQL database")
	}
	db, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	if len(args) == 1 && args[0] == "migrate" {
		return migrate(ctx, db)
	}
	orch, err := orchestrator.New(db, eventstore.New(), "kubernetes-example", orchestrator.WithLogger(logger), orchestrator.WithShutdownTimeout(20*time.Second))
	if err != nil {
		return err
	}
	end, err := serve(ctx, logger, orch)
	if err != nil {
		return err
	}
	return errors.Join(orch.Run(ctx, []projection.Projection{visits{}}), end())
}

// migrate makes the tables.
func migrate(ctx context.Context, db *pgxpool.Pool) error {
	if err := eventstore.RunMigrationsContext(ctx, db); err != nil {
		return err
	}
	if err := orchestrator.RunMigrationsContext(ctx, db); err != nil {
		return err
	}
	_, err := db.Exec(ctx, "CREATE TABLE IF NOT EXISTS example_visits (page text PRIMARY KEY, visits bigint NOT NULL)")
	return err
}

// serve serves health and metrics on LISTEN, which is :8080 unless it is set, until end is called.
func serve(ctx context.Context, logger *slog.Logger, orch *orchestrator.Orchestrator) (end func() error, err error) {
	address := os.Getenv("LISTEN")
	if address == "" {
		address = ":8080"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for probes: %w", err)
	}
	logger.Info("serving health and metrics", "address", listener.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("GET /live", orch.LiveHandler())
	mux.Handle("GET /ready", orch.ReadyHandler())
	mux.Handle("GET /metrics", orch.MetricsHandler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return func() error {
		if err := server.Close(); err != nil {
			return err
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}, nil
}

// visits counts the visits of pages.
type visits struct{}

// Name is the name under which the projection's checkpoints are kept.
func (visits) Name() string { return "example_visits" }

// AggregateTypes limits the projection to pages: other events are not even read.
func (visits) AggregateTypes() []string { return []string{"Page"} }

// Handle counts a visit.
func (visits) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, `INSERT INTO example_visits AS v (page, visits) VALUES ($1, 1)
		ON CONFLICT (page) DO UPDATE SET visits = v.visits + 1`, event.AggregateID)
	return err
}
