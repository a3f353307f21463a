package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// A row of recovery_batches is written within the batch's transaction, so it is there if and only if the batch was committed;
// its xmin tells when.
const sqlTables = `
CREATE TABLE recovery_batches (
    id         bigserial   PRIMARY KEY,
    projection text        NOT NULL,
    worker     text        NOT NULL,
    ran_at     timestamptz NOT NULL, -- when the worker's process called Run
    generation bigint      NOT NULL,
    buckets    bigint      NOT NULL, -- a bit for each bucket of the batch's events
    positions  bigint[]    NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON recovery_batches (handled_at);
CREATE INDEX ON recovery_batches (projection, generation);
CREATE TABLE recovery_returns (
    worker      text        PRIMARY KEY,
    returned_at timestamptz NOT NULL
)`

// migrate creates all tables.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := workload.Migrate(ctx, pool, nil); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, sqlTables); err != nil {
		return fmt.Errorf("creating the benchmark's tables: %w", err)
	}
	return nil
}

// batch is a committed batch of a worker.
type batch struct {
	worker     string
	ranAt      time.Time
	generation int64
	buckets    uint64
	committed  time.Time
}

// The margin is for batches that were handled before since and committed after it. Callers leave out what was committed before,
// if it matters.
const sqlBatches = `
SELECT worker, ran_at, generation, buckets, pg_xact_commit_timestamp(xmin) AS committed FROM recovery_batches
WHERE projection = $1 AND handled_at >= $2
ORDER BY committed, id`

// batchMargin is how far before a moment batches are read: a worker's last before it is among them.
const batchMargin = 3 * time.Second

// batches reads the committed batches of a projection from a little before since, in the order of their commits.
func (s *stage) batches(ctx context.Context, projection string, since time.Time) ([]batch, error) {
	rows, err := s.pool.Query(ctx, sqlBatches, projection, since.Add(-batchMargin))
	if err != nil {
		return nil, fmt.Errorf("reading the batches: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (b batch, err error) {
		var buckets int64
		err = row.Scan(&b.worker, &b.ranAt, &b.generation, &buckets, &b.committed)
		b.buckets = uint64(buckets)
		return b, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the batches: %w", err)
	}
	return all, nil
}

const sqlExactlyOnce = `
WITH handled AS MATERIALIZED (
    SELECT unnest(positions) AS position FROM recovery_batches WHERE projection = $1
)
SELECT (SELECT count(*) FROM events AS e WHERE NOT EXISTS (SELECT FROM handled WHERE position = e.global_position)),
    (SELECT count(*) - count(DISTINCT position) FROM handled)`

// exactlyOnce stops the load, waits until everything has been handled, by one more worker if none is left, and fails if an event was lost or handled twice: figures
// of a library that does that mean nothing.
func (s *stage) exactlyOnce(ctx context.Context) error {
	_ = s.load.Stop()
	if len(s.workers) == 0 {
		if err := s.startMany(ctx, 1); err != nil {
			return err
		}
	}
	drained := func() (bool, error) { return workload.Drained(ctx, s.pool, replicaSet) }
	if err := s.until(ctx, "all events are handled", drained); err != nil {
		return err
	}
	var lost, twice int64
	if err := s.pool.QueryRow(ctx, sqlExactlyOnce, replicaSet).Scan(&lost, &twice); err != nil {
		return fmt.Errorf("looking for events that were lost or handled twice: %w", err)
	}
	if lost+twice > 0 {
		return fmt.Errorf("PROMISE BROKEN: %d events were never handled and %d handled again", lost, twice)
	}
	return nil
}
