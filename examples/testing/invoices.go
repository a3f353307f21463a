// Package invoices is a projection with its tests. They use package orchestratortest and a PostgreSQL of their own.
package invoices

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// Table is the read model: how much of each invoice is open.
const Table = `CREATE TABLE invoices (id text PRIMARY KEY, amount bigint NOT NULL, paid bigint NOT NULL DEFAULT 0)`

// Invoices keeps the read model.
type Invoices struct{}

// Name is the name of the projection.
func (Invoices) Name() string { return "invoices" }

// AggregateTypes leaves out all other events.
func (Invoices) AggregateTypes() []string { return []string{"Invoice"} }

// ErrUnknownInvoice is returned for a payment before its invoice.
var ErrUnknownInvoice = errors.New("there is no such invoice")

// Handle writes an invoice, or adds a payment to it.
func (Invoices) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	amount, err := strconv.ParseInt(string(event.Payload), 10, 64)
	if err != nil {
		return projection.Permanent(err)
	}
	switch event.EventType {
	case "InvoiceSent":
		_, err = tx.Exec(ctx, "INSERT INTO invoices (id, amount) VALUES ($1, $2)", event.AggregateID, amount)
	case "InvoicePaid":
		tag, failed := tx.Exec(ctx, "UPDATE invoices SET paid = paid + $2 WHERE id = $1", event.AggregateID, amount)
		if err = failed; err == nil && tag.RowsAffected() == 0 {
			err = ErrUnknownInvoice
		}
	}
	return err
}

// Open is how much of each invoice is to be paid, by id.
func Open(ctx context.Context, tx pgx.Tx) (map[string]int64, error) {
	rows, err := tx.Query(ctx, "SELECT id, amount - paid FROM invoices")
	if err != nil {
		return nil, err
	}
	open := map[string]int64{}
	for rows.Next() {
		var id string
		var rest int64
		if err := rows.Scan(&id, &rest); err != nil {
			return nil, err
		}
		open[id] = rest
	}
	return open, rows.Err()
}
