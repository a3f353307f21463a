package main

import (
	"context"
	"database/sql"
	"fmt"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// runBySQL is runByHand for single rows with database/sql.
func runBySQL(ctx context.Context, j job, p *progress) error {
	db, err := sql.Open("pgx", j.DSN+"&synchronous_commit=off")
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	db.SetMaxOpenConns(1)
	handled := p.counter(j.Want)
	p.begin()
	position := int64(0)
	for done := int64(0); done < j.Want; {
		events, err := readPageBySQL(ctx, db, position, min(pageSize, j.Want-done))
		if err != nil || len(events) == 0 {
			return fmt.Errorf("reading after position %d: %d events: %w", position, len(events), err)
		}
		last := events[len(events)-1].GlobalPosition
		if err := insertBySQL(ctx, db, events, position); err != nil {
			return err
		}
		position = last
		done += int64(len(events))
		handled.add(int64(len(events)))
	}
	return nil
}

// insertBySQL inserts a row for each event, and moves the checkpoint from a position to that of the last.
func insertBySQL(ctx context.Context, db *sql.DB, events []es.PersistedEvent, from int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for i := range events {
		if err := insertRow(ctx, tx, &events[i]); err != nil {
			return err
		}
	}
	result, err := tx.ExecContext(ctx, sqlCheckpoint, events[len(events)-1].GlobalPosition, from)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("%d checkpoints at position %d: %w", n, from, err)
	}
	return tx.Commit()
}

// readPageBySQL reads events after a position.
func readPageBySQL(ctx context.Context, db *sql.DB, after, limit int64) ([]es.PersistedEvent, error) {
	rows, err := db.QueryContext(ctx, sqlPage, after, limit)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	events := make([]es.PersistedEvent, 0, limit)
	for rows.Next() {
		var e es.PersistedEvent
		if err := rows.Scan(fields(&e)...); err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	return events, rows.Err()
}

// insertRow inserts the row of an event.
func insertRow(ctx context.Context, tx *sql.Tx, e *es.PersistedEvent) error {
	_, err := tx.ExecContext(ctx, sqlInsertRow, e.GlobalPosition, e.AggregateID, e.EventType, len(e.Payload))
	return err
}
