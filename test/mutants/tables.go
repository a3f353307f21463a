package main

// tableGuards keep a program from working with tables that are not those of its migrations.
var tableGuards = []guard{
	{
		Name: "shape-checked", File: "migrations/migrations.go",
		Old: "if err := runner.Verify(ctx, db, state.Schema); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestTablesThatWereChangedAreRefused", Promise: "no worker starts where a table was dropped or lacks a constraint",
	},
	{
		Name: "shape-checked-by-migrations", File: "internal/migrate/migrate.go",
		Old: `return "", Verify(ctx, tx, p.schema, r.tables)`, New: `return "", nil`,
		Test: "TestTablesThatWereChangedAreRefused", Package: "migrations", Promise: "nor do the migrations say that all is well",
	},
	{
		Name: "shape-before-adoption", File: "internal/migrate/migrate.go",
		Old: "if tables := r.tablesAt(next.version); len(tables) > 0 {", New: "if tables := r.tablesAt(next.version); len(tables) < 0 {",
		Test: "TestTablesThatTheStoreCannotUseAreRefused", Package: "eventstore", Promise: "tables that were there are adopted only if the store can use them",
	},
	{
		Name: "resets-declared-again", File: "migrations/000006_resets_and_drains.down.sql",
		Old: "DELETE FROM {{schema}}orchestrator_workers WHERE resettable <> '{}';", New: "",
		Test: "TestDeclarationsOutlastMigrationsDownAndUp", Package: "test/face", Promise: "a worker whose projections can be reset says so again after the tables went back and up again",
	},
	{
		Name: "successions-declared-again", File: "migrations/000008_successions.down.sql",
		Old: "DELETE FROM {{schema}}orchestrator_workers WHERE replaces <> '{}';", New: "",
		Test: "TestDeclarationsOutlastMigrationsDownAndUp", Package: "test/face", Promise: "a version that never took over is not replaced, though what its workers had declared is lost",
	},
	{
		Name: "down-is-the-owners", File: "internal/migrate/migrate.go",
		Old: "r.step(ctx, db, r.revertLast, r.explainDown)", New: "r.step(ctx, db, r.revertLast, r.explain)",
		Test: "TestMigrationsNameTheGrantThatIsMissing", Package: "test/face", Promise: "who may not take migrations back is told who may, and of no GRANT that does not help",
	},
	{
		Name: "rows-of-the-version-table", File: "internal/migrate/versions.go",
		Old: "case names[i] != r.migrations[i].name:", New: "case i < 0:",
		Test: "TestTablesThatWereChangedAreRefused", Package: "migrations", Promise: "another program's version table is not taken for ours",
	},
	{
		Name: "one-schema", File: "internal/migrate/place.go",
		Old: "case versions != nil:\n", New: "case versions != nil && current == nil:\n",
		Test: "TestASchemaThatAppearsInTheSearchPathChangesNothing", Package: "migrations", Promise: "a schema that appears in the search_path gets no tables",
	},
	{
		Name: "path-leads-elsewhere", File: "internal/migrate/place.go",
		Old: `if other != "" {`, New: `if other == " " {`,
		Test: "TestAllTablesAreInOneSchemaOfTheSearchPath", Package: "eventstore", Promise: "the tables that were checked are those that appends find",
	},
}
