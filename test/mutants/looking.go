package main

// lookingGuards keep what operators see true.
var lookingGuards = []guard{
	{
		Name: "read-models-are-not-emptied-in-part", File: "cli/reset.go",
		Old: "	if to != admin.Start() && !c.Bool(\"checkpoints-only\") {", New: "	if to != admin.Start() && c.Bool(\"yes\") && c.Bool(\"dry-run\") {",
		Test: "TestWhatIsWrongWithTheCommandLine", Promise: "no read model lacks the events from before the point of a reset",
	},
	{
		Name: "pauses-end-in-the-future", File: "cli/projections.go",
		Old: "	case !until.IsZero() && !until.After(time.Now()):", New: "	case until.IsZero() && until.After(time.Now()):",
		Test: "TestWhatIsWrongWithTheCommandLine", Promise: "a wrong value of a flag exits with 2, and names the flag",
	},
	{
		Name: "previews-change-nothing", File: "admin/importing.go",
		Old: "	if c.preview {\n		return done, nil", New: "	if !c.preview && ctx == nil {\n		return done, nil",
		Test: "TestAnImportIsPreviewed", Package: "test/face", Promise: "a dry run of an import changes nothing",
	},
	{
		Name: "previews-lock-nothing", File: "admin/operations.go",
		Old: "	if c.preview {\n		return query\n	}", New: "	if c.preview && query == \"\" {\n		return query\n	}",
		Test: "TestPreviewsWaitForNobody", Package: "test/face", Promise: "a dry run waits for no handler, and holds none up",
	},
	{
		Name: "previews-of-imports-lock-nothing", File: "admin/importing.go",
		Old: "	if c.preview {\n		return c.readManual(", New: "	if c.preview && ctx == nil {\n		return c.readManual(",
		Test: "TestPreviewsWaitForNobody", Package: "test/face", Promise: "a dry run of an import waits for no manual runner",
	},
	{
		Name: "previews-of-resets-look-at-cut-overs", File: "admin/reset.go",
		Old: "	return errors.Join(c.notReplaced(ctx, projection), c.notCuttingOver(ctx, projection))", New: "	if c.preview {\n		return nil\n	}\n	return errors.Join(c.notReplaced(ctx, projection), c.notCuttingOver(ctx, projection))",
		Test: "TestPreviewsRefuseWhatTheActRefuses", Package: "test/face", Promise: "a dry run of a reset fails where the reset would",
	},
	{
		Name: "previews-check-rights", File: "admin/preview.go",
		Old: "dbrights.Check(ctx, l.tx, needs); err != nil {", New: "dbrights.Check(ctx, l.tx, needs); err != nil && ctx == nil {",
		Test: "TestEachCommandNeedsItsRightsOnly", Package: "test/face", Promise: "a dry run fails where the role lacks a right of the act",
	},
	{
		Name: "previews-leave-out-earlier-attempts", File: "admin/preview.go",
		Old: "pieces[i].HeldUntil == one.Until.UnixMicro()", New: "pieces[i].HeldUntil != one.Until.UnixMicro()",
		Test: "TestACutOverIsRefused", Package: "test/face", Promise: "a dry run of a cut-over does not fail for an attempt that the act would end",
	},
	{
		Name: "dry-runs-find-refusals", File: "cli/outcome.go",
		Old: "	if c.Bool(\"dry-run\") {\n		if err := refused()", New: "	if c.Bool(\"dry-run\") && c == nil {\n		if err := refused()",
		Test: "TestEachCommandNeedsItsRightsOnly", Package: "test/face", Promise: "a dry run exits as the act would",
	},
	{
		Name: "unknown-shells-are-wrong-usage", File: "cli/cli.go",
		Old: "			a.finish(c)\n			c.Action = a.noShell\n", New: "",
		Test: "TestWhatIsWrongWithTheCommandLine", Promise: "an unknown shell exits with 2, and the message lists the shells",
	},
	{
		Name: "errors-are-json-too", File: "cli/exit.go",
		Old: "	if a.json && code", New: "	if !a.json && code",
		Test: "TestWhatIsWrongWithTheCommandLine", Promise: "a program that asks for JSON can read why a command failed",
	},
	{
		Name: "looks-are-of-one-moment", File: "internal/dbguard/several.go",
		Old: "IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly", New: "IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly",
		Test: "TestASnapshotIsOfOneMoment", Package: "test/face", Promise: "what a snapshot shows was so at one moment",
	},
	{
		Name: "looks-fail-on-a-standby", File: "internal/dbguard/several.go",
		Old: "const sqlPrimary = `SELECT WHERE ` + Primary", New: "const sqlPrimary = `SELECT`",
		Test: "TestAStandbyFailsEveryStatementAndLosesItsConnection", Promise: "operators see no old rows of a standby",
	},
	{
		Name: "open-writers-hold-the-horizon", File: "admin/look.go",
		Old: "		if len(writers) == 0 {", New: "		if len(writers) >= 0 {",
		Test: "TestASnapshotNamesWhoHoldsTheHorizonBack", Package: "test/face", Promise: "no position is shown as settled while a transaction may yet append there",
	},
	{
		Name: "lags-are-of-their-slots", File: "admin/assemble.go",
		Old: "		if r.contains(int(l.slots[i])) {", New: "		if i >= 0 {",
		Test: "TestALagIsCountedOrEstimated", Package: "test/face", Promise: "a lag counts the events of the range's slots only",
	},
	{
		Name: "readers-need-select-only", File: "pgcoord/grants.go",
		Old: "	return needs(schema, events, \"SELECT\")\n", New: "	return Needs(schema, events)\n",
		Test: "TestWhoOnlyReadsNeedsOnlySelect", Package: "test/face", Promise: "who only reads is asked for no right to write",
	},
	{
		Name: "the-horizon-before-the-events", File: "admin/explain.go",
		Old: "		f = facts{settled: now, position: position}\n", New: "		if now, err = readSettled(ctx, l.tx, l.store, l.events); err != nil {\n			return err\n		}\n		f = facts{settled: now, position: position}\n",
		Test: "TestAnEventOnItsWayIsNoGap", Package: "test/face", Promise: "no event is called a gap that is committed at that moment",
	},
	{
		Name: "only-what-a-handler-did-is-handled", File: "admin/explanations.go",
		Old: "e.Outcome, e.Reason = Passed, ", New: "e.Outcome, e.Reason = Handled, ",
		Test: "TestExplainSaysWhatBecomesOfAnEvent", Package: "test/face", Promise: "nothing is called handled of which no row says so",
	},
	{
		Name: "letters-of-the-event-explain-it", File: "admin/explanations.go",
		Old: "	if d != nil && d.event != f.event.ID {", New: "	if d != nil && d.event == f.event.ID && d.event != f.event.ID {",
		Test: "TestExplainNamesWhatAnEventWaitsFor", Package: "test/face", Promise: "a letter of another event says nothing about the one that has its position",
	},
	{
		Name: "timelines-have-the-latest", File: "admin/timeline.go",
		Old: "ORDER BY at DESC, rank", New: "ORDER BY at, rank",
		Test: "TestATimelineIsBounded", Package: "test/face", Promise: "what a timeline leaves out is the oldest",
	},
	{
		Name: "infinite-times-are-left-out", File: "admin/timeline.go",
		Old: " AND pg_catalog.isfinite(at)", New: "",
		Test: "TestTheTimelineIsOneList", Package: "test/face", Promise: "one row that a person changed does not hide the timeline",
	},
	{
		Name: "handled-letters-may-have-no-event", File: "admin/checks.go",
		Old: "WHERE d.replica_set = $1 AND d.state <> 'handled' AND NOT EXISTS (", New: "WHERE d.replica_set = $1 AND NOT EXISTS (",
		Test: "TestVerifyFindsEachFault", Package: "test/face", Promise: "what was handled is no finding, whatever became of the event",
	},
	{
		Name: "ended-holds-may-be-passed", File: "admin/checks.go",
		Old: " AND (c.hold_until IS NULL OR c.hold_until > pg_catalog.now())", New: "",
		Test: "TestVerifyFindsEachFault", Package: "test/face", Promise: "a pause that has ended is no finding",
	},
	{
		Name: "left-out-projections-have-no-owner", File: "admin/checks.go",
		Old: " AND (c.projection = ANY (w.left_out)) IS NOT TRUE AND", New: " AND",
		Test: "TestVerifyFindsEachFault", Package: "test/face", Promise: "a projection that is left out is no contradiction",
	},
	{
		Name: "drained-workers-own-nothing", File: "admin/checks.go",
		Old: " AND NOT w.drained)", New: ")",
		Test: "TestVerifyFindsEachFault", Package: "test/face", Promise: "a projection whose workers are drained is no contradiction",
	},
	{
		Name: "moved-projections-keep-their-generation", File: "admin/checks.go",
		Old: "WHERE c.replica_set = $1 AND c.worker_id IS NOT NULL AND c.generation > ", New: "WHERE c.replica_set = $1 AND c.generation > ",
		Test: "TestVerifyFindsEachFault", Package: "test/face", Promise: "a projection that was moved here is no finding",
	},
	{
		Name: "the-horizon-needs-time", File: "admin/cover.go",
		Old: "|| now.Sub(*h.HeldBackBy[0].Since) < settledAfter {", New: "{",
		Test: "TestVerifyFindsACheckpointAboveTheHorizon", Package: "test/face", Promise: "a horizon that workers have yet to store is no finding",
	},
	{
		Name: "results-are-told", File: "admin/timeline.go",
		Old: ", e.What, of), e.Result)", New: ", e.What, of), \"\")",
		Test: "TestTheTimelineTellsResults", Package: "test/face", Promise: "the timeline says what came of an operation",
	},
}
