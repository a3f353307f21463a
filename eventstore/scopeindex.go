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

// ownScopeIndexesSQL lists the indexes with the name $2, and those that were set aside under a name that begins with it: their oids and
// names, and whether they serve.
const ownScopeIndexesSQL = `
SELECT c.oid, c.relname::text, EXISTS (SELECT 1 FROM ` + scopeColumnsSQL + ` AND attrelid = i.indrelid AND ` + servingSQL + `)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND (c.relname = $2::text OR pg_catalog.starts_with(c.relname::text, $2::text || '_'))
	AND ` + dbguard.Primary

// indexableSQL is whether the table is there, whether it is partitioned, whether its columns are there, and whether types that are equal
// are the same text.
const indexableSQL = `
SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT 1 FROM pg_catalog.pg_partitioned_table WHERE partrelid = to_regclass($1)), EXISTS (SELECT 1 FROM ` + scopeColumnsSQL + `), EXISTS (
	SELECT 1 FROM ` + scopeColumnsSQL + ` AND (SELECT collisdeterministic FROM pg_catalog.pg_collation WHERE oid = type_column.attcollation))`

// InstallScopeIndex builds an index of the events by aggregate type and position, with
// which projections that want few of the events read only those: workers find
// out within seconds that it is there, and read by it where that is quicker.
// It pays where projections with AggregateTypes want less than a tenth of
// the events, and catch up over many: the rest of the stream, which costs
// 0.2 µs an event, is not looked at any more. It costs each append an entry in one more index, and
// disk: about 32 bytes an event, more for long names of types.
//
// It may be called again, and by several processes at once. It does nothing if any index serves ([Store.HasScopeIndex]), and builds one
// again that an interrupted build has left behind. If a build fails, what it leaves is dropped, or the error says that it could not be.
//
// Appends go on meanwhile, since the index is built CONCURRENTLY. It waits for transactions that
// are open, and for other builds, until ctx ends. db must be a pool or a connection, and not in a transaction. While the index is
// built, another connection, opened with db's configuration, holds a lock. The role must own the table, and needs CREATE on its schema;
// an error names the right that is missing and its GRANT. The role's
// timeouts do not apply, except behind a pooler, where they can end the build: use a direct connection there. It is an error
// if the events table is partitioned, or if the collation of aggregate_type is not deterministic.
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
	if err := s.buildIndex(ctx, db); err != nil {
		return fail(s.nameMissingRights(ctx, db, err, rightsOfIndex))
	}
	return nil
}

// indexable says why the events table cannot have the index, if it cannot.
func (s *Store) indexable(ctx context.Context, db DB) error {
	var table, partitioned, columns, deterministic bool
	err := db.QueryRow(ctx, indexableSQL, s.EventsTable().Sanitize()).Scan(&table, &partitioned, &columns, &deterministic)
	switch {
	case err != nil:
		return err
	case !table:
		return errors.New("the table does not exist")
	case partitioned:
		return errors.New("the table is partitioned, and PostgreSQL builds no index of such a table CONCURRENTLY: " +
			"create an index on (aggregate_type, global_position) yourself, as the documentation of CREATE INDEX says")
	case !columns:
		return errors.New("the table must have the columns aggregate_type and global_position")
	case !deterministic:
		return errors.New("the collation of aggregate_type must be deterministic")
	}
	return nil
}

// RemoveScopeIndex drops the index of InstallScopeIndex, if it is there; one of
// another name stays. Workers go back to looking through the whole stream within a second; until then a read
// may be slow. It waits for transactions that are open and for builds, until ctx ends. db and the role's rights are as for
// InstallScopeIndex.
func (s *Store) RemoveScopeIndex(ctx context.Context, db Execer) error {
	if err := s.usable("removing the scope index", db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("removing the scope index: %w", err)
	}
	err = refuseTransaction(db)
	var own []scopeIndex
	if err == nil {
		own, err = s.ownScopeIndexes(ctx, db)
	}
	if err == nil && len(own) > 0 {
		err = s.changeIndex(ctx, db, func(ctx context.Context, db Execer) error { return s.dropScopeIndexes(ctx, db, true) })
	}
	if err != nil {
		err = s.nameMissingRights(ctx, db, outsideTransaction(err), rightsOfIndex)
		return fmt.Errorf("removing the scope index from %s: %w", s.EventsTable().Sanitize(), err)
	}
	return nil
}

// HasScopeIndex says whether an index, of whatever name, serves as the scope index does:
// a complete B-tree that begins with aggregate_type and global_position, both ascending, in the
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

// scopeIndex is an index that InstallScopeIndex has made, or begun to make.
type scopeIndex struct {
	oid    uint32
	name   string
	serves bool
}

// ownScopeIndexes lists those of the events table.
func (s *Store) ownScopeIndexes(ctx context.Context, db DB) ([]scopeIndex, error) {
	rows, err := db.Query(ctx, ownScopeIndexesSQL, pgx.QueryExecModeExec, s.EventsTable().Sanitize(), s.scopeIndexName())
	if err != nil {
		return nil, fmt.Errorf("looking for earlier indexes: %w", err)
	}
	own, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i scopeIndex, err error) {
		err = row.Scan(&i.oid, &i.name, &i.serves)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for earlier indexes: %w", err)
	}
	return own, nil
}

// dropScopeIndexes drops those that do not serve, or all of them.
//
// Somebody may be building an index that is not valid, and it may be finished by the time it is dropped. A build holds the table's SHARE
// UPDATE EXCLUSIVE lock. So what is to be dropped is found under this lock, which does not stall appends, and set aside under another
// name before it is dropped without the lock. The lock is tried for without waiting, since a build waits for transactions that wait for
// it.
func (s *Store) dropScopeIndexes(ctx context.Context, db Execer, all bool) error {
	own, err := s.ownScopeIndexes(ctx, db)
	if err != nil || len(own) == 0 {
		return err
	}
	aside, err := s.setAside(ctx, db, all)
	if err != nil {
		return err
	}
	for _, name := range aside {
		if _, err := db.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+name); err != nil {
			return fmt.Errorf("dropping an earlier index: %w", err)
		}
	}
	return nil
}

// setAside renames the indexes that are to be dropped, and returns their names.
func (s *Store) setAside(ctx context.Context, db Execer, all bool) (aside []string, err error) {
	err = inTransaction(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE `+s.EventsTable().Sanitize()+` IN SHARE UPDATE EXCLUSIVE MODE NOWAIT`); err != nil {
			return fmt.Errorf("waiting for a session that builds an index of the table, or vacuums it: %w", err)
		}
		own, err := s.ownScopeIndexes(ctx, tx)
		if err != nil {
			return err
		}
		for _, i := range own {
			if i.serves && !all {
				continue
			}
			name := fmt.Sprintf("%s_%d", s.scopeIndexName(), i.oid)
			aside = append(aside, pgx.Identifier{s.EventsTable()[0], name}.Sanitize())
			if name == i.name {
				continue
			}
			rename := "ALTER INDEX " + pgx.Identifier{s.EventsTable()[0], i.name}.Sanitize() + " RENAME TO " + pgx.Identifier{name}.Sanitize()
			if _, err := tx.Exec(ctx, rename); err != nil {
				return fmt.Errorf("setting an earlier index aside: %w", err)
			}
		}
		return nil
	})
	return aside, err
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
