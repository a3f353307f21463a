package dbguard

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
)

// PostgreSQL has no expression that raises an error of the caller's choice. Reading a parameter that does not exist comes
// close: the error, 42704, names the parameter. Nobody sets parameters with these names.
const (
	standbyParameter     = "pupsourcing.server_is_a_standby"
	rowSecurityParameter = "pupsourcing.row_level_security_hides_rows"
	replacedParameter    = "pupsourcing.another_table_has_the_name"
	roleParameter        = "pupsourcing.the_role_lacks_a_right"

	undefinedObject       = "42704"
	insufficientPrivilege = "42501"
)

// The scalar subquery refers to no column, so the planner evaluates the condition once, before it scans anything. It is a
// CASE in a subquery, so the planner does not evaluate it in advance either.
const (
	primarySQL = `(SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.current_setting('` + standbyParameter + `') ELSE '' END) IS NOT NULL`
	allRowsSQL = `(SELECT CASE WHEN pg_catalog.row_security_active(%s::pg_catalog.oid) THEN pg_catalog.current_setting('` + rowSecurityParameter + `') ELSE '' END) IS NOT NULL`
	onPrimary  = `(SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.current_setting('` + standbyParameter + `')::pg_catalog.int8 ELSE %s END)`
	limitSQL   = `CASE WHEN pg_catalog.row_security_active(%s::pg_catalog.oid) THEN pg_catalog.current_setting('` + rowSecurityParameter + `')::pg_catalog.int8 ELSE %s END`

	// to_regclass looks the name up when the statement is executed, while the statement has its lock on the table that it reads.
	limitOfSQL = `CASE WHEN pg_catalog.to_regclass(%s)::pg_catalog.oid IS DISTINCT FROM %d::pg_catalog.oid ` +
		`THEN pg_catalog.current_setting('` + replacedParameter + `')::pg_catalog.int8 ELSE %s END`
)

// Primary is a condition that holds on a primary. On a standby the statement fails with an error for which [IsStandby] holds.
const Primary = primarySQL

// LimitOnPrimary is an expression for the LIMIT clause. Its value is limit, an expression of type bigint. On a standby the statement
// fails as with [Primary], which costs a statement of many rows a step of its plan for each row, some 4 % of what it takes to read one.
// The planner does not know the limit, and expects a tenth of the rows.
func LimitOnPrimary(limit string) string { return fmt.Sprintf(onPrimary, limit) }

// SelectAllRows is an expression for the select list of a statement that always returns a row, as one with an aggregate and without
// GROUP BY does. It is true where the role sees all rows of the table. Where row-level security is active for the role, the statement
// fails with an error for which [HidesRows] holds. A table that does not exist is an error as well.
//
// It is of no use in a WHERE clause: a policy that hides all rows makes the clause false for the planner, which then drops the
// rest of it.
func SelectAllRows(table pgx.Identifier) string {
	return fmt.Sprintf(allRowsSQL, regclass(table))
}

// LimitAllRows is an expression for the LIMIT clause of a statement that reads the table. Its value is limit, an expression of
// type bigint, or NULL for none. Where row-level security is active for the role, the statement fails as with [SelectAllRows]. LIMIT
// is evaluated before the first row, whatever the planner makes of the rest.
func LimitAllRows(table pgx.Identifier, limit string) string {
	return fmt.Sprintf(limitSQL, regclass(table), limit)
}

// LimitAllRowsOf is LimitAllRows for a statement that must read the table with this oid. Where another table has the name by now, the
// statement fails with an error for which [IsReplaced] holds. With an oid of 0 it reads any table of the name.
func LimitAllRowsOf(table pgx.Identifier, oid uint32, limit string) string {
	if oid == 0 {
		return LimitAllRows(table, limit)
	}
	return fmt.Sprintf(limitOfSQL, Literal(table.Sanitize()), oid, LimitAllRows(table, limit))
}

// GiveUpUnless is a statement that makes a [Pool] close the connection that it runs on, unless the condition holds there.
func GiveUpUnless(condition string) string {
	return `SELECT CASE WHEN NOT (` + condition + `) THEN ` + Raise(roleParameter) + ` END`
}

// regclass is the table as a constant, which the server resolves when it parses the statement.
func regclass(table pgx.Identifier) string {
	return Literal(table.Sanitize()) + "::pg_catalog.regclass"
}

// Literal writes text as a constant that means the same whatever standard_conforming_strings is.
func Literal(text string) string {
	quoted := "'" + strings.ReplaceAll(text, "'", "''") + "'"
	if !strings.Contains(text, `\`) {
		return quoted
	}
	return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
}

// IsStandby says whether err is the failure of [Primary], or a standby's refusal to write. The connection is of no use:
// [Pool] closes it.
func IsStandby(err error) bool {
	switch dbfault.Code(err) {
	case undefinedObject:
		return names(err, standbyParameter)
	case "25006": // read_only_sql_transaction
		return true
	}
	return false
}

// IsReplaced says whether err is the failure of [LimitAllRowsOf]: another table has the name.
func IsReplaced(err error) bool {
	return dbfault.Code(err) == undefinedObject && names(err, replacedParameter)
}

// HidesRows says whether err is the failure of [SelectAllRows] or [LimitAllRows].
func HidesRows(err error) bool {
	return dbfault.Code(err) == undefinedObject && names(err, rowSecurityParameter)
}

// names says whether the database's answer contains the name, which is this package's own and no text of the server's.
func names(err error, parameter string) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.Contains(answer.Message, parameter)
}
