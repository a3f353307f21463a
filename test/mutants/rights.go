package main

// rightsGuards keep errors saying which right is missing.
var rightsGuards = []guard{
	{
		Name: "acts-name-their-own-rights", File: "admin/admin.go",
		Old: "needs.needs(a.schema, a.eventStore.EventsTable()), pgcoord.Needs", New: "pgcoord.Needs",
		Test: "TestEachCommandNeedsItsRightsOnly", Package: "test/face", Promise: "who lacks a right for a command is asked for no more than the command needs",
	},
	{
		Name: "cut-overs-may-end", File: "admin/cutover.go",
		Old: "c.pool, cutOverRights.needs(c.schema, c.eventStore.EventsTable())", New: "c.pool, nil",
		Test: "TestEachCommandNeedsItsRightsOnly", Package: "test/face", Promise: "no cut-over begins whose role may not end it",
	},
	{
		Name: "looking-for-replica-sets-names-the-grant", File: "pgcoord/replicasets.go",
		Old: "dbrights.Explain(ctx, db, err, NeedsToRead(schema, events))", New: "dbrights.Add(ctx, db, err)",
		Test: "TestEachCommandNeedsItsRightsOnly", Package: "test/face", Promise: "a command of a role that may read nothing names the GRANT",
	},
	{
		Name: "hidden-schema-is-no-empty-one", File: "internal/migrate/place.go",
		Old: `dbrights.On(pgx.Identifier{r.versionTable}, "SELECT")}); err != nil {`, New: `dbrights.On(pgx.Identifier{r.versionTable}, "SELECT")}); err != nil && r.versionTable == "" {`,
		Test: "TestMigrationsNameTheGrantThatIsMissing", Package: "test/face",
		Promise: "tables in a schema that the role may not use are not made a second time elsewhere",
	},
	{
		Name: "migrations-name-the-grant", File: "internal/migrate/migrate.go",
		Old: ".Sanitize(), explain(ctx, db, err))", New: ".Sanitize(), err)",
		Test: "TestMigrationsNameTheGrantThatIsMissing", Package: "test/face", Promise: "RunMigrations names the GRANT that is missing",
	},
	{
		Name: "append-names-the-grant", File: "eventstore/append.go",
		Old: "s.explain(ctx, tx, err))", New: "err)",
		Test: "TestErrorsNameTheGrantThatIsMissing", Package: "test/face", Promise: "Append names the GRANT that is missing",
	},
	{
		Name: "manual-runner-names-the-grant", File: "projection/processor.go",
		Old: "return r.explain(ctx, err)", New: "return err",
		Test: "TestErrorsNameTheGrantThatIsMissing", Package: "test/face", Promise: "the manual runner names the GRANT that is missing",
	},
	{
		Name: "run-names-the-grant", File: "check.go",
		Old: "if err := dbrights.Check(ctx, db, pgcoord.Needs(schema, events.EventsTable())); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestErrorsNameTheGrantThatIsMissing", Package: "test/face", Promise: "Run names the GRANT that is missing, as an ErrNotGranted",
	},
	{
		Name: "schemas-that-may-not-be-used", File: "internal/dbrights/rights.go",
		Old: "FROM tables WHERE NOT pg_catalog.has_schema_privilege(schema_oid, 'USAGE')", New: "FROM tables WHERE false",
		Test: "TestErrorsNameTheGrantThatIsMissing", Package: "test/face", Promise: "a schema that the role may not use is not taken for one without tables",
	},
	{
		Name: "reads-name-the-grant", File: "eventstore/appendrights.go",
		Old: "	return dbrights.Explain(ctx, db, err, s.needs(true))", New: "	return err",
		Test: "TestErrorsNameTheGrantThatIsMissing", Package: "test/face", Promise: "a read of events names the GRANT that is missing",
	},
	{
		Name: "running-workers-name-the-grant", File: "actors/databasefailed.go",
		Old: `	if lookErr != nil || len(missing) == 0 {`, New: `	if lookErr != nil || len(missing) > 0 {`,
		Test: "TestWhatOnlyAPersonCanEndIsAnError", Promise: "a worker names the GRANT of a right that is taken away while it runs",
	},
	{
		Name: "memory-that-does-not-suffice", File: "internal/dbguard/settings.go",
		Old: "		if err == nil && short {", New: "		if err == nil && files == \"\" {",
		Test: "TestMemoryThatDoesNotSufficeIsNamed", Promise: "a role for which statements do not fit into memory is refused by name",
	},
}
