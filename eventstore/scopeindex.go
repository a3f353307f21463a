package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// servingSQL is the condition under which an index (i, of class c, on the columns type_column and position_column) serves reads by
// scope: the rows of one type lie in it in the order of their positions, all of them, and types that are equal are the same text.
const servingSQL = `
	i.indisvalid AND i.indisready AND i.indislive AND NOT i.indcheckxmin AND i.indpred IS NULL AND i.indexprs IS NULL
	AND i.indnkeyatts >= 2 AND i.indkey[0] = type_column.attnum AND i.indkey[1] = position_column.attnum
	AND i.indoption[0] = 0 AND i.indoption[1] = 0 AND i.indcollation[0] = type_column.attcollation
	AND (SELECT amname FROM pg_catalog.pg_am WHERE oid = c.relam) = 'btree'
	AND (SELECT opcdefault FROM pg_catalog.pg_opclass WHERE oid = i.indclass[0]) AND (SELECT opcdefault FROM pg_catalog.pg_opclass WHERE oid = i.indclass[1])
	AND (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation)`

// scopeColumnsSQL are both columns of the events table, $1.
const scopeColumnsSQL = `pg_catalog.pg_attribute type_column JOIN pg_catalog.pg_attribute position_column USING (attrelid)
	WHERE attrelid = to_regclass($1) AND type_column.attname = 'aggregate_type' AND position_column.attname = 'global_position'`

const hasScopeIndexSQL = `
SELECT EXISTS (
	SELECT 1 FROM ` + scopeColumnsSQL + ` AND EXISTS (
		SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = attrelid AND ` + servingSQL + `))
WHERE $1::text::regclass IS NOT NULL AND ` + dbguard.Primary

// ownScopeIndexSQL is the index with the name $2: its name with its schema, and which process is building it, 0 if none is.
const ownScopeIndexSQL = `
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname),
	coalesce((SELECT pid FROM pg_stat_progress_create_index WHERE index_relid = c.oid LIMIT 1), 0)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass($1) AND c.relname = $2`

// indexableSQL is whether the table is there, whether its columns are, and whether types that are equal are the same text.
const indexableSQL = `
SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT 1 FROM ` + scopeColumnsSQL + `), EXISTS (
	SELECT 1 FROM ` + scopeColumnsSQL + ` AND (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation))`

// InstallScopeIndex builds an index of the events by aggregate type and position, with
// which projections that want few of the events read only those: workers find
// out within seconds that it is there, and read by it where that is quicker (see
// [ScopedReader]). It pays where projections with AggregateTypes want less than a tenth of
// the events, and catch up over many: the rest of the stream, which costs
// 0.2 µs an event, is not looked at any more. It costs each append an entry in one more index, and
// disk: about 32 bytes an event, more for long names of types.
//
// It may be called again, and does nothing if any index serves ([Store.HasScopeIndex]). One
// that an interrupted build has left behind is dropped and built anew.
// Appends go on meanwhile, since it is built CONCURRENTLY; it waits for transactions that
// are open. So db must not be in a transaction, and its role must own the table. It is an error if another
// process is building the index, if the events table is partitioned, or if the collation of aggregate_type is not deterministic.
func (s *Store) InstallScopeIndex(ctx context.Context, db Execer) error {
	if err := s.usable("installing the scope index", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("installing the scope index: %w", err)
	}
	fail := func(err error) error {
		return fmt.Errorf("installing the scope index on %s: %w", s.EventsTable().Sanitize(), outsideTransaction(err))
	}
	if err := refuseTransaction(db); err != nil {
		return fail(err)
	}
	has, err := s.HasScopeIndex(ctx, db)
	if err != nil || has {
		return err
	}
	if err := s.indexable(ctx, db); err != nil {
		return fail(err)
	}
	if err := s.dropScopeIndex(ctx, db); err != nil { // it does not serve
		return fail(err)
	}
	_, err = db.Exec(ctx, fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON %s (aggregate_type, global_position)",
		pgx.Identifier{s.scopeIndexName()}.Sanitize(), s.EventsTable().Sanitize()))
	if err != nil {
		return fail(err)
	}
	return nil
}

