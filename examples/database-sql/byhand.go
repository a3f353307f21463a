package main

import (
	"context"
	"database/sql"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// byHand keeps its read model by plain SQL.
type byHand struct {
	orders
	projection.SQLOnly
}

// Name is the name under which the projection's checkpoints are kept.
func (byHand) Name() string { return "orders_by_hand" }

// HandleSQL applies one event.
func (byHand) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	switch event.EventType {
	case "ItemAdded":
		item, err := itemOf(event)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `
			INSERT INTO orders_by_hand AS o (id, items, total) VALUES ($1, 1, $2)
			ON CONFLICT (id) DO UPDATE SET items = o.items + 1, total = o.total + excluded.total`, event.AggregateID, item.Price)
		return err
	case "OrderPlaced":
		_, err := tx.ExecContext(ctx, "UPDATE orders_by_hand SET placed = true WHERE id = $1", event.AggregateID)
		return err
	}
	return nil
}
