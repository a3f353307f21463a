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

	undefinedObject = "42704"
)

// The scalar subquery refers to no column, so the planner evaluates the condition once, before it scans anything. It is a
// CASE in a subquery, so the planner does not evaluate it in advance either.
const (
	primarySQL = `(SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.current_setting('` + standbyParameter + `') ELSE '' END) IS NOT NULL`
	allRowsSQL = `(SELECT CASE WHEN pg_catalog.row_security_active(%s::pg_catalog.oid) THEN pg_catalog.current_setting('` + rowSecurityParameter + `') ELSE '' END) IS NOT NULL`
)

// Primary is a condition that holds on a primary. On a standby the statement fails with an error for which [IsStandby] holds.
const Primary = primarySQL

// AllRows is a condition that holds where the role sees all rows of the table. Where row-level security is active for the role, the
// statement fails with an error for which [HidesRows] holds. A table that does not exist is an error as well.
func AllRows(table pgx.Identifier) string {
	return fmt.Sprintf(allRowsSQL, quoteLiteral(table.Sanitize())+"::pg_catalog.regclass")
}

// quoteLiteral writes text as a constant that means the same whatever standard_conforming_strings is.
func quoteLiteral(text string) string {
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

// HidesRows says whether err is the failure of [AllRows].
func HidesRows(err error) bool {
	return dbfault.Code(err) == undefinedObject && names(err, rowSecurityParameter)
}

// names says whether the database's answer contains the name, which is this package's own and no text of the server's.
func names(err error, parameter string) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.Contains(answer.Message, parameter)
}
