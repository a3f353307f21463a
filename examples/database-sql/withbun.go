package main

import (
	"context"
	"database/sql"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// withBun keeps its read model with bun, in batches.
type withBun struct {
	orders
	projection.SQLOnly

	db *bun.DB
}

// newBun is bun for the application's database.
func newBun(db *sql.DB) *bun.DB { return bun.NewDB(db, pgdialect.New()) }

// bunOrder is a row of its table.
type bunOrder struct {
	bun.BaseModel `bun:"table:orders_bun,alias:o"`

	ID     string `bun:",pk"`
	Items  int
	Total  int
	Placed bool
}

// Name is the name under which the projection's checkpoints are kept.
func (withBun) Name() string { return "orders_bun" }

// HandleSQLBatch applies the events. Conn has each statement of bun sent through the batch's transaction.
func (w withBun) HandleSQLBatch(ctx context.Context, tx *sql.Tx, events []es.PersistedEvent) error {
	changed := map[string]*bunOrder{}
	var list []*bunOrder
	for _, event := range events {
		order := changed[event.AggregateID]
		if order == nil {
			order = &bunOrder{ID: event.AggregateID}
			changed[event.AggregateID] = order
			list = append(list, order)
		}
		switch event.EventType {
		case "ItemAdded":
			item, err := itemOf(event)
			if err != nil {
				return err
			}
			order.Items, order.Total = order.Items+1, order.Total+item.Price
		case "OrderPlaced":
			order.Placed = true
		}
	}
	_, err := w.db.NewInsert().Conn(tx).Model(&list).
		On("CONFLICT (id) DO UPDATE").
		Set("items = o.items + excluded.items").Set("total = o.total + excluded.total").Set("placed = o.placed OR excluded.placed").
		Exec(ctx)
	return err
}
