// Command graceful-shutdown runs a worker beside an HTTP server and ends both at SIGTERM, in an order that loses nothing: requests in flight are answered, the batch in flight is committed, and
// the connections are closed last.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

const (
	tables = `CREATE TABLE reports (id text PRIMARY KEY)`
	// Kubernetes kills after terminationGracePeriodSeconds, by default 30 s. Both timeouts together must be less.
	serverTimeout = 5 * time.Second
	workerTimeout = 20 * time.Second // a handler has half of it to finish, then its context ends
)

func main() { setup.Main("example_graceful_shutdown", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error { // ctx ends at SIGTERM
	store := eventstore.New()
	if _, err := setup.Append(ctx, db, store, setup.Event("Report", "1", "ReportOrdered", "")); err != nil {
		return err
	}
	orch, err := orchestrator.New(db, store, "example", orchestrator.WithLogger(setup.Logger()), orchestrator.WithShutdownTimeout(workerTimeout))
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /live", orch.LiveHandler())
	mux.Handle("GET /ready", orch.ReadyHandler())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	fmt.Printf("http://%s/ready\n", listener.Addr())

	// Whatever ends first ends the other: a worker without its server, or a server without its worker, would go unnoticed.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- server.Serve(listener)
	}()
	stopped := context.AfterFunc(ctx, func() {
		fmt.Println("stopping: the handler may finish")
	})
	defer stopped()
	runErr := orch.Run(ctx, []projection.Projection{Reports{}}) // nil, or ErrNotStopped if a handler does not return
	cancel()
	fmt.Println("the worker has left")

	// The server ends after the worker, so that probes are answered until then. The context has ended: shutting down needs another.
	shutdown, done := context.WithTimeout(context.WithoutCancel(ctx), serverTimeout)
	defer done()
	err = errors.Join(runErr, server.Shutdown(shutdown))
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	var rows int
	if scanErr := db.QueryRow(shutdown, "SELECT count(*) FROM reports").Scan(&rows); scanErr != nil {
		return errors.Join(err, scanErr)
	}
	fmt.Printf("the server has ended; %d report(s) written\n", rows)
	return err // setup.Main closes the pool now
}

// Reports takes its time.
type Reports struct{}

// Name is the name of the projection.
func (Reports) Name() string { return "reports" }

// Handle needs a second. At shutdown it is allowed to finish: its context ends later than that of Run.
func (Reports) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	fmt.Println("writing a report")
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	_, err := tx.Exec(ctx, "INSERT INTO reports VALUES ($1)", event.AggregateID)
	return err
}
