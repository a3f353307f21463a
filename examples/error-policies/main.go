// Command error-policies shows what becomes of an event that a handler fails on: three projections have the same faulty handler, and one retries, one skips the event and
// one parks its aggregate. Then the handler is repaired.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
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

const (
	replicaSet = "example"
	tables     = `CREATE TABLE payments (projection text, account text, total bigint NOT NULL, PRIMARY KEY (projection, account))`
)

func main() { setup.Main("example_error_policies", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	_, err := setup.Append(
		ctx, db, store,
		setup.Event("Account", "ada", "Paid", "10"),
		setup.Event("Account", "grace", "Paid", "1,000"), // the handler does not know the comma
		setup.Event("Account", "grace", "Paid", "5"),
		setup.Event("Account", "barbara", "Paid", "7"),
	)
	if err != nil {
		return err
	}
	quick := projection.ErrorPolicy{Attempts: 2, First: 10 * time.Millisecond, Max: 50 * time.Millisecond}
	park, skip := quick, quick
	park.Then, skip.Then = projection.Park, projection.Skip
	orch, err := orchestrator.New(
		db, store, replicaSet,
		orchestrator.WithLogger(slog.New(slog.DiscardHandler)),                            // every failed attempt is logged
		orchestrator.WithErrorPolicy(projection.ErrorPolicy{Max: 100 * time.Millisecond}), // for "retries": retry for ever
		orchestrator.WithErrorPolicyFor("parks", park), orchestrator.WithErrorPolicyFor("skips", skip),
	)
	if err != nil {
		return err
	}
	handler := &atomic.Pointer[parser]{}
	handler.Store(&faulty)
	worker, err := setup.Start(ctx, orch, Payments{"retries", handler}, Payments{"skips", handler}, Payments{"parks", handler})
	if err != nil {
		return err
	}
	if err := decide(ctx, db, store, orch, handler); err != nil {
		return err
	}
	return worker.Stop()
}

// decide is what a person does, in a program of its own or with the command line.
func decide(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, orch *orchestrator.Orchestrator, handler *atomic.Pointer[parser]) error {
	for name, position := range map[string]int64{"retries": 1, "skips": 4, "parks": 4} { // ada's event, barbara's
		if err := orch.WaitFor(ctx, name, position); err != nil {
			return err
		}
	}
	if err := show(ctx, db, "with the faulty handler"); err != nil {
		return err
	}
	a, err := admin.New(db, store, replicaSet, admin.WithActor("anna"))
	if err != nil {
		return err
	}
	parked := admin.Filter{Projection: "parks"}
	groups, err := a.FailureGroups(ctx, parked)
	if err != nil {
		return err
	}
	for _, g := range groups {
		fmt.Printf("group: %d event(s) failed, %d wait in all: %s\n", g.Events, g.Waiting, g.Example)
	}

	handler.Store(&repaired) // deploy
	trials, err := a.Try(ctx, parked)
	if err != nil {
		return err
	}
	for _, t := range trials {
		fmt.Printf("try: %s: %d of %d letters would be handled\n", t.Aggregate.ID, t.Handled, t.Letters)
	}
	result, err := a.Retry(ctx, parked, "the handler knows the comma")
	if err != nil {
		return err
	}
	fmt.Printf("retry: %d letters of %d aggregate(s) handled\n", result.Events, result.Succeeded)

	appended, err := setup.Append(ctx, db, store, setup.Event("Account", "grace", "Paid", "2"))
	if err != nil {
		return err
	}
	for _, name := range []string{"retries", "skips", "parks"} {
		if err := orch.WaitForAppend(ctx, name, appended); err != nil {
			return err
		}
	}
	return show(ctx, db, "with the repaired handler, and one payment more")
}

// parser reads an amount.
type parser func(string) (int64, error)

var (
	faulty   parser = func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }
	repaired parser = func(s string) (int64, error) { return strconv.ParseInt(strings.ReplaceAll(s, ",", ""), 10, 64) }
)

// Payments adds up what each account has paid.
type Payments struct {
	name  string
	parse *atomic.Pointer[parser]
}

// Name is the name of the projection.
func (p Payments) Name() string { return p.name }

// Handle fails where the amount cannot be read.
func (p Payments) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	amount, err := (*p.parse.Load())(string(event.Payload))
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO payments AS p VALUES ($1, $2, $3)
		ON CONFLICT (projection, account) DO UPDATE SET total = p.total + excluded.total`, p.name, event.AggregateID, amount)
	return err
}

// show prints what each projection has.
func show(ctx context.Context, db *pgxpool.Pool, when string) error {
	fmt.Println(when + ":")
	return setup.PrintLines(ctx, db, `SELECT '  ' || projection || ': ' || string_agg(account || ' ' || total, ', ' ORDER BY account)
		FROM payments GROUP BY projection ORDER BY projection`)
}