// indexable says why the events table cannot have the index, if it cannot.
func (s *Store) indexable(ctx context.Context, db DB) error {
	var table, columns, deterministic bool
	err := db.QueryRow(ctx, indexableSQL, s.EventsTable().Sanitize()).Scan(&table, &columns, &deterministic)
	switch {
	case err != nil:
		return err
	case !table:
		return errors.New("the table does not exist")
	case !columns:
		return errors.New("the table must have the columns aggregate_type and global_position")
	case !deterministic:
		return errors.New("the collation of aggregate_type must be deterministic")
	}
	return nil
}

// RemoveScopeIndex drops the index of InstallScopeIndex, if it is there; one of
// another name stays. Workers go back to looking through the whole stream within a second; until then a read
// may be slow. It waits for transactions that are open, and db must not be in one.
func (s *Store) RemoveScopeIndex(ctx context.Context, db Execer) error {
	if err := s.usable("removing the scope index", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("removing the scope index: %w", err)
	}
	err = refuseTransaction(db)
	if err == nil {
		err = s.dropScopeIndex(ctx, db)
	}
	if err != nil {
		return fmt.Errorf("removing the scope index from %s: %w", s.EventsTable().Sanitize(), outsideTransaction(err))
	}
	return nil
}

// HasScopeIndex says whether an index, of whatever name, serves reads with
// Query.ByScopeIndex: a complete B-tree that begins with aggregate_type and global_position, both ascending, in the
// columns' own order, of all rows, the collation being deterministic. It is an error if the table does not exist.
func (s *Store) HasScopeIndex(ctx context.Context, db DB) (bool, error) {
	if err := s.usable("looking for the scope index", db); err != nil {
		return false, err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return false, fmt.Errorf("looking for the scope index: %w", err)
	}
	var has bool
	if err := db.QueryRow(ctx, hasScopeIndexSQL, s.EventsTable().Sanitize()).Scan(&has); err != nil {
		return false, fmt.Errorf("looking for the scope index on %s: %w", s.EventsTable().Sanitize(), err)
	}
	return has, nil
}

// scopeIndexName is the index's name, within the schema of the events table.
func (s *Store) scopeIndexName() string {
	events := s.EventsTable()
	sum := sha256.Sum256([]byte("pupsourcing scope\x00" + events[len(events)-1]))
	return "pupsourcing_scope_" + hex.EncodeToString(sum[:8])
}

// dropScopeIndex drops the index of that name, if there is one that nobody is building.
func (s *Store) dropScopeIndex(ctx context.Context, db Execer) error {
	var name string
	var builder int
	switch err := db.QueryRow(ctx, ownScopeIndexSQL, s.EventsTable().Sanitize(), s.scopeIndexName()).Scan(&name, &builder); {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	case builder != 0:
		return fmt.Errorf("it is being built by the process %d of the server", builder)
	}
	_, err := db.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+name)
	return err
}

// errInTransaction says why a concurrent build is refused.
var errInTransaction = errors.New("db must not be in a transaction: PostgreSQL builds and drops an index without holding up appends only outside of one")

// refuseTransaction returns an error for a pgx.Tx, before a statement that fails spoils it.
func refuseTransaction(db Execer) error {
	if _, in := db.(pgx.Tx); in {
		return errInTransaction
	}
	return nil
}

// activeTransaction is the SQLSTATE of what must not be in a transaction.
const activeTransaction = "25001"

// outsideTransaction gives PostgreSQL's refusal the reason.
func outsideTransaction(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == activeTransaction {
		return fmt.Errorf("%w (%w)", errInTransaction, err)
	}
	return err
}
