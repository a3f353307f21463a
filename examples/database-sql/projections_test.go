package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// Each read model depends on the events only, however they are divided, cut into batches, and handled again.
func TestProjectionsKeepTheLaws(t *testing.T) {
	pool := pgtest.NewDatabase(t)
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	if err := createTables(t.Context(), pool, db); err != nil {
		t.Fatal(err)
	}
	var events []es.Event
	for i := range 12 {
		e := es.Event{BoundedContext: "Sales", AggregateType: "Order", AggregateID: fmt.Sprint(i % 4), EventType: "ItemAdded", Payload: []byte(`{"item": "tea", "price": 5}`)}
		if i > 9 {
			e.EventType, e.Payload = "OrderPlaced", []byte("{}")
		}
		events = append(events, e)
	}
	for table, p := range map[string]projection.Projection{
		"orders_by_hand": byHand{}, "orders_gorm": withGORM{}, "orders_bun": withBun{db: newBun(db)}, "orders_sqlc": withSQLC{}, "orders_sqlc_pgx": withSQLCAndPgx{},
	} {
		orchestratortest.CheckLaws(t, pool, p, events, func(tx pgx.Tx) (any, error) {
			rows, err := tx.Query(context.Background(), "SELECT r::text FROM "+table+" AS r ORDER BY 1")
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowTo[string])
		})
	}
}
