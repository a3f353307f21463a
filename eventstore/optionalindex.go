package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// indexKind is an optional index of the events table, which workers read by.
type indexKind struct {
	word    string // in names and errors: "scope"
	built   string // what it is built on, as CREATE INDEX has it
	columns []string
	// table is FROM and WHERE of the events table, $1, with its columns. serving is whether an index (i, of class c) of it serves.
	table, serving string
	// refused says for which rows of the table there can be no index, and why.
	refused, why string
	methods      string // that install and remove it
}

// completeSQL is the condition under which an index (i, of class c) has all rows and is used for reading.
const completeSQL = `
	i.indisvalid AND i.indisready AND i.indislive AND NOT i.indcheckxmin AND i.indpred IS NULL
	AND (SELECT amname FROM pg_catalog.pg_am WHERE oid = c.relam) = 'btree' AND i.indoption[0] = 0
	AND (SELECT opcdefault FROM pg_catalog.pg_opclass WHERE oid = i.indclass[0])`

// hasSQL says whether an index serves.
func (k *indexKind) hasSQL() string {
	return `
SELECT EXISTS (
	SELECT 1 FROM ` + k.table + ` AND EXISTS (
		SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = attrelid AND ` + k.serving + `))
WHERE $1::text::regclass IS NOT NULL AND ` + dbguard.Primary
}

// ownSQL lists the indexes with the name $2, and those that were set aside under a name that begins with it: their oids and
// names, and whether they serve.
func (k *indexKind) ownSQL() string {
	return `
SELECT c.oid, c.relname::text, EXISTS (SELECT 1 FROM ` + k.table + ` AND attrelid = i.indrelid AND ` + k.serving + `)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND (c.relname = $2::text OR pg_catalog.starts_with(c.relname::text, $2::text || '_'))
	AND ` + dbguard.Primary
}

// indexableSQL is whether the table is there, whether it is partitioned, whether its columns are there, and whether it is refused.
func (k *indexKind) indexableSQL() string {
	return `
SELECT to_regclass($1) IS NOT NULL, EXISTS (SELECT 1 FROM pg_catalog.pg_partitioned_table WHERE partrelid = to_regclass($1)), EXISTS (SELECT 1 FROM ` + k.table + `), EXISTS (
	SELECT 1 FROM ` + k.table + ` AND ` + k.refused + `)`
}

