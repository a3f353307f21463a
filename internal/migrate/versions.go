package migrate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lockKey is the advisory lock under which a database is migrated. All schemas
// and version tables share it: migrations are rare, and two spellings of one
// schema cannot pass each other.
const lockKey int64 = 0x7075_706d_6967_7261

const (
	lockSQL         = `SELECT pg_advisory_xact_lock($1)`
	schemaExistsSQL = `SELECT to_regnamespace($1) IS NOT NULL`
	tableExistsSQL  = `SELECT to_regclass($1) IS NOT NULL`
	createSchemaSQL = `CREATE SCHEMA %s`
	createTableSQL  = `CREATE TABLE %s (
		version    int         PRIMARY KEY,
		name       text        NOT NULL,
		applied_at timestamptz NOT NULL DEFAULT now()
	)`
	readVersionSQL   = `SELECT coalesce(max(version), 0) FROM %s`
	insertVersionSQL = `INSERT INTO %s (version, name) VALUES ($1, $2)`
	deleteVersionSQL = `DELETE FROM %s WHERE version = $1`
)

// oneTrip makes pgx send statement and arguments together, with no prepared
// statement that a transaction pooler could lose.
const oneTrip = pgx.QueryExecModeExec

// Querier is what reading a version needs: a pool, a connection or a
// transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Version reads the version that the database is at, without a lock. It is 0,
// and known is false, where there is no version table.
func (r *Runner) Version(ctx context.Context, db Querier) (version int, known bool, err error) {
	known, err = exists(ctx, db, tableExistsSQL, r.versions)
	if err != nil || !known {
		return 0, false, err
	}
	version, err = r.readVersion(ctx, db)
	return version, true, err
}

// lockVersion takes the lock until the transaction ends, makes sure of the
// schema and the version table, and reads the version. A version beyond the
// latest is ErrNewer.
func (r *Runner) lockVersion(ctx context.Context, tx pgx.Tx) (int, error) {
	if _, err := tx.Exec(ctx, lockSQL, oneTrip, lockKey); err != nil {
		return 0, fmt.Errorf("waiting for the migration lock: %w", err)
	}
	if err := r.ensureSchema(ctx, tx); err != nil {
		return 0, err
	}
	if err := r.ensureVersionTable(ctx, tx); err != nil {
		return 0, err
	}
	version, err := r.readVersion(ctx, tx)
	if err != nil {
		return 0, err
	}
	if version > r.Latest() {
		return 0, fmt.Errorf("%w: it is at version %d, this program knows versions up to %d", ErrNewer, version, r.Latest())
	}
	return version, nil
}

// ensureSchema creates the configured schema if it is missing. IF NOT EXISTS
// would demand the right to create even where there is nothing to create.
func (r *Runner) ensureSchema(ctx context.Context, tx pgx.Tx) error {
	if r.schema == "" {
		return nil
	}
	schema := pgx.Identifier{r.schema}
	found, err := exists(ctx, tx, schemaExistsSQL, schema)
	if err != nil || found {
		return err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(createSchemaSQL, schema.Sanitize())); err != nil {
		return fmt.Errorf("creating the schema %s: %w", schema.Sanitize(), err)
	}
	return nil
}

// ensureVersionTable creates the version table if it is missing.
func (r *Runner) ensureVersionTable(ctx context.Context, tx pgx.Tx) error {
	found, err := exists(ctx, tx, tableExistsSQL, r.versions)
	if err != nil || found {
		return err
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(createTableSQL, r.versions.Sanitize())); err != nil {
		return fmt.Errorf("creating the version table: %w", err)
	}
	return nil
}

func (r *Runner) readVersion(ctx context.Context, db Querier) (version int, err error) {
	row := db.QueryRow(ctx, fmt.Sprintf(readVersionSQL, r.versions.Sanitize()), oneTrip)
	if err := row.Scan(&version); err != nil {
		return 0, fmt.Errorf("reading the version table %s: %w", r.versions.Sanitize(), err)
	}
	return version, nil
}

func (r *Runner) insertVersion(ctx context.Context, tx pgx.Tx, m migration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(insertVersionSQL, r.versions.Sanitize()), oneTrip, m.version, m.name)
	return err
}

func (r *Runner) deleteVersion(ctx context.Context, tx pgx.Tx, m migration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(deleteVersionSQL, r.versions.Sanitize()), oneTrip, m.version)
	return err
}

// TableExists says whether the table exists, a two-part name in its schema, a
// one-part name where the connection's search_path finds it.
func TableExists(ctx context.Context, db Querier, table pgx.Identifier) (bool, error) {
	return exists(ctx, db, tableExistsSQL, table)
}

// exists asks sql, which takes one quoted name, for a truth value.
func exists(ctx context.Context, db Querier, sql string, name pgx.Identifier) (found bool, err error) {
	if err := db.QueryRow(ctx, sql, oneTrip, name.Sanitize()).Scan(&found); err != nil {
		return false, fmt.Errorf("looking for %s: %w", name.Sanitize(), err)
	}
	return found, nil
}
