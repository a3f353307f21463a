package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
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
	// Tables are what the program relies on after the last migration. It is made sure of before that is committed, and whenever
	// there is nothing to do. See Table.Since for earlier ones.
	Tables []Table
	// Home is a table, without its schema, that may have been there before the version table. Where no Schema is
	// set the others are in its schema. Empty means none.
	Home string
	// ByPath says that the program names the tables without their schema where none is set, so the search_path must lead to these.
	ByPath bool
	// Placeholders are the values of {{name}} in the files, besides {{schema}}.
	Placeholders map[string]string
	// Logger hears of every applied migration. Nil means nobody does.
	Logger *slog.Logger
}

// Runner applies one set of files. It holds no connection and may be used by
// several goroutines.
type Runner struct {
	migrations   []migration
	schema       string // the configured one
	versionTable string
	tables       []Table
	home         string
	byPath       bool
	log          *slog.Logger
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
		migrations:   migrations,
		schema:       cfg.Schema,
		versionTable: cfg.VersionTable,
		tables:       cfg.Tables,
		home:         cfg.Home,
		byPath:       cfg.ByPath,
		log:          log,
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
		done, err := r.step(ctx, db, r.applyNext, r.explain)
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
		done, err := r.step(ctx, db, r.revertLast, r.explainDown)
		if err != nil || done {
			return err
		}
	}
	return nil
}

// transaction is READ COMMITTED whatever the session's default is: with an
// older snapshot the version read after waiting for the lock would be stale.
var transaction = pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite}

// step runs one migration in a transaction, under the lock. act is given where the tables are and the
// version found there, and names the file that it ran, or none if nothing is
// left to do. explain adds to its failure what the role lacks. It gives way to transactions that use the tables, and tries again: see patience.
func (r *Runner) step(ctx context.Context, db *pgxpool.Pool, act func(context.Context, pgx.Tx, place, int) (string, error),
	explain func(context.Context, *pgxpool.Pool, error) error,
) (done bool, err error) {
	var ran string
	var p place
	for w := newPatience(); ; {
		err = pgx.BeginTxFunc(ctx, db, transaction, func(tx pgx.Tx) error {
			var version int
			if p, version, err = r.lockVersion(ctx, pooledTx{tx, db}, w); err != nil {
				return err
			}
			ran, err = act(ctx, tx, p, version)
			return err
		})
		if ctx.Err() != nil || !w.again(err) {
			break
		}
		if err = w.pause(ctx, r.log, err); err != nil {
			break
		}
	}
	if ended := ctx.Err(); err != nil && ended != nil {
		if !errors.Is(err, ended) { // the pool may have the server cancel statements, whose error is returned then
			err = fmt.Errorf("%w: %w", ended, err)
		}
		return false, fmt.Errorf("migrating %s: %w", Qualify(r.schema, r.versionTable).Sanitize(), err)
	}
	if err != nil {
		return false, fmt.Errorf("migrating %s: %w", Qualify(r.schema, r.versionTable).Sanitize(), explain(ctx, db, err))
	}
	if ran == "" {
		return true, nil
	}
	r.log.InfoContext(ctx, "a migration was run", "file", ran, "schema", p.schema)
	return false, nil
}

// applyNext applies the migration after version. At the last version it makes sure of the tables.
func (r *Runner) applyNext(ctx context.Context, tx pgx.Tx, p place, version int) (ran string, err error) {
	if version == r.Latest() {
		return "", Verify(ctx, tx, p.schema, r.tables)
	}
	next := r.migrations[version]
	if err := run(ctx, tx, next.up, next.version); err != nil {
		if version == 0 && dbfault.Code(err) == duplicateTable {
			err = r.madeElsewhere(p, err)
		}
		return "", err
	}
	if err := r.insertVersion(ctx, tx, p, next); err != nil {
		return "", fmt.Errorf("migration file %s (version %d): recording it: %w", next.up.name, next.version, err)
	}
	if tables := r.tablesAt(next.version); len(tables) > 0 {
		if err := Verify(ctx, tx, p.schema, tables); err != nil {
			return "", fmt.Errorf("after migration file %s (version %d), which is taken back: %w", next.up.name, next.version, err)
		}
	}
	return next.up.name, nil
}

// tablesAt are the tables that are made sure of at a version: all at the last one.
func (r *Runner) tablesAt(version int) []Table {
	if version == r.Latest() {
		return r.tables
	}
	return slices.DeleteFunc(slices.Clone(r.tables), func(t Table) bool { return t.Since == 0 || t.Since > version })
}

// revertLast reverts the migration that led to version.
func (r *Runner) revertLast(ctx context.Context, tx pgx.Tx, p place, version int) (ran string, err error) {
	if version == 0 {
		return "", nil
	}
	last := r.migrations[version-1]
	if err := run(ctx, tx, last.down, last.version); err != nil {
		return "", err
	}
	if err := r.deleteVersion(ctx, tx, p, last); err != nil {
		return "", fmt.Errorf("migration file %s (version %d): removing its record: %w", last.down.name, last.version, err)
	}
	return last.down.name, nil
}

// Verify makes sure of the tables that the program relies on. The error wraps ErrShape if one is not as it must be.
func (r *Runner) Verify(ctx context.Context, db Querier, schema string) error {
	return Verify(ctx, db, schema, r.tables)
}

// run executes a file. Without arguments pgx speaks the simple protocol, which
// takes several statements at once.
func run(ctx context.Context, tx pgx.Tx, f file, version int) error {
	if _, err := tx.Exec(ctx, f.sql); err != nil {
		return fmt.Errorf("migration file %s (version %d): %w", f.name, version, err)
	}
	return nil
}
