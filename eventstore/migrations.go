package eventstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// RunMigrations creates the store's tables, and its schema if one is configured,
// where there are none. Tables that exist, made by pupsourcing's generator, are
// adopted unchanged, so it is of use where no pupsourcing tables exist yet and
// does no harm elsewhere. It can be repeated, and run by any number of processes
// at once. Take the same options as for New.
//
// It waits for locks that other sessions hold, on the tables or to migrate, without
// a bound, and there is no context to interrupt it. A lock_timeout of the pool's
// connections, as in postgres://…?lock_timeout=10s, bounds each wait.
//
// What has been done stands in the table eventstore_schema_version, or
// <events table>_schema_version for a store with another events table, so that
// several stores can share a schema.
func RunMigrations(db *pgxpool.Pool, opts ...Option) error {
	s := New(opts...)
	if err := s.usable("creating the event store's tables", db); err != nil {
		return err
	}
	if err := s.migrate(context.Background(), db); err != nil {
		return fmt.Errorf("creating the event store's tables: %w", err)
	}
	return nil
}

func (s *Store) migrate(ctx context.Context, db *pgxpool.Pool) error {
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	runner, err := migrate.New(migrate.Config{
		Files:        files,
		Schema:       s.schema,
		VersionTable: s.versionTable(),
		Placeholders: map[string]string{
			"events":      s.EventsTable().Sanitize(),
			"heads":       s.AggregateHeadsTable().Sanitize(),
			"checkpoints": s.CheckpointsTable().Sanitize(),
		},
		Logger: s.log,
	})
	if err != nil {
		return err
	}
	if err := runner.Up(ctx, db); err != nil {
		return err
	}
	return s.checkTables(ctx, db)
}

// versionTable is the name of the table that records the migrations.
func (s *Store) versionTable() string {
	if s.events == defaultEvents {
		return "eventstore_schema_version"
	}
	return s.events + "_schema_version"
}

// checkTables finds tables that are missing though the migrations were run: the
// version table speaks of a store with other tables, or somebody dropped one.
func (s *Store) checkTables(ctx context.Context, db migrate.Querier) error {
	for _, table := range []pgx.Identifier{s.EventsTable(), s.AggregateHeadsTable(), s.CheckpointsTable()} {
		found, err := migrate.TableExists(ctx, db, table)
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("the table %s does not exist, though %s says that all were made: other table names were configured then, or it was dropped",
				table.Sanitize(), s.versionTable())
		}
	}
	return nil
}
