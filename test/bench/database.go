package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// The aggregates' types: one aggregate in a hundred is of the rare one.
const (
	commonType = "Order"
	rareType   = "Refund"
)

// workerRole is the role of the measured processes, so that their statements can be told from this program's.
const workerRole = "bench_worker"

// database is a database with the tables of the library, and what the measurements need.
type database struct {
	name  string
	dsn   string        // for measured processes
	pool  *pgxpool.Pool // for this one
	store *eventstore.Store
}

const sqlPrepare = `
CREATE EXTENSION pg_stat_statements;
CREATE TABLE bench_rows (global_position bigint PRIMARY KEY, aggregate_id text NOT NULL, event_type text NOT NULL, size int NOT NULL);
CREATE TABLE bench_counters (id bigint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE bench_checkpoints (name text PRIMARY KEY, position bigint NOT NULL) WITH (fillfactor = 50)`

// newDatabase creates a database. The caller closes its pool.
func newDatabase(ctx context.Context, cluster *pgtest.Cluster, name string) (*database, error) {
	dsn, err := cluster.CreateDatabase(ctx, name)
	if err != nil {
		return nil, err
	}
	d := &database{name: name, dsn: strings.Replace(dsn, "postgres://postgres@", "postgres://"+workerRole+"@", 1), store: eventstore.New(eventstore.WithLogger(nil))}
	if d.pool, err = pgxpool.New(ctx, dsn); err != nil {
		return nil, err
	}
	if err := eventstore.RunMigrations(d.pool, eventstore.WithLogger(nil)); err != nil {
		return d, err
	}
	if err := orchestrator.RunMigrations(d.pool, orchestrator.WithLogger(slog.New(slog.DiscardHandler))); err != nil {
		return d, err
	}
	return d, d.exec(ctx, sqlPrepare)
}

// exec runs statements without arguments.
func (d *database) exec(ctx context.Context, sql string) error {
	if _, err := d.pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("running %q in database %s: %w", sql, d.name, err)
	}
	return nil
}

// The first position is 2: with a position missing below, a horizon that knows nothing yet cannot see by itself that nothing is
// open, so an open transaction can hold back a new replica set (see held).
const (
	sqlFirstPosition = `SELECT setval(pg_get_serial_sequence('events', 'global_position'), 1)`
	sqlFill          = `
INSERT INTO events (bounded_context, aggregate_type, aggregate_id, aggregate_version, event_id, event_type, payload, correlation_id, metadata)
SELECT 'sales', CASE WHEN i %% %[2]d %% 100 = 0 THEN '` + rareType + `' ELSE '` + commonType + `' END, 'order-' || i %% %[2]d, i / %[2]d + 1, gen_random_uuid(),
	(ARRAY['OrderPlaced', 'OrderPaid', 'OrderShipped', 'OrderClosed'])[i %% 4 + 1],
	%[3]s, 'process-' || i / 3, '{"user": "u1"}'
FROM generate_series(0, %[1]d - 1) AS i`
	sqlPayload      = `convert_to('{"order": ' || i || ', "text": "' || rpad('', 190 - length(i::text), md5(i::text)) || '"}', 'UTF8')`
	sqlLargePayload = `convert_to(rpad('', 1 << 20, md5(i::text)), 'UTF8')`
)

// fill appends events.
func (d *database) fill(ctx context.Context, events, aggregates int, payload string) error {
	for _, sql := range []string{sqlFirstPosition, fmt.Sprintf(sqlFill, events, aggregates, payload), "VACUUM (ANALYZE) events", "CHECKPOINT"} {
		if err := d.exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// fresh empties all tables but the events, and the statements' statistics.
func (d *database) fresh(ctx context.Context) error {
	return d.exec(ctx, `
TRUNCATE orchestrator_generations, orchestrator_workers, orchestrator_heartbeats, orchestrator_checkpoints, orchestrator_dead_letters,
	orchestrator_turns, orchestrator_parked_aggregates, bench_rows, bench_checkpoints CASCADE;
INSERT INTO bench_checkpoints VALUES ('by hand', 0);
SELECT pg_stat_statements_reset()`)
}

// statements is how many statements the measured processes have run, and rows how many rows of them were of filtered reads
// of the events.
func (d *database) statements(ctx context.Context) (statements, rows int64, err error) {
	err = d.pool.QueryRow(ctx, `
SELECT coalesce(sum(calls), 0)::bigint, coalesce(sum(rows) FILTER (WHERE query ~ 'FROM ("public"[.])?"events"' AND query ~ 'payload' AND query !~ 'INSERT'), 0)::bigint
FROM pg_stat_statements WHERE userid = $1::regrole AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())`, workerRole).Scan(&statements, &rows)
	if err != nil {
		return 0, 0, fmt.Errorf("reading the statements' statistics: %w", err)
	}
	return statements, rows, nil
}

// running says whether so many workers are running in one generation.
func (d *database) running(ctx context.Context, workers int) (bool, error) {
	var running, generations int
	err := d.pool.QueryRow(ctx, `
SELECT count(*), count(DISTINCT generation) FROM orchestrator_workers WHERE state = 'running'
AND generation = (SELECT max(number) FROM orchestrator_generations WHERE state = 'active')`).Scan(&running, &generations)
	if err != nil {
		return false, fmt.Errorf("reading the workers' states: %w", err)
	}
	return running == workers && generations == 1, nil
}

// awaitRunning waits until so many workers are running in one generation.
func (d *database) awaitRunning(ctx context.Context, workers int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%d workers were not running after %s", workers, patience))
	defer cancel()
	for {
		ok, err := d.running(ctx, workers)
		if err != nil || ok {
			return err
		}
		if err := wait(ctx, askEvery); err != nil {
			return err
		}
	}
}

// held holds all events back from workers without checkpoints until release is called.
func (d *database) held(ctx context.Context) (release func() error, err error) {
	tx, err := d.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE events IN ROW EXCLUSIVE MODE"); err != nil {
		return nil, fmt.Errorf("holding the events back: %w", err)
	}
	return func() error { return tx.Rollback(context.WithoutCancel(ctx)) }, nil
}
