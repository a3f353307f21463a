package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbrights"
)

// lockKey is the advisory lock under which a database is migrated. All schemas
// and version tables share it: migrations are rare, and two spellings of one
// schema cannot pass each other.
const lockKey int64 = 0x7075_706d_6967_7261

const (
	lockSQL         = `SELECT pg_catalog.pg_advisory_xact_lock($1)`
	patienceSQL     = `SELECT pg_catalog.set_config(name, '0', true) FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout')`
	schemaExistsSQL = `SELECT pg_catalog.to_regnamespace($1) IS NOT NULL AND ` + dbguard.Primary
	tableExistsSQL  = `SELECT pg_catalog.to_regclass($1) IS NOT NULL AND ` + dbguard.Primary
	createSchemaSQL = `CREATE SCHEMA %s`
	createTableSQL  = `CREATE TABLE IF NOT EXISTS %s (
		version    int         PRIMARY KEY,
		name       text        NOT NULL,
		applied_at timestamptz NOT NULL DEFAULT now()
	)`
	readVersionsSQL  = `SELECT coalesce(pg_catalog.array_agg(version ORDER BY version), '{}'), coalesce(pg_catalog.array_agg(name ORDER BY version), '{}') FROM %s`
	insertVersionSQL = `INSERT INTO %s (version, name) VALUES ($1, $2)`
	deleteVersionSQL = `DELETE FROM %s WHERE version = $1`
)

// ErrHistory says that the version table has not the rows that these migrations leave: it is another program's, or somebody
// changed it. The text around it says which row is wrong.
var ErrHistory = errors.New("the version table does not tell which migrations were applied")

// oneTrip makes pgx send statement and arguments together, with no prepared
// statement that a transaction pooler could lose.
const oneTrip = pgx.QueryExecModeExec

// Querier is what reading a version needs: a pool, a connection or a
// transaction.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// State is what a database says of its migrations.
type State struct {
	Schema  string // where the tables are, or would be made
	Version int    // 0 where there is no version table
}

// State reads which version the database is at, without a lock.
func (r *Runner) State(ctx context.Context, db Querier) (State, error) {
	p, err := r.locate(ctx, db)
	switch {
	case errors.Is(err, errNoSchema):
		return State{}, nil
	case err != nil || !p.created:
		return State{Schema: p.schema}, dbrights.Explain(ctx, db, err, r.toRead())
	}
	version, err := r.readVersion(ctx, db, p)
	return State{p.schema, version}, dbrights.Explain(ctx, db, err, r.toRead())
}

// toRead is the rights that reading the version needs.
func (r *Runner) toRead() []dbrights.Need {
	return []dbrights.Need{dbrights.On(Qualify(r.schema, r.versionTable), "SELECT")}
}

// explain adds to a migration's failure the right that the role lacks. What is asked for first is needed first.
func (r *Runner) explain(ctx context.Context, db *pgxpool.Pool, err error) error {
	schema := dbrights.Need{Kind: dbrights.Schema, Schema: r.schema, Rights: []string{"USAGE", "CREATE"}}
	if errors.Is(err, errNoSchema) {
		return dbrights.Add(ctx, db, err, []dbrights.Need{schema})
	}
	var database []dbrights.Need
	if r.schema != "" {
		database = append(database, dbrights.Need{Kind: dbrights.Database, Rights: []string{"CREATE"}})
	}
	versions := dbrights.On(Qualify(r.schema, r.versionTable), "SELECT", "INSERT")
	return dbrights.Explain(ctx, db, err, r.toRead(), []dbrights.Need{schema}, []dbrights.Need{versions}, r.owned(), database)
}

// explainDown is explain for a migration that is taken back. No other right than the ownership of the tables allows that.
func (r *Runner) explainDown(ctx context.Context, db *pgxpool.Pool, err error) error {
	explained := dbrights.Explain(ctx, db, err, r.toRead())
	if errors.Is(explained, dbrights.ErrNotGranted) {
		return explained
	}
	if explained = dbrights.Explain(ctx, db, err, r.owned()); errors.Is(explained, dbrights.ErrNotGranted) {
		return fmt.Errorf("only the owner of the tables can take migrations back: run this as that role, or as a member of it: %w", explained)
	}
	return dbrights.Explain(ctx, db, err, []dbrights.Need{dbrights.On(Qualify(r.schema, r.versionTable), "DELETE")})
}

// owned is the ownership of the tables.
func (r *Runner) owned() (owned []dbrights.Need) {
	for _, t := range r.tables {
		owned = append(owned, dbrights.Owned(Qualify(r.schema, t.Name)))
	}
	return owned
}

