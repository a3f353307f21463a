package main

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/database-sql/sqlc/pgxsql"
	"github.com/getpup/pupsourcing-orchestrator/v2/examples/database-sql/sqlc/stdsql"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// withSQLC keeps its read model with what sqlc generates for database/sql.
type withSQLC struct {
	orders
	projection.SQLOnly
}

// Name is the name under which the projection's checkpoints are kept.
func (withSQLC) Name() string { return "orders_sqlc" }

// HandleSQL applies one event.
func (withSQLC) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	queries := stdsql.New(tx)
	switch event.EventType {
	case "ItemAdded":
		item, err := itemOf(event)
		if err != nil {
			return err
		}
		return queries.AddItem(ctx, stdsql.AddItemParams{ID: event.AggregateID, Total: int32(item.Price)})
	case "OrderPlaced":
		_, err := queries.PlaceOrder(ctx, event.AggregateID)
		return err
	}
	return nil
}

// withSQLCAndPgx keeps its read model with what sqlc generates for pgx. It needs no database/sql.
type withSQLCAndPgx struct{ orders }

// Name is the name under which the projection's checkpoints are kept.
func (withSQLCAndPgx) Name() string { return "orders_sqlc_pgx" }

// Handle applies one event.
func (withSQLCAndPgx) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	queries := pgxsql.New(tx)
	switch event.EventType {
	case "ItemAdded":
		item, err := itemOf(event)
		if err != nil {
			return err
		}
		return queries.AddItem(ctx, pgxsql.AddItemParams{ID: event.AggregateID, Total: int32(item.Price)})
	case "OrderPlaced":
		_, err := queries.PlaceOrder(ctx, event.AggregateID)
		return err
	}
	return nil
}
