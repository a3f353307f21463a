// Package migrations holds the definitions of the coordination tables and applies them. They are numbered .sql files
// that are compiled into the program. A database records its version in the table orchestrator_schema_version.
//
// Applications call orchestrator.RunMigrations, which calls Run.
package migrations

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/migrate"
)

// VersionTable is the table that records the applied migrations.
const VersionTable = "orchestrator_schema_version"

//go:embed *.sql
var files embed.FS

// shapes is what the tables are made of after the last migration, as go test ./migrations -update writes it.
//
//go:embed tables.txt
var shapes string

// set is migrations, and what the tables are made of after the last.
type set struct {
	files  fs.FS
	shapes string
	log    *slog.Logger // nil logs nothing
}

// Option changes how Run and Down work.
type Option func(*set)

// WithLogger makes Run and Down log each migration that they apply or take back, at Info. By default, and if log is nil,
// they log nothing.
func WithLogger(log *slog.Logger) Option { return func(s *set) { s.log = log } }

// with is the set with options.
func (s set) with(options []Option) set {
	for _, option := range options {
		if option != nil {
			option(&s)
		}
	}
	return s
}

// embedded is the library's.
var embedded = set{files: files, shapes: shapes}

var (
	// ErrMissing means that the coordination tables do not exist, or not in the requested schema.
	ErrMissing = errors.New("the orchestrator's tables are missing: create them with orchestrator.RunMigrations(db), and give the same schema there and here")
	// ErrOutdated means that the tables are of an older version of the library.
	ErrOutdated = errors.New("the orchestrator's tables are outdated: update them with orchestrator.RunMigrations(db)")
	// ErrChanged means that the migrations were applied, but a table is missing or differs from what they created, or
	// that the version table is not theirs. The error that wraps it names the table and says what is wrong.
	ErrChanged = errors.New("the orchestrator's tables are not as its migrations made them: restore what is named here, or drop all of them, the version table too, and run orchestrator.RunMigrations(db)")
	// ErrNewer means that a newer version of the library has updated the tables.
	ErrNewer = errors.New("the orchestrator's tables are newer than this program: update the program; orchestrator.RunMigrations(db) of the newer version made them")
)

// Run updates the coordination tables in schema, and creates the schema if it is missing. If schema is empty, Run uses
// the schema of the version table, anywhere in the connection's search_path. If there is no such table, it uses the
// schema in which new tables are created. It can be repeated, and any number of processes may call it at once. Run waits
// for locks that other sessions hold, on the tables or for their own migrations, until ctx ends. While it waits for a
// table, it lets other sessions go first, and tries again.
//
// The error wraps ErrNewer if the tables are newer than this program, and ErrChanged if they differ from what the
// migrations created.
func Run(ctx context.Context, db *pgxpool.Pool, schema string, options ...Option) error {
	return embedded.with(options).run(ctx, db, schema)
}

func (s set) run(ctx context.Context, db *pgxpool.Pool, schema string) error {
	runner, err := s.runner(schema)
	if err != nil {
		return err
	}
	return named(runner.Up(ctx, db))
}

// Down takes back the newest migrations, as many as steps says, and deletes everything stored in the tables that they
// made. Taking back the first one deletes all checkpoints. steps must be at least 1. If it is more than were applied,
// Down takes back all. No worker may be running. Only the owner of the tables may do this.
func Down(ctx context.Context, db *pgxpool.Pool, schema string, steps int, options ...Option) error {
	runner, err := embedded.with(options).runner(schema)
	if err != nil {
		return err
	}
	return named(runner.Down(ctx, db, steps))
}

// DB is the interface that Check needs. A pool, a connection and a transaction satisfy it.
type DB interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Check returns nil if this program works with the tables in schema. Otherwise its error wraps ErrMissing, ErrOutdated,
// ErrNewer or ErrChanged, or says why the database could not be asked.
func Check(ctx context.Context, db DB, schema string) error {
	_, err := Locate(ctx, db, schema)
	return err
}

// Locate checks the tables as Check does, and returns their schema. If schema is empty, that is the schema of the
// version table, anywhere in the connection's search_path.
func Locate(ctx context.Context, db DB, schema string) (string, error) {
	return embedded.locate(ctx, db, schema)
}

func (s set) locate(ctx context.Context, db DB, schema string) (string, error) {
	runner, err := s.runner(schema)
	if err != nil {
		return "", err
	}
	state, err := runner.State(ctx, db)
	if err != nil {
		return "", fmt.Errorf("checking the orchestrator's tables: %w", named(err))
	}
	if err := judge(state.Version, runner.Latest(), schema); err != nil {
		return "", err
	}
	if err := runner.Verify(ctx, db, state.Schema); err != nil {
		return "", fmt.Errorf("checking the orchestrator's tables: %w", named(err))
	}
	return state.Schema, nil
}

// judge compares a database's version with the program's. Version 0 is a
// database without the tables, with a version table or without one.
func judge(version, latest int, schema string) error {
	switch {
	case version == 0 && schema == "":
		return fmt.Errorf("%w (no schema is given, so the connection's search_path was searched)", ErrMissing)
	case version == 0:
		return fmt.Errorf("%w (the schema is %q)", ErrMissing, schema)
	case version < latest:
		return fmt.Errorf("%w (they are at version %d of %d)", ErrOutdated, version, latest)
	case version > latest:
		return fmt.Errorf("%w (they are at version %d, the program knows versions up to %d)", ErrNewer, version, latest)
	}
	return nil
}

// Latest returns the version that Run migrates to.
func Latest() int {
	runner, err := embedded.runner("")
	if err != nil {
		panic(err) // The embedded files are wrong; the package's tests find that.
	}
	return runner.Latest()
}

func (s set) runner(schema string) (*migrate.Runner, error) {
	tables, err := migrate.ParseTables(s.shapes)
	if err != nil {
		return nil, fmt.Errorf("the orchestrator's tables: %w", err)
	}
	log := s.log
	if log != nil {
		log = log.With("component", "orchestrator")
	}
	runner, err := migrate.New(migrate.Config{Files: s.files, Schema: schema, VersionTable: VersionTable, Tables: tables, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("the orchestrator's migrations: %w", err)
	}
	return runner, nil
}

// named gives a runner's error the name that this package gives it.
func named(err error) error {
	switch {
	case errors.Is(err, dbrights.ErrNotGranted):
		return err
	case errors.Is(err, migrate.ErrNewer):
		return fmt.Errorf("%w: %w", ErrNewer, err)
	case errors.Is(err, migrate.ErrShape), errors.Is(err, migrate.ErrHistory), errors.Is(err, migrate.ErrPlace):
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// ValidateSchema returns an error if the tables cannot be in schema. The error begins with field. An empty schema is
// valid and means the connection's.
func ValidateSchema(field, schema string) error { return migrate.ValidateSchema(field, schema) }
