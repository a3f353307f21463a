package horizon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbguard"
)

// checkAttempts is how often Check asks again where a connection led to a standby, or had a role that lacks a right.
const checkAttempts = 5

// Check verifies what the horizon depends on and can be verified: see the
// package's comment. It is nil where a Prober will work; an [*UnfitError] says what to do. Other errors
// are the database's.
//
// db is best a [dbguard.Pool], which closes a connection that leads to a standby, or whose role lacks a right: then Check asks again on another one.
func Check(ctx context.Context, db Querier, events pgx.Identifier) error {
	var err error
	for range checkAttempts {
		if err = check(ctx, db, events); !dbguard.IsStandby(err) && !isOfRole(err) {
			break
		}
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("checking the preconditions of the horizon: %w", err)
	if _, unfit := errors.AsType[*UnfitError](err); unfit && !dbguard.IsStandby(err) {
		return dbfault.Configuration(err)
	}
	return err
}

func check(ctx context.Context, db Querier, events pgx.Identifier) error {
	t, err := locate(ctx, db, events, "")
	if err != nil {
		return err
	}
	if err := t.readable(ctx, db); err != nil {
		return t.giveUp(ctx, db, err)
	}
	seen, err := t.look(ctx, db)
	if err != nil {
		return err
	}
	if err := t.fit(seen.facts); err != nil {
		return t.giveUp(ctx, db, err)
	}
	_, err = t.extent(ctx, db)
	return err
}

// isOfRole says whether the fault is the role's: it lacks a right, or does not see all rows. Whoever had the connection before may have left this
// role behind, so the same may succeed on another connection.
func isOfRole(err error) bool {
	reasons := ReasonsOf(err)
	return slices.Contains(reasons, ReasonPrivilege) || slices.Contains(reasons, ReasonRLS)
}

// sqlGiveUp makes a [dbguard.Pool] close the connection if its role does not see all of the table $1, whose position is the column $3, or may not
// read the sequence $2 or the locks.
var sqlGiveUp = dbguard.GiveUpUnless(`pg_catalog.has_column_privilege($1::pg_catalog.oid, $3::pg_catalog.int2, 'SELECT') IS NOT FALSE
    AND pg_catalog.row_security_active($1::pg_catalog.oid) IS NOT TRUE
    AND pg_catalog.has_sequence_privilege($2::pg_catalog.oid, 'SELECT') IS NOT FALSE
    AND pg_catalog.has_table_privilege('pg_catalog.pg_locks', 'SELECT')`)

// giveUp returns err. If it is the role's, a pool closes the connection. A transaction is the caller's, and stays usable.
func (t target) giveUp(ctx context.Context, db Querier, err error) error {
	if _, within := db.(pgx.Tx); !within && isOfRole(err) {
		var none *string
		_ = db.QueryRow(ctx, sqlGiveUp, t.table, t.sequence, t.column).Scan(&none)
	}
	return err
}

// sqlMayReadSequence says whether the role may read the sequence $1. It is asked before the sequence is read, which fails without the right.
const sqlMayReadSequence = `SELECT coalesce(pg_catalog.has_sequence_privilege($1::pg_catalog.oid, 'SELECT'), false) WHERE ` + dbguard.Primary

// readable verifies that the role may read the sequence and the locks.
func (t target) readable(ctx context.Context, db Querier) error {
	var sequence, locks bool
	if err := db.QueryRow(ctx, sqlMayReadSequence, t.sequence).Scan(&sequence); err != nil {
		return fmt.Errorf("looking up the role's rights: %w", err)
	}
	if err := db.QueryRow(ctx, sqlMayReadLocks).Scan(&locks); err != nil {
		return fmt.Errorf("looking up the role's rights: %w", err)
	}
	var faults []Fault
	if !sequence {
		faults = append(faults, t.mayNotReadSequence())
	}
	if !locks {
		faults = append(faults, Fault{ReasonPrivilege, fmt.Sprintf("the role %s may not read the locks: GRANT SELECT ON pg_catalog.pg_locks TO %[1]s", t.roleName())})
	}
	return asError(faults)
}

func (t target) roleName() string { return pgx.Identifier{t.role}.Sanitize() }

func (t target) mayNotReadSequence() Fault {
	return Fault{ReasonPrivilege, fmt.Sprintf("the role %[1]s may not read the sequence: GRANT SELECT ON SEQUENCE %[2]s TO %[1]s", t.roleName(), t.sequenceName.Sanitize())}
}

// fit returns an UnfitError with all that is wrong with the facts.
func (t target) fit(f facts) error {
	table, sequence := t.tableName.Sanitize(), t.sequenceName.Sanitize()
	faults := t.notATable(f.kind, f.isPartition)
	add := func(bad bool, reason Reason, format string, args ...any) {
		if bad {
			faults = append(faults, Fault{reason, fmt.Sprintf(format, args...)})
		}
	}
	if f.rowSecurity {
		faults = append(faults, t.rowsHidden())
	}
	add(!f.mayReadTable, ReasonPrivilege, "the role %s may not read the events table: GRANT SELECT ON %s TO %[1]s", t.roleName(), table)
	add(f.cache != 1, ReasonSequence, "the sequence %s has CACHE %d, so sessions draw numbers ahead: ALTER SEQUENCE %[1]s CACHE 1, "+
		"which discards what they hold", sequence, f.cache)
	add(f.increment < 1, ReasonSequence, "the sequence %s counts by %d: positions must grow", sequence, f.increment)
	add(f.least < 1, ReasonSequence, "the sequence %s may give positions down to %d, and those that are not above 0 are never handled: ALTER SEQUENCE %[1]s MINVALUE 1 START 1",
		sequence, f.least)
	add(f.cycles, ReasonSequence, "the sequence %s would start again at its end: ALTER SEQUENCE %[1]s NO CYCLE", sequence)
	if !f.mayReadSequence {
		faults = append(faults, t.mayNotReadSequence())
	}
	return asError(faults)
}

// asError is an UnfitError with the faults; nil if there are none.
func asError(faults []Fault) error {
	if len(faults) == 0 {
		return nil
	}
	return &UnfitError{Faults: faults}
}

// keyed returns an error if the positions have no unique index, if an event may be without a position or an aggregate, or if a subscription
// writes into the table.
func (t target) keyed(ctx context.Context, db Querier) error {
	var (
		keyed        bool
		nullable     []string
		subscription string
	)
	table := t.tableName.Sanitize()
	err := db.QueryRow(ctx, sqlKeyed, t.table, t.column).Scan(&keyed, &nullable, &subscription)
	switch {
	case errors.Is(err, pgx.ErrNoRows): // the table was dropped just now
		return nil
	case err != nil:
		return fmt.Errorf("looking up the unique indexes of %s: %w", table, err)
	case !keyed:
		return unfit(ReasonTable, "the events table %s has no unique index of global_position, as if a restore had not finished: two events could have one position, "+
			"and readers could skip one of them: ALTER TABLE %[1]s ADD PRIMARY KEY (global_position)", table)
	case len(nullable) > 0:
		return unfit(ReasonTable, "the column %s of the events table %s may be null, and nobody would handle such an event: ALTER TABLE %[2]s ALTER COLUMN %[1]s SET NOT NULL",
			pgx.Identifier{nullable[0]}.Sanitize(), table)
	case subscription != "":
		return unfit(ReasonTable, "the subscription %s writes into the events table %s at positions that another server has given, "+
			"and those that readers have passed would be skipped: handle the events on that server, or ALTER SUBSCRIPTION %[1]s DISABLE",
			pgx.Identifier{subscription}.Sanitize(), table)
	}
	return nil
}

// extent returns the highest position of a stored event, or 0 for an empty table. It is an error if an event has a position that is not above 0, or if the
// positions have no unique index. If a timeout cuts the statement short, the extent stays unknown and is 0.
func (t target) extent(ctx context.Context, db Querier) (highest int64, err error) {
	var (
		low, high *int64
		visible   bool
	)
	if err := t.keyed(ctx, db); err != nil {
		return 0, err
	}
	err = db.QueryRow(ctx, sqlExtent(t.tableName)).Scan(&low, &high, &visible)
	switch {
	case dbfault.IsCutShort(err):
		return 0, nil
	case err != nil:
		return 0, t.hidden(fmt.Errorf("reading the highest and the lowest position of %s: %w", t.tableName.Sanitize(), err))
	case low == nil || high == nil:
		return 0, nil
	case *low < 1:
		return 0, unfit(ReasonPosition, "the events table %s holds an event at position %d, but positions must be above 0, or the event is never handled: "+
			"delete it, or append it again", t.tableName.Sanitize(), *low)
	}
	return *high, nil
}

// hidden turns the failure of a statement that row-level security makes into the fault.
func (t target) hidden(err error) error {
	if !dbguard.HidesRows(err) {
		return err
	}
	return &UnfitError{Faults: []Fault{t.rowsHidden()}, cause: err}
}

func (t target) rowsHidden() Fault {
	return Fault{ReasonRLS, fmt.Sprintf("row-level security hides events of the table %s from the role %s, or could, and hidden events would be skipped: "+
		"ALTER ROLE %[2]s BYPASSRLS, or run as the table's owner without FORCE ROW LEVEL SECURITY, or ALTER TABLE %[1]s DISABLE ROW LEVEL SECURITY",
		t.tableName.Sanitize(), t.roleName())}
}

// notATable says why the table is of the wrong kind, if it is.
func (t target) notATable(kind string, isPartition bool) []Fault {
	table := t.tableName.Sanitize()
	switch {
	case kind != "r" && kind != "p":
		return []Fault{{ReasonTable, fmt.Sprintf("the events table %s is not a table (relkind %q): name the table that the events are inserted into", table, kind)}}
	case isPartition:
		return []Fault{{ReasonTable, fmt.Sprintf("the events table %s is a partition: name the partitioned table, "+
			"since an insert into that one draws its position before it locks the partition", table)}}
	}
	return nil
}
