package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// The read models depend on the events only, however they are divided, cut into batches, and handled again.
func TestProjectionsKeepTheLaws(t *testing.T) {
	db := pgtest.NewDatabase(t)
	require.NoError(t, createTables(t.Context(), db))
	var events []es.Event
	for i := range 10 {
		events = append(events, es.Event{
			BoundedContext: "Identity", AggregateType: "User", AggregateID: fmt.Sprint(i), EventType: "UserRegistered", Payload: []byte("a name"),
			CreatedAt: time.Date(2026, 1, 1+i%3, 0, 0, 0, 0, time.UTC),
		})
	}
	for table, p := range map[string]projection.Projection{"example_user_table": userTable{}, "example_registrations": registrationsPerDay{}} {
		orchestratortest.CheckLaws(t, db, p, events, func(tx pgx.Tx) (any, error) {
			rows, err := tx.Query(context.Background(), "SELECT r::text FROM "+table+" AS r ORDER BY 1")
			if err != nil {
				return nil, err
			}
			return pgx.CollectRows(rows, pgx.RowTo[string])
		})
	}
}
