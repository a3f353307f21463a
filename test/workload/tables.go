package workload

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/eventstore"
)

// The log's seq must be drawn without a cache, which is the default, or numbers of different sessions would not be in order.
const sqlTables = `
CREATE TABLE IF NOT EXISTS workload_scopes (
    projection      text PRIMARY KEY,
    aggregate_types text[] -- null: all
);
CREATE TABLE IF NOT EXISTS workload_log (
    seq               bigserial   PRIMARY KEY,
    projection        text        NOT NULL,
    global_position   bigint      NOT NULL,
    bounded_context   text        NOT NULL,
    aggregate_type    text        NOT NULL,
    aggregate_id      text        NOT NULL,
    aggregate_version bigint      NOT NULL,
    slot              integer     NOT NULL,
    -- The generation that the checkpoints name within the batch's transaction; 0 without an orchestrator.
    generation        bigint      NOT NULL,
    -- The worker, as its own process knows it.
    worker            text        NOT NULL,
    process_id        integer     NOT NULL,
    handled_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE IF NOT EXISTS workload_read_model (
    projection      text   NOT NULL,
    bounded_context text   NOT NULL,
    aggregate_type  text   NOT NULL,
    aggregate_id    text   NOT NULL,
    version         bigint NOT NULL,
    events          bigint NOT NULL,
    -- How many events did not follow the version before them.
    gaps            bigint NOT NULL,
    PRIMARY KEY (projection, bounded_context, aggregate_type, aggregate_id)
) WITH (fillfactor = 70)`

const sqlScopes = `
INSERT INTO workload_scopes (projection, aggregate_types)
SELECT $1, nullif($2::text[], '{}') ON CONFLICT (projection) DO UPDATE SET aggregate_types = excluded.aggregate_types`

// Migrate creates the tables of events, of the coordination and of this package, and enters what each projection wants, which
// [Checks] compare with.
func Migrate(ctx context.Context, pool *pgxpool.Pool, projections []ProjectionSpec) error {
	if err := eventstore.RunMigrations(pool, eventstore.WithLogger(nil)); err != nil {
		return err
	}
	if err := orchestrator.RunMigrations(pool, orchestrator.WithLogger(slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	if _, err := pool.Exec(ctx, sqlTables); err != nil {
		return fmt.Errorf("creating the tables of the workload: %w", err)
	}
	for _, p := range projections {
		if _, err := pool.Exec(ctx, sqlScopes, p.Name, p.AggregateTypes); err != nil {
			return fmt.Errorf("entering the scope of projection %q: %w", p.Name, err)
		}
	}
	return nil
}
