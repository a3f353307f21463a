package dbguard

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"

// Raise is an expression of type text that fails wherever it is evaluated. The error names the parameter, which must not exist,
// and must have a dot and no quote in its name. It is to stand in a CASE, since a CASE evaluates only the branch that it takes.
func Raise(parameter string) string { return `pg_catalog.current_setting('` + parameter + `')` }

// Raised says whether err is the failure of [Raise] with the parameter.
func Raised(err error, parameter string) bool {
	return dbfault.Code(err) == undefinedObject && names(err, parameter)
}
