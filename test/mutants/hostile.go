package main

// hostileGuards keep the settings of a role from changing what the library stores, and from ending what it does.
var hostileGuards = []guard{
	{
		Name: "arrays-keep-null", File: "pgcoord/generations.go",
		Old: "set_config('array_nulls', 'on', true),", New: "set_config('orchestrator.unused', 'on', true),",
		Test: "TestEveryQueryExecModeGoesThroughTheWholeCycle", Promise: "a role's array_nulls=off does not stop generations",
	},
	{
		Name: "appends-send-no-null", File: "eventstore/statements.go",
		Old: "CASE WHEN e.given & 1 <> 0 THEN e.trace_id END", New: "e.trace_id",
		Test: "TestWhatAnEventLacksIsNullWhateverArraysMean", Promise: "nor does it store the word NULL",
	},
	{
		Name: "rights-whatever-strings-mean", File: "internal/dbrights/rights.go",
		Old: `'[[:space:]]*,[[:space:]]*'`, New: `'\s*,\s*'`,
		Test: "TestTheMissingRightIsNamedWhateverStringsMean", Package: "eventstore", Promise: "a missing right is named where a backslash in a string is an escape",
	},
	{
		Name: "own-statements-outlast-timeouts", File: "internal/dbguard/transactions.go",
		Old: "pg_catalog.set_config('statement_timeout', $1, true)", New: "pg_catalog.set_config('orchestrator.unused', $1, true)",
		Test: "TestTransactionsWriteWhateverTheDefaultsAre", Promise: "a worker starts on a busy server whatever the role's statement_timeout is",
	},
	{
		Name: "migrations-outlast-timeouts", File: "internal/migrate/versions.go",
		Old: "WHERE name IN ('statement_timeout', 'transaction_timeout')", New: "WHERE name IN ('transaction_timeout')",
		Test: "TestAMigrationOutlastsTheRolesTimeouts", Promise: "a migration may take longer than the role's statements",
	},
}
