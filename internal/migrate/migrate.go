package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNewer says that the database has been migrated further than the files
// reach: a newer program has been here.
var ErrNewer = errors.New("the database's schema is newer than this program")

// Config says what to migrate.
type Config struct {
	// Files holds the numbered pairs at its root.
	Files fs.FS
	// Schema is the schema that the tables go to; it is created if it is
	// missing. Empty means what the connection's search_path says.
	Schema string
	// VersionTable is the name of the version table, without a schema.
	VersionTable string
	// Placeholders are the values of {{name}} in the files, besides {{schema}}.
	Placeholders map[string]string
	// Logger hears of every applied migration. Nil means nobody does.
	Logger *slog.Logger
}

// Runner applies one set of files. It holds no connection and may be used by
// several goroutines.
type Runner struct {
	migrations []migration
	schema     string
	versions   pgx.Identifier
	log        *slog.Logger
}

// New reads and checks the files.
func New(cfg Config) (*Runner, error) {
	if err := ValidateSchema("Schema", cfg.Schema); err != nil {
		return nil, err
	}
	if err := ValidateName("VersionTable", cfg.VersionTable); err != nil {
		return nil, err
	}
	values := map[string]string{"schema": ""}
	maps.Copy(values, cfg.Placeholders)
	if cfg.Schema != "" {
		values["schema"] = pgx.Identifier{cfg.Schema}.Sanitize() + "."
	}
	migrations, err := load(cfg.Files, values)
	if err != nil {
		return nil, err
	}
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Runner{
		migrations: migrations,
		schema:     cfg.Schema,
		versions:   Qualify(cfg.Schema, cfg.VersionTable),
		log:        log,
	}, nil
}

// Latest is the version that Up migrates to.
func (r *Runner) Latest() int { return len(r.migrations) }

// Up applies what is missing, each file in its own transaction. It is a no-op
// for a database at the latest version, and then needs no right to create
// anything. What was applied before an error stays applied; a later call
// carries on from there. A database beyond the latest version is ErrNewer.
func (r *Runner) Up(ctx context.Context, db *pgxpool.Pool) error {
	for {
		done, err := r.step(ctx, db, r.applyNext)
		if err != nil || done {
			return err
		}
	}
}

// Down reverts the given number of migrations, newest first, each in its own
// transaction, and stops early where none is left. The version table and the
// schema stay. Steps must be at least 1.
func (r *Runner) Down(ctx context.Context, db *pgxpool.Pool, steps int) error {
	if steps < 1 {
		return fmt.Errorf("steps must be at least 1, got %d", steps)
	}
	for range steps {
		done, err := r.step(ctx, db, r.revertLast)
		if err != nil || done {
			return err
		}
	}
	return nil
}

// transaction is READ COMMITTED whatever the session's default is: with an
// older snapshot the version read after waiting for the lock would be stale.
var transaction = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// step runs one migration in a transaction, under the lock. act is given the
// version found there and names the file that it ran, or none if nothing is
// left to do.
func (r *Runner) step(ctx context.Context, db *pgxpool.Pool, act func(context.Context, pgx.Tx, int) (string, error)) (done bool, err error) {
	var ran string
	err = pgx.BeginTxFunc(ctx, db, transaction, func(tx pgx.Tx) error {
		version, err := r.lockVersion(ctx, tx)
		if err != nil {
			return err
		}
		ran, err = act(ctx, tx, version)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("migrating %s: %w", r.versions.Sanitize(), err)
	}
	if ran == "" {
		return true, nil
	}
	r.log.InfoContext(ctx, "A migration was run", "file", ran, "schema", r.schema)
	return false, nil
}

// applyNext applies the migration after version.
func (r *Runner) applyNext(ctx context.Context, tx pgx.Tx, version int) (ran string, err error) {
	if version == r.Latest() {
		return "", nil
	}
	next := r.migrations[version]
	if err := run(ctx, tx, next.up, next.version); err != nil {
		return "", err
	}
	if err := r.insertVersion(ctx, tx, next); err != nil {
		return "", fmt.Errorf("migration file %s (version %d): recording it: %w", next.up.name, next.version, err)
	}
	return next.up.name, nil
}

// revertLast reverts the migration that led to version.
func (r *Runner) revertLast(ctx context.Context, tx pgx.Tx, version int) (ran string, err error) {
	if version == 0 {
		return "", nil
	}
	last := r.migrations[version-1]
	if err := run(ctx, tx, last.down, last.version); err != nil {
		return "", err
	}
	if err := r.deleteVersion(ctx, tx, last); err != nil {
		return "", fmt.Errorf("migration file %s (version %d): removing its record: %w", last.down.name, last.version, err)
	}
	return last.down.name, nil
}

// run executes a file. Without arguments pgx speaks the simple protocol, which
// takes several statements at once.
func run(ctx context.Context, tx pgx.Tx, f file, version int) error {
	if _, err := tx.Exec(ctx, f.sql); err != nil {
		return fmt.Errorf("migration file %s (version %d): %w", f.name, version, err)
	}
	return nil
}
