package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// userTable keeps the table example_user_table, event by event.
type userTable struct{}

// Name is the name under which the projection's checkpoints are kept.
func (userTable) Name() string { return "example_user_table" }

// AggregateTypes limits the projection to users.
func (userTable) AggregateTypes() []string { return []string{"User"} }

// Handle enters a user.
func (userTable) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	if event.EventType != "UserRegistered" {
		return nil
	}
	fmt.Printf("example-users: %s registered\n", event.Payload)
	_, err := tx.Exec(ctx, "INSERT INTO example_user_table (id, name) VALUES ($1, $2)", event.AggregateID, string(event.Payload))
	return err
}

// registrationsPerDay counts users by the day of their registration. It writes
// a whole batch with one statement, and runs on one worker only: partitions
// would wait for each other's locks on the row of the day.
type registrationsPerDay struct{ projection.BatchOnly }

// Name is the name under which the projection's checkpoints are kept.
func (registrationsPerDay) Name() string { return "example_registrations" }

// Unpartitioned asks for a single partition.
func (registrationsPerDay) Unpartitioned() bool { return true }

// HandleBatch counts the registrations of a batch.
func (registrationsPerDay) HandleBatch(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	var days []string
	for _, event := range events {
		if event.EventType == "UserRegistered" {
			days = append(days, event.CreatedAt.UTC().Format("2006-01-02"))
		}
	}
	if len(days) == 0 {
		return nil
	}
	fmt.Printf("example-statistics: counting %d registrations\n", len(days))
	_, err := tx.Exec(ctx, `
		INSERT INTO example_registrations (day, users)
		SELECT day::date, count(*) FROM unnest($1::text[]) AS day GROUP BY 1
		ON CONFLICT (day) DO UPDATE SET users = example_registrations.users + excluded.users`, days)
	return err
}