// lockVersion takes the lock until the transaction ends, makes sure of the
// schema and the version table, and reads the version. A version beyond the
// latest is ErrNewer. A migration may take as long as it needs: the context bounds it, and the role's lock_timeout its waits.
func (r *Runner) lockVersion(ctx context.Context, tx pgx.Tx, w *patience) (place, int, error) {
	if _, err := tx.Exec(ctx, patienceSQL, oneTrip); err != nil {
		return place{}, 0, fmt.Errorf("setting the timeouts: %w", err)
	}
	if _, err := tx.Exec(ctx, lockSQL, oneTrip, lockKey); err != nil {
		return place{}, 0, fmt.Errorf("waiting for the migration lock: %w", err)
	}
	if err := w.limit(ctx, tx); err != nil {
		return place{}, 0, err
	}
	if err := r.ensureSchema(ctx, tx); err != nil {
		return place{}, 0, err
	}
	p, err := r.locate(ctx, tx)
	if err != nil {
		return place{}, 0, err
	}
	if err := r.checkPath(ctx, tx, p); err != nil {
		return place{}, 0, err
	}
	if err := enter(ctx, tx, p); err != nil {
		return place{}, 0, err
	}
	if err := r.ensureVersionTable(ctx, tx, p); err != nil {
		return place{}, 0, err
	}
	version, err := r.readVersion(ctx, tx, p)
	if err != nil {
		return place{}, 0, err
	}
	if version > r.Latest() {
		return place{}, 0, fmt.Errorf("%w: it is at version %d, this program knows versions up to %d", ErrNewer, version, r.Latest())
	}
	return p, version, nil
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
func (r *Runner) ensureVersionTable(ctx context.Context, tx pgx.Tx, p place) error {
	if p.created {
		return nil
	}
	if _, err := tx.Exec(ctx, fmt.Sprintf(createTableSQL, r.versions(p))); err != nil {
		return fmt.Errorf("creating the version table: %w", err)
	}
	return nil
}

// versions is the version table as SQL names it.
func (r *Runner) versions(p place) string { return pgx.Identifier{p.schema, r.versionTable}.Sanitize() }

// versionShape is what the version table must be.
func (r *Runner) versionShape() Table {
	return Table{
		Name: r.versionTable, AllRows: true, Permanent: true, Unique: [][]string{{"version"}},
		Columns: []Column{
			{Name: "version", Types: []string{"integer"}, NotNull: true},
			{Name: "name", Types: []string{"text"}, NotNull: true},
		},
	}
}

// readVersion reads the version that the database is at, and makes sure that the rows are those of these migrations.
func (r *Runner) readVersion(ctx context.Context, db Querier, p place) (int, error) {
	if err := Verify(ctx, db, p.schema, []Table{r.versionShape()}); err != nil {
		return 0, err
	}
	var versions []int32
	var names []string
	row := db.QueryRow(ctx, fmt.Sprintf(readVersionsSQL, r.versions(p)), oneTrip)
	if err := row.Scan(&versions, &names); err != nil {
		return 0, fmt.Errorf("reading the version table %s: %w", r.versions(p), err)
	}
	version := 0
	for i, found := range versions {
		version = int(found)
		switch {
		case version > r.Latest(): // of a newer program, which may number its migrations as it likes
		case version != i+1:
			return 0, fmt.Errorf("%w: %s has a row for version %d, and none for version %d", ErrHistory, r.versions(p), version, i+1)
		case names[i] != r.migrations[i].name:
			return 0, fmt.Errorf("%w: %s says that version %d is %q, this program's is %q: another program has a version table with this name",
				ErrHistory, r.versions(p), version, names[i], r.migrations[i].name)
		}
	}
	return version, nil
}

func (r *Runner) insertVersion(ctx context.Context, tx pgx.Tx, p place, m migration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(insertVersionSQL, r.versions(p)), oneTrip, m.version, m.name)
	return err
}

func (r *Runner) deleteVersion(ctx context.Context, tx pgx.Tx, p place, m migration) error {
	_, err := tx.Exec(ctx, fmt.Sprintf(deleteVersionSQL, r.versions(p)), oneTrip, m.version)
	return err
}

// exists asks sql, which takes one quoted name, for a truth value.
func exists(ctx context.Context, db Querier, sql string, name pgx.Identifier) (found bool, err error) {
	if err := db.QueryRow(ctx, sql, oneTrip, name.Sanitize()).Scan(&found); err != nil {
		return false, fmt.Errorf("looking for %s: %w", name.Sanitize(), err)
	}
	return found, nil
}

// duplicateTable is the SQLSTATE of a table that is there already.
const duplicateTable = "42P07"

// madeElsewhere says what to do where there are tables and no version table, as another migration tool leaves them that was given a
// copy of the files.
func (r *Runner) madeElsewhere(p place, err error) error {
	values := make([]string, len(r.migrations))
	for i, m := range r.migrations {
		values[i] = fmt.Sprintf("(%d, '%s')", m.version, m.name)
	}
	return fmt.Errorf("%w: something is there already, but %s has no rows: drop what is there; or, if another tool has made the tables from "+
		"a copy of these files, record the versions that it applied, and call this again: %s; INSERT INTO %s (version, name) VALUES %s: %w",
		ErrHistory, r.versions(p), strings.Join(strings.Fields(fmt.Sprintf(createTableSQL, r.versions(p))), " "), r.versions(p), strings.Join(values, ", "), err)
}