// installIndex does what InstallScopeIndex says.
func (s *Store) installIndex(ctx context.Context, db Execer, kind *indexKind) error {
	doing := "installing the " + kind.word + " index"
	if err := s.usable(doing, db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	fail := func(err error) error {
		return fmt.Errorf("%s on %s: %w", doing, s.EventsTable().Sanitize(), outsideTransaction(err))
	}
	if err := refuseTransaction(db); err != nil {
		return fail(err)
	}
	has, err := s.hasIndex(ctx, db, kind)
	if err != nil || has {
		return err
	}
	if err := s.indexable(ctx, db, kind); err != nil {
		return fail(err)
	}
	if err := s.buildIndex(ctx, db, kind); err != nil {
		return fail(s.nameMissingRights(ctx, db, err, rightsOfIndex))
	}
	return nil
}

// indexable says why the events table cannot have the index, if it cannot.
func (s *Store) indexable(ctx context.Context, db DB, kind *indexKind) error {
	var table, partitioned, columns, refused bool
	err := db.QueryRow(ctx, kind.indexableSQL(), s.EventsTable().Sanitize()).Scan(&table, &partitioned, &columns, &refused)
	switch {
	case err != nil:
		return err
	case !table:
		return errors.New("the table does not exist")
	case partitioned:
		return fmt.Errorf("the table is partitioned, and PostgreSQL builds no index of such a table CONCURRENTLY: "+
			"create an index on %s yourself, as the documentation of CREATE INDEX says", kind.built)
	case !columns:
		return fmt.Errorf("the table must have the columns %s and %s", kind.columns[0], kind.columns[1])
	case refused:
		return errors.New(kind.why)
	}
	return nil
}

// removeIndex does what RemoveScopeIndex says.
func (s *Store) removeIndex(ctx context.Context, db Execer, kind *indexKind) error {
	doing := "removing the " + kind.word + " index"
	if err := s.usable(doing, db); err != nil {
		return err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	err = refuseTransaction(db)
	var own []ownIndex
	if err == nil {
		own, err = s.ownIndexes(ctx, db, kind)
	}
	if err == nil && len(own) > 0 {
		err = s.changeIndex(ctx, db, func(ctx context.Context, db Execer) error { return s.dropIndexes(ctx, db, kind, true) })
	}
	if err != nil {
		err = s.nameMissingRights(ctx, db, outsideTransaction(err), rightsOfIndex)
		return fmt.Errorf("%s from %s: %w", doing, s.EventsTable().Sanitize(), err)
	}
	return nil
}

// hasIndex does what HasScopeIndex says.
func (s *Store) hasIndex(ctx context.Context, db DB, kind *indexKind) (bool, error) {
	doing := "looking for the " + kind.word + " index"
	if err := s.usable(doing, db); err != nil {
		return false, err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	var has bool
	if err := db.QueryRow(ctx, kind.hasSQL(), s.EventsTable().Sanitize()).Scan(&has); err != nil {
		return false, fmt.Errorf("%s on %s: %w", doing, s.EventsTable().Sanitize(), err)
	}
	return has, nil
}

// hasUnfinishedIndex does what HasUnfinishedScopeIndex says.
func (s *Store) hasUnfinishedIndex(ctx context.Context, db DB, kind *indexKind) (bool, error) {
	doing := "looking for an unfinished " + kind.word + " index"
	if err := s.usable(doing, db); err != nil {
		return false, err
	}
	s, err := s.Resolve(ctx, db)
	if err != nil {
		return false, fmt.Errorf("%s: %w", doing, err)
	}
	own, err := s.ownIndexes(ctx, db, kind)
	if err != nil {
		return false, fmt.Errorf("%s on %s: %w", doing, s.EventsTable().Sanitize(), err)
	}
	return slices.ContainsFunc(own, func(i ownIndex) bool { return !i.serves }), nil
}

// indexName is the name of an index of the kind, within the schema of the events table.
func (s *Store) indexName(kind *indexKind) string {
	events := s.EventsTable()
	sum := sha256.Sum256([]byte("pupsourcing " + kind.word + "\x00" + events[len(events)-1]))
	return "pupsourcing_" + kind.word + "_" + hex.EncodeToString(sum[:8])
}

// ownIndex is an index that this package has made, or begun to make.
type ownIndex struct {
	oid    uint32
	name   string
	serves bool
}

// ownIndexes lists those of the kind that the events table has.
func (s *Store) ownIndexes(ctx context.Context, db DB, kind *indexKind) ([]ownIndex, error) {
	rows, err := db.Query(ctx, kind.ownSQL(), pgx.QueryExecModeExec, s.EventsTable().Sanitize(), s.indexName(kind))
	if err != nil {
		return nil, fmt.Errorf("looking for earlier indexes: %w", err)
	}
	own, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i ownIndex, err error) {
		err = row.Scan(&i.oid, &i.name, &i.serves)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for earlier indexes: %w", err)
	}
	return own, nil
}

// dropIndexes drops those of the kind that do not serve, or all of them.
//
// Somebody may be building an index that is not valid, and it may be finished by the time it is dropped. A build holds the table's SHARE
// UPDATE EXCLUSIVE lock. So what is to be dropped is found under this lock, which does not stall appends, and set aside under another
// name before it is dropped without the lock. The lock is tried for without waiting, since a build waits for transactions that wait for
// it.
func (s *Store) dropIndexes(ctx context.Context, db Execer, kind *indexKind, all bool) error {
	own, err := s.ownIndexes(ctx, db, kind)
	if err != nil || len(own) == 0 {
		return err
	}
	aside, err := s.setAside(ctx, db, kind, all)
	if err != nil {
		return err
	}
	for _, name := range aside {
		if _, err := db.Exec(ctx, "DROP INDEX CONCURRENTLY IF EXISTS "+name); err != nil {
			return fmt.Errorf("dropping the index %s, which slows down each append until another install or removal succeeds: %w", name, err)
		}
	}
	return nil
}

// setAside renames the indexes that are to be dropped, and returns their names.
func (s *Store) setAside(ctx context.Context, db Execer, kind *indexKind, all bool) (aside []string, err error) {
	err = inTransaction(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE `+s.EventsTable().Sanitize()+` IN SHARE UPDATE EXCLUSIVE MODE NOWAIT`); err != nil {
			return fmt.Errorf("waiting for a session that builds an index of the table, or vacuums it: %w", err)
		}
		own, err := s.ownIndexes(ctx, tx, kind)
		if err != nil {
			return err
		}
		for _, i := range own {
			if i.serves && !all {
				continue
			}
			name := fmt.Sprintf("%s_%d", s.indexName(kind), i.oid)
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
