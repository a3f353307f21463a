// Command rebuild-and-cut-over changes a read model in both ways: it empties and rebuilds one while workers run, and it builds a new version beside the old one, which takes
// over when it has caught up.
package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

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
	tables     = `
		CREATE TABLE users (id text PRIMARY KEY, name text NOT NULL);
		CREATE TABLE users_2 (id text PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL);
		CREATE TABLE outbox (mail text NOT NULL)`
)

func main() { setup.Main("example_rebuild", tables, run) }

func run(ctx context.Context, db *pgxpool.Pool) error {
	store := eventstore.New()
	orch, err := orchestrator.New(db, store, replicaSet, orchestrator.WithLogger(setup.Logger()))
	if err != nil {
		return err
	}
	worker, err := setup.Start(ctx, orch, Users{}, UsersV2{})
	if err != nil {
		return err
	}
	if err := change(ctx, db, store, orch); err != nil {
		return err
	}
	return worker.Stop()
}

// change is what a person does while workers run.
func change(ctx context.Context, db *pgxpool.Pool, store *eventstore.Store, orch *orchestrator.Orchestrator) error {
	appended, err := setup.Append(ctx, db, store, setup.Event("User", "1", "UserRegistered", "Ada Lovelace"))
	if err != nil {
		return err
	}
	if err := errors.Join(orch.WaitForAppend(ctx, "users", appended), orch.WaitForAppend(ctx, "users-2", appended)); err != nil {
		return err
	}
	if err := show(ctx, db, "both versions run, the old one sends the mails"); err != nil {
		return err
	}
	a, err := admin.New(db, store, replicaSet)
	if err != nil {
		return err
	}

	// Rebuild: somebody has spoiled the read model. The outbox is no part of it, so the mail is sent again: leave effects out of a projection that is rebuilt.
	if _, err := db.Exec(ctx, "UPDATE users SET name = 'oops'"); err != nil {
		return err
	}
	if err := a.Reset(ctx, "users", admin.Start(), "a wrong UPDATE"); err != nil {
		return err
	}
	if err := orch.WaitForAppend(ctx, "users", appended); err != nil {
		return err
	}
	if err := show(ctx, db, "after the rebuild"); err != nil {
		return err
	}

	// Cut over.
	done, err := a.CutOver(ctx, "users", "users-2", "first and last names")
	if err != nil {
		return err
	}
	fmt.Println("cut over at position", done.Position)
	if appended, err = setup.Append(ctx, db, store, setup.Event("User", "2", "UserRegistered", "Grace Hopper")); err != nil {
		return err
	}
	if err := orch.WaitForAppend(ctx, "users-2", appended); err != nil {
		return err
	}
	return show(ctx, db, "the new version sends the mails")
}

// Users is the old version.
type Users struct{}

// Name is the name of the projection.
func (Users) Name() string { return "users" }

// Handle writes the read model, and a mail.
func (Users) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if _, err := tx.Exec(ctx, "INSERT INTO users VALUES ($1, $2)", event.AggregateID, string(event.Payload)); err != nil {
		return err
	}
	return mail(ctx, tx, event, "users")
}

// Reset empties the read model, in the transaction that sets the checkpoints back.
func (Users) Reset(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "TRUNCATE users")
	return err
}

// UsersV2 is the new version.
type UsersV2 struct{}

// Name is another one, so it begins at the first event.
func (UsersV2) Name() string { return "users-2" }

// Replaces names the projection that it takes over from.
func (UsersV2) Replaces() string { return "users" }

// Handle writes the read model. Until the cut-over the old version still has the effects.
func (UsersV2) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	first, last, _ := strings.Cut(string(event.Payload), " ")
	if _, err := tx.Exec(ctx, "INSERT INTO users_2 VALUES ($1, $2, $3)", event.AggregateID, first, last); err != nil {
		return err
	}
	if delivery, _ := projection.DeliveryFrom(ctx); delivery.Replay {
		return nil
	}
	return mail(ctx, tx, event, "users-2")
}

func mail(ctx context.Context, tx pgx.Tx, event es.PersistedEvent, by string) error {
	_, err := tx.Exec(ctx, "INSERT INTO outbox VALUES ($1)", fmt.Sprintf("to %s by %s", event.Payload, by))
	return err
}

// show prints the read models and the outbox.
func show(ctx context.Context, db *pgxpool.Pool, when string) error {
	var users, users2, outbox string
	err := db.QueryRow(ctx, `SELECT (SELECT coalesce(string_agg(name, ', ' ORDER BY id), '-') FROM users),
		(SELECT coalesce(string_agg(last_name || ' ' || first_name, ', ' ORDER BY id), '-') FROM users_2),
		(SELECT string_agg(mail, ', ') FROM outbox)`).Scan(&users, &users2, &outbox)
	if err == nil {
		fmt.Printf("%s:\n  users:   %s\n  users_2: %s\n  mails:   %s\n", when, users, users2, outbox)
	}
	return err
}
