package eventstore

import (
	"context"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/eventrow"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
)

// ReadEvents reads up to limit events of the whole stream with positions above fromPosition, in order. At the end of the
// stream it returns no events and no error. limit must be at least 1.
//
// A caller that remembers the last position and continues from there loses the events of transactions that commit late.
// Projections do not, since they read only up to the horizon.
func (s *Store) ReadEvents(ctx context.Context, db DB, fromPosition int64, limit int) ([]es.PersistedEvent, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("reading events: limit must be at least 1, got %d", limit)
	}
	if err := refuseNil("reading events", "db", db); err != nil {
		return nil, err
	}
	rows, err := db.Query(ctx, s.sql.readAll, fromPosition, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("reading events after position %d: %w", fromPosition, s.explainRead(ctx, db, err))
	}
	events, err := collect(rows, limit)
	if err != nil {
		return nil, fmt.Errorf("reading events after position %d: %w", fromPosition, s.explainRead(ctx, db, err))
	}
	return events, nil
}

// ReadAggregateStream reads an aggregate's events from fromVersion to toVersion, both inclusive. A nil fromVersion means
// the first version, and a nil toVersion the last. If the aggregate does not exist, the stream is empty and there is no
// error.
func (s *Store) ReadAggregateStream(ctx context.Context, db DB, boundedContext, aggregateType, aggregateID string, fromVersion, toVersion *int64) (es.Stream, error) {
	if err := s.usable("reading an aggregate", db); err != nil {
		return es.Stream{}, err
	}
	from, to := int64(0), int64(math.MaxInt64)
	if fromVersion != nil {
		from = *fromVersion
	}
	if toVersion != nil {
		to = *toVersion
	}
	rows, err := db.Query(ctx, s.sql.stream, boundedContext, aggregateType, aggregateID, from, to)
	if err != nil {
		return es.Stream{}, fmt.Errorf("reading %s: %w", aggregate(boundedContext, aggregateType, aggregateID), s.explainRead(ctx, db, err))
	}
	events, err := collect(rows, 0)
	if err != nil {
		return es.Stream{}, fmt.Errorf("reading %s: %w", aggregate(boundedContext, aggregateType, aggregateID), s.explainRead(ctx, db, err))
	}
	return es.Stream{BoundedContext: boundedContext, AggregateType: aggregateType, AggregateID: aggregateID, Events: events}, nil
}

// LatestPosition returns the highest visible position, or 0 if there are no events. Lower positions may still appear.
func (s *Store) LatestPosition(ctx context.Context, db DB) (int64, error) {
	if err := s.usable("reading the latest position", db); err != nil {
		return 0, err
	}
	var position int64
	if err := db.QueryRow(ctx, s.sql.latest).Scan(&position); err != nil {
		return 0, fmt.Errorf("reading the latest position: %w", s.explainRead(ctx, db, err))
	}
	return position, nil
}

// collect scans all rows of a query over eventrow.Columns, at most limit, or any
// number if limit is 0, and closes it.
func collect(rows pgx.Rows, limit int) ([]es.PersistedEvent, error) {
	defer rows.Close()
	if conn := rows.Conn(); conn != nil {
		if err := dbguard.CheckConn(conn); err != nil {
			return nil, err
		}
	}
	scan := eventrow.Scanner{List: packed.Builder{Expected: min(limit, eventrow.MostExpected)}}
	for rows.Next() {
		if err := scan.Scan(rows); err != nil {
			return nil, fmt.Errorf("scanning an event: %w", err)
		}
	}
	return scan.List.Cut().All(), rows.Err()
}
