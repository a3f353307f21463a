package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/orchestratortest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// userEvent is an event of a user.
func userEvent(id, eventType, name string) es.Event {
	return es.Event{BoundedContext: "Identity", AggregateType: "User", AggregateID: id, EventType: eventType, Payload: []byte(name)}
}

// readUsers is the read model.
func readUsers(tx pgx.Tx) (any, error) {
	rows, err := tx.Query(context.Background(), "SELECT id || ' ' || name || ' ' || renamed FROM example_users ORDER BY id")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// The projection keeps a row for each user, with the latest name.
func TestUserProjection(t *testing.T) {
	db := pgtest.NewDatabase(t)
	require.NoError(t, createTables(t.Context(), db))
	require.NoError(t, pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
		orchestratortest.Handle(t, tx, userProjection{}, userEvent("7", "UserRegistered", "Ada Byron"), userEvent("7", "UserRenamed", "Ada Lovelace"))
		users, err := readUsers(tx)
		assert.Equal(t, []string{"7 Ada Lovelace 1"}, users)
		return err
	}))
}

// The read model depends on the events only, however they are divided, cut into batches, and handled again.
func TestUserProjectionKeepsTheLaws(t *testing.T) {
	db := pgtest.NewDatabase(t)
	require.NoError(t, createTables(t.Context(), db))
	var events []es.Event
	for i := range 12 {
		id := fmt.Sprint("user ", i%4)
		events = append(events, userEvent(id, map[bool]string{true: "UserRegistered", false: "UserRenamed"}[i < 4], fmt.Sprint("name ", i)))
	}
	orchestratortest.CheckLaws(t, db, userProjection{}, events, readUsers)
}
