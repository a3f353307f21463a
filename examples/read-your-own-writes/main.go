// Command read-your-own-writes answers a POST with what the read model has of it: the HTTP handler appends an event, waits until the projection has handled it, and
// reads.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/internal/setup"
)

const tables = `CREATE TABLE carts (id text PRIMARY KEY, items int NOT NULL, list text NOT NULL)`

func main() { setup.Main("example_read_your_own_writes", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	orch, err := orchestrator.New(db, store, "example", orchestrator.WithLogger(setup.Logger()))
	if err != nil {
		return err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("POST /carts/{id}/items", addItem(db, store, orch))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() { _ = server.Close() }()
	url := "http://" + listener.Addr().String() + "/carts/7c1a/items"

	// The web server may be another process than the worker: WaitForAppend needs no Run.
	if err := post(ctx, url, "tea"); err != nil {
		return err
	}
	worker, err := setup.Start(ctx, orch, Carts{})
	if err != nil {
		return err
	}
	for _, item := range []string{"cup", "spoon", "sugar"} {
		if err := post(ctx, url, item); err != nil {
			return err
		}
	}
	return worker.Stop()
}

// addItem appends an event and answers with the cart that has it.
func addItem(db *pgxpool.Pool, store *eventstore.Store, orch *orchestrator.Orchestrator) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		item, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		appended, err := setup.Append(r.Context(), db, store, setup.Event("Cart", r.PathValue("id"), "ItemAdded", string(item)))
		if err != nil {
			http.Error(w, "the item was not added", http.StatusInternalServerError)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		switch err := orch.WaitForAppend(ctx, "carts", appended); {
		case errors.Is(err, orchestrator.ErrNotRunning):
			answer(w, http.StatusAccepted, "added; no worker runs, so the cart does not show it yet")
			return
		case err != nil: // the item is appended, whatever the read model shows
			answer(w, http.StatusAccepted, "added; the cart will show it soon")
			return
		}
		var items int
		var list string
		if err := db.QueryRow(ctx, "SELECT items, list FROM carts WHERE id = $1", r.PathValue("id")).Scan(&items, &list); err != nil {
			http.Error(w, "the cart cannot be read", http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusOK, fmt.Sprintf("%d item(s): %s", items, list))
	}
}

func answer(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// post is the client.
func post(ctx context.Context, url, item string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(item))
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	fmt.Printf("POST %s: %s: %s\n", item, response.Status, body)
	return err
}

// Carts keeps a row for each cart.
type Carts struct{}

// Name is the name of the projection.
func (Carts) Name() string { return "carts" }

// Handle adds an item.
func (Carts) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	_, err := tx.Exec(ctx, `INSERT INTO carts AS c VALUES ($1, 1, $2)
		ON CONFLICT (id) DO UPDATE SET items = c.items + 1, list = c.list || ', ' || excluded.list`, event.AggregateID, string(event.Payload))
	return err
}
