package main

// installGuards keep the optional trigger, the optional indexes and their installation from standing in the way of appends.
var installGuards = []guard{
	{
		Name: "install-gives-way", File: "eventstore/install.go",
		Old: `installLockTimeout = "100ms"`, New: `installLockTimeout = "0"`,
		Test: "TestAnOpenAppendLetsNoInstallStallOthers", Promise: "an install that waits for an open append does not stall the others",
	},
	{
		Name: "trigger-of-this-form", File: "eventstore/wakeup.go",
		Old: "AND tgqual IS NOT NULL AND (SELECT prosrc FROM pg_catalog.pg_proc WHERE oid = tgfoid) = ANY ($5::text[])", New: "AND $5::text[] IS NOT NULL",
		Test: "TestWhateverIsWrongWithTheTriggerIsPutRight", Promise: "a trigger whose function was replaced is not relied upon",
	},
	{
		Name: "notification-queue", File: "eventstore/wakeup.go",
		Old: "OPERATOR(pg_catalog.<) 0.5::pg_catalog.float8", New: "OPERATOR(pg_catalog.<) 2::pg_catalog.float8",
		Test: "TestAFullQueueOfNotificationsFailsNoAppend", Promise: "a full queue of notifications fails no append",
	},
	{
		Name: "roles-that-append", File: "eventstore/wakeup.go",
		Old: `if roles != "" {`, New: `if roles == " " {`,
		Test: "TestNoTriggerIsInstalledWhereRolesThatAppendCouldNotNotify", Promise: "nor does a right that a role lacks",
	},
	{
		Name: "failed-build", File: "eventstore/installindex.go",
		Old: "if left := s.dropLeftIndex(ctx, db, kind); left != nil {", New: "if left := ctx.Err(); left != nil {",
		Test: "TestABuildThatIsCancelledLeavesNothing", Promise: "appends do not pay for an index that nobody can use",
	},
	{
		Name: "build-outlasts-timeouts", File: "eventstore/installindex.go",
		Old: "before, err := set(ctx, session, buildSettings, false)", New: "before, err := set(ctx, session, map[string]string{}, false)",
		Test: "TestInstallsWorkWhateverTheRolesSettingsAre", Promise: "a build may take longer than the role's statements",
	},
	{
		Name: "one-build-at-a-time", File: "eventstore/installindex.go",
		Old: `if string(results[len(results)-1].Rows[0][0]) == "t" {`, New: "if len(results) > 0 {",
		Test: "TestAnInstallOfTheScopeIndexWaitsForAnother", Promise: "builds do not end each other in deadlocks",
	},
	{
		Name: "somebody-elses-build", File: "eventstore/optionalindex.go",
		Old: "IN SHARE UPDATE EXCLUSIVE MODE NOWAIT", New: "IN ACCESS SHARE MODE NOWAIT",
		Test: "TestAnIndexThatSomebodyElseFinishesIsNotBuiltAgain", Promise: "an index that is being built is not dropped",
	},
	{
		Name: "finished-build", File: "eventstore/optionalindex.go",
		Old: "if i.serves && !all {", New: "if i.serves && all {",
		Test: "TestAnIndexThatSomebodyElseFinishesIsNotBuiltAgain", Promise: "a caller that comes late does not drop an index that is finished",
	},
	{
		Name: "index-of-this-form", File: "eventstore/slotindex.go",
		Old: "= 'global_position>>10<<16|hashtextextendedaggregate_id,0&65535'`", New: "<> ''`",
		Test: "TestOptionalIndexesAreRecognisedByWhatTheyServe", Promise: "reads use no index that does not serve them, which would look at all events for each block",
	},
	{
		Name: "index-of-varchar", File: "eventstore/slotindex.go",
		Old: "|::text|", New: "|",
		Test: "TestOptionalIndexesServeColumnsOfTheTypeVarchar", Promise: "an index of columns of the type varchar is used, and built once",
	},
	{
		Name: "index-of-texts", File: "eventstore/scopeindex.go",
		Old: "= 'pg_catalog.text'::pg_catalog.regtype`,", New: "<> 0`,",
		Test: "TestScopeIndexNeedsTexts", Promise: "reads use no index that they would walk from its beginning",
	},
	{
		Name: "nested-install-ends", File: "eventstore/install.go",
		Old: "if tried == attempts {", New: "if tried == attempts+100 {",
		Test: "TestAnInstallWithinATransactionGivesUp", Promise: "two transactions that install do not wait for each other without end",
	},
	{
		Name: "holders-are-named", File: "eventstore/heldup.go",
		Old: "if err != nil && len(holders) > 0 {", New: "if err == nil && len(holders) > 0 {",
		Test: "TestARemovalThatWasInterruptedIsFinishedByTheNext", Promise: "a removal that gave up says which session held it up",
	},
	{
		Name: "unfinished-index-is-seen", File: "eventstore/optionalindex.go",
		Old: "return !i.serves })", New: "return i.oid == 0 })",
		Test: "TestARemovalThatWasInterruptedIsFinishedByTheNext", Promise: "an index that slows down appends, and that no read uses, is shown",
	},
	{
		Name: "unfinished-index-is-removed", File: "cli/events.go",
		Old: "(install || !is.Unfinished)", New: "(install || one.name != \"\")",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "the command line removes what an interrupted removal has left behind",
	},
	{
		Name: "migrations-give-way", File: "internal/migrate/patience.go",
		Old: "oneTrip, w.wait.Milliseconds())", New: "oneTrip, time.Hour.Milliseconds())",
		Test: "TestAMigrationThatWaitsForAReaderStallsNobody", Promise: "a migration that waits for a reader of the tables stalls no worker",
	},
	{
		Name: "migrations-heed-the-roles-timeout", File: "internal/migrate/patience.go",
		Old: "(w.role == 0 || time.Since(w.began) < w.role)", New: "w.role >= 0",
		Test: "TestTheRolesLockTimeoutBoundsAMigration", Promise: "and it waits no longer than the role may",
	},
}
