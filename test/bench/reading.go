package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventread"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// sqlColumns are all columns of the events table.
const sqlColumns = `global_position, bounded_context, aggregate_type, aggregate_id, aggregate_version,
	event_id, event_type, event_version, payload, trace_id, correlation_id, causation_id, metadata, created_at`

const sqlRaw = `SELECT ` + sqlColumns + ` FROM events ORDER BY global_position`

// pageSize is that of reading in pages: the library's default.
const pageSize = 1000

// fields are where the columns of a row go.
func fields(e *es.PersistedEvent) []any {
	return []any{
		&e.GlobalPosition, &e.BoundedContext, &e.AggregateType, &e.AggregateID, &e.AggregateVersion,
		&e.EventID, &e.EventType, &e.EventVersion, &e.Payload, &e.TraceID, &e.CorrelationID, &e.CausationID, &e.Metadata, &e.CreatedAt,
	}
}

// runRaw is the raw reader.
func runRaw(ctx context.Context, j job, p *progress) error {
	conn, err := pgx.Connect(ctx, j.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	read := p.counter(0)
	p.begin()
	rows, err := conn.Query(ctx, sqlRaw)
	if err != nil {
		return err
	}
	defer rows.Close()
	var event es.PersistedEvent
	destinations, n := fields(&event), int64(0)
	for rows.Next() {
		if err := rows.Scan(destinations...); err != nil {
			return err
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	read.add(n)
	read.finish()
	return nil
}

// streamSize is the events of a statement, about as many as a worker reads at once.
const streamSize = 10 * pageSize

// runParts reads all events as a worker does, and counts what that allocates. The first statement, for which the
// connection is opened and the statement prepared, is run twice.
func runParts(ctx context.Context, j job, p *progress) error {
	conn, err := pgx.Connect(ctx, j.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	store := eventstore.New(eventstore.WithLogger(nil))
	last, err := store.LatestPosition(ctx, conn)
	if err != nil {
		return err
	}
	query := eventread.Query{Pieces: []slot.Piece{{Range: slot.All()}}, UpTo: last, Limit: streamSize, MaxBytes: 8 << 20}
	reader := eventread.New(store, slog.New(slog.DiscardHandler))
	if err := reader.Stream(ctx, conn, query, pageSize, func(eventread.Part) {}); err != nil {
		return err
	}
	read := p.counter(0)
	take := func(part eventread.Part) {
		read.add(int64(part.Events.Len()))
		query.Pieces[0].Position = part.UpTo
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	p.begin()
	for query.Pieces[0].Position < last {
		if err := reader.Stream(ctx, conn, query, pageSize, take); err != nil {
			return err
		}
	}
	read.finish()
	runtime.ReadMemStats(&after)
	p.allocated(after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc)
	return nil
}

// The loops written by hand.
const (
	sqlPage       = `SELECT ` + sqlColumns + ` FROM events WHERE global_position > $1 ORDER BY global_position LIMIT $2`
	sqlInsertRow  = `INSERT INTO bench_rows (global_position, aggregate_id, event_type, size) VALUES ($1, $2, $3, $4)`
	sqlCheckpoint = `UPDATE bench_checkpoints SET position = $1 WHERE name = 'by hand' AND position = $2`
)

// rowColumns are those of bench_rows.
var rowColumns = []string{"global_position", "aggregate_id", "event_type", "size"}

// runByHand does what the projections that write do, without the library.
func runByHand(ctx context.Context, j job, p *progress) error {
	conn, err := pgx.Connect(ctx, j.DSN+"&synchronous_commit=off")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	handled := p.counter(j.Want)
	write := writeRows
	if j.Kind == "batch" {
		write = copyRows
	}
	p.begin()
	position := int64(0)
	for done := int64(0); done < j.Want; {
		events, err := readPage(ctx, conn, position, min(pageSize, j.Want-done))
		if err != nil || len(events) == 0 {
			return fmt.Errorf("reading after position %d: %d events: %w", position, len(events), err)
		}
		last := events[len(events)-1].GlobalPosition
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if err := write(ctx, tx, events); err != nil {
				return err
			}
			tag, err := tx.Exec(ctx, sqlCheckpoint, last, position)
			if err == nil && tag.RowsAffected() != 1 {
				err = fmt.Errorf("%d checkpoints at position %d", tag.RowsAffected(), position)
			}
			return err
		})
		if err != nil {
			return err
		}
		position = last
		done += int64(len(events))
		handled.add(int64(len(events)))
	}
	return nil
}

// readPage reads events after a position.
func readPage(ctx context.Context, conn *pgx.Conn, after, limit int64) ([]es.PersistedEvent, error) {
	rows, err := conn.Query(ctx, sqlPage, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
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

// writeRows inserts a row for each event, one statement after the other.
func writeRows(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	for i := range events {
		if err := writeRow(ctx, tx, &events[i]); err != nil {
			return err
		}
	}
	return nil
}

func writeRow(ctx context.Context, tx pgx.Tx, e *es.PersistedEvent) error {
	_, err := tx.Exec(ctx, sqlInsertRow, e.GlobalPosition, e.AggregateID, e.EventType, len(e.Payload))
	return err
}

// copyRows writes a row for each event with one COPY.
func copyRows(ctx context.Context, tx pgx.Tx, events []es.PersistedEvent) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"bench_rows"}, rowColumns, pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
		e := &events[i]
		return []any{e.GlobalPosition, e.AggregateID, e.EventType, len(e.Payload)}, nil
	}))
	return err
}
