package eventstore

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// RunMigrations creates the store's tables where they do not exist, and the schema if one is configured. Tables that
// pupsourcing's generator made stay unchanged, so the call is needed only where they do not exist, and harmless
// elsewhere. It can be repeated, and any number of processes may call it at once. Pass the same options as to New.
//
// It waits indefinitely for locks that other sessions hold, on the tables or for their own migrations. While it waits
// for a table, it lets other sessions go first, and tries again. To bound the wait, use RunMigrationsContext, or set
// lock_timeout on the pool's connections, as in postgres://…?lock_timeout=10s. A statement_timeout has no effect on it.
//
// Without WithSchema, all tables are in one schema of the connection's search_path. It is the schema of the version
// table if there is one, otherwise that of an existing events table, otherwise the one in which new tables are created.
// It is an error if the search_path leads to one of the tables in another schema.
//
// The tables must have the columns, types and unique constraints that the store relies on. If a table lacks one, or is
// not a table, the error says what is wrong, and nothing is changed. Additional columns, indexes and constraints do no
// harm.
//
// The applied migrations are recorded in the table eventstore_schema_version. A store with another events table uses
// <events table>_schema_version, so several stores can share a schema. If that name is too long, or the orchestrator's
// or a default store's migrations use it, the table is eventstore_<hash>_schema_version.
func RunMigrations(db *pgxpool.Pool, opts ...Option) error {
	return RunMigrationsContext(context.Background(), db, opts...)
}

// RunMigrationsContext is RunMigrations with a context. If ctx ends first, it returns an error that wraps ctx.Err().
// Each migration is applied completely or not at all, and a later call continues from there. ctx must not be nil.
func RunMigrationsContext(ctx context.Context, db *pgxpool.Pool, opts ...Option) error {
	if ctx == nil {
		return errors.New("creating the event store's tables: ctx must not be nil")
	}
	s := New(opts...)
	if err := s.usable("creating the event store's tables", db); err != nil {
		return err
	}
	if err := s.migrate(ctx, db); err != nil {
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
			"letters":     s.DeadLettersTable().Sanitize(),
			"parked":      s.ParkedAggregatesTable().Sanitize(),
		},
		Tables: s.tables(),
		Home:   s.events,
		ByPath: true,
		Logger: s.log,
	})
	if err != nil {
		return err
	}
	return runner.Up(ctx, db)
}

// orchestratorVersions is that of the orchestrator's own migrations, which may be in the same schema.
const orchestratorVersions = "orchestrator_schema_version"

// versionTable is the name of the table that records the migrations. It is none that anything else of ours has, and as short as
// PostgreSQL's names must be.
func (s *Store) versionTable() string {
	const suffix = "_schema_version"
	name := s.events + suffix
	if s.events == defaultEvents {
		name = "eventstore" + suffix
	}
	taken := []string{orchestratorVersions, s.heads, s.checkpoints, s.letters(), s.parked()}
	if s.events != defaultEvents {
		taken = append(taken, "eventstore"+suffix)
	}
	if len(name) > migrate.MaxName || slices.Contains(taken, name) {
		name = "eventstore_" + hashed(s.events) + suffix
	}
	return name
}

// hashed is a short name in place of one that is too long or taken.
func hashed(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:8])
}

// letters is the name of the table of dead letters: the checkpoints table's with another ending.
func (s *Store) letters() string { return s.beside("dead_letters") }

// parked is the name of the table of parked aggregates.
func (s *Store) parked() string { return s.beside("parked_aggregates") }

// beside is the name of a table that belongs to the checkpoints table: that one's with another ending.
func (s *Store) beside(ending string) string {
	if s.checkpoints == defaultCheckpoints {
		return "projection_" + ending
	}
	name := s.checkpoints + "_" + ending
	if len(name) > migrate.MaxName {
		name = "eventstore_" + hashed(s.checkpoints) + "_" + ending
	}
	return name
}

var (
	textTypes = []string{"text", "character varying"}
	longTypes = []string{"bigint"}
	timeTypes = []string{"timestamp with time zone"}
	slotTypes = []string{"integer"}
)

// tables are what the store relies on in its tables, as pupsourcing's generator or the migration makes them.
func (s *Store) tables() []migrate.Table {
	required := func(types []string, names ...string) (columns []migrate.Column) {
		for _, name := range names {
			columns = append(columns, migrate.Column{Name: name, Types: types, NotNull: true})
		}
		return columns
	}
	aggregate := []string{"bounded_context", "aggregate_type", "aggregate_id"}
	return []migrate.Table{
		{
			Name: s.events, Since: 1,
			Columns: slices.Concat(
				[]migrate.Column{{Name: "global_position", Types: longTypes, NotNull: true, Default: true}},
				required(textTypes, aggregate...), required(textTypes, "event_type"), required(longTypes, "aggregate_version"),
				required([]string{"uuid"}, "event_id"), required([]string{"integer", "bigint"}, "event_version"), required(timeTypes, "created_at"),
				[]migrate.Column{
					{Name: "payload", Types: []string{"bytea"}},
					{Name: "trace_id", Types: textTypes},
					{Name: "correlation_id", Types: textTypes},
					{Name: "causation_id", Types: textTypes},
					{Name: "metadata", Types: []string{"jsonb", "json"}},
				}),
			Unique: [][]string{{"global_position"}, {"event_id"}, versionColumns},
		},
		{
			Name: s.heads, Since: 1,
			Columns: slices.Concat(required(textTypes, aggregate...), required(longTypes, "aggregate_version"), required(timeTypes, "updated_at")),
			Unique:  [][]string{aggregate},
		},
		{
			Name: s.checkpoints, Since: 1,
			Columns: slices.Concat(required(textTypes, "projection_name"), required(longTypes, "last_global_position"),
				required(timeTypes, "updated_at")),
			Unique: [][]string{{"projection_name"}},
		},
		{
			Name: s.letters(), Since: 2,
			Columns: slices.Concat(required(textTypes, "projection_name", "event_type", "state", "last_error"), required(textTypes, aggregate...),
				required(longTypes, "global_position", "attempts"), required([]string{"uuid"}, "event_id"),
				[]migrate.Column{{Name: "slot_from", Types: slotTypes}, {Name: "slot_to", Types: slotTypes}},
				required(timeTypes, "first_failed_at", "last_failed_at")),
			Unique: [][]string{{"projection_name", "global_position"}},
		},
		{
			Name: s.parked(), Since: 2,
			Columns: slices.Concat(required(textTypes, "projection_name"), required(textTypes, aggregate...),
				required(longTypes, "global_position", "letters"), required(timeTypes, "parked_at")),
			Unique: [][]string{{"projection_name", "aggregate_id", "aggregate_type", "bounded_context"}},
		},
	}
}
