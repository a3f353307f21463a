package main

import (
	"context"
	"database/sql"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// withGORM keeps its read model with GORM.
type withGORM struct {
	orders
	projection.SQLOnly
}

// gormOrder is a row of its table.
type gormOrder struct {
	ID     string `gorm:"primaryKey"`
	Items  int
	Total  int
	Placed bool
}

// TableName is the name of the table.
func (gormOrder) TableName() string { return "orders_gorm" }

// Name is the name under which the projection's checkpoints are kept.
func (withGORM) Name() string { return "orders_gorm" }

// HandleSQL applies one event. GORM works within the batch's transaction, so it must not begin its own.
func (withGORM) HandleSQL(ctx context.Context, tx *sql.Tx, event es.PersistedEvent) error {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: tx}), &gorm.Config{SkipDefaultTransaction: true, DisableAutomaticPing: true})
	if err != nil {
		return err
	}
	db = db.WithContext(ctx)
	switch event.EventType {
	case "ItemAdded":
		item, err := itemOf(event)
		if err != nil {
			return err
		}
		return db.Clauses(clause.OnConflict{
			Columns: []clause.Column{{Name: "id"}},
			DoUpdates: clause.Assignments(map[string]any{
				"items": gorm.Expr("orders_gorm.items + 1"), "total": gorm.Expr("orders_gorm.total + ?", item.Price),
			}),
		}).Create(&gormOrder{ID: event.AggregateID, Items: 1, Total: item.Price}).Error
	case "OrderPlaced":
		return db.Model(&gormOrder{ID: event.AggregateID}).Update("placed", true).Error
	}
	return nil
}
