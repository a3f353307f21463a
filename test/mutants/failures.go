package main

// failureGuards keep the record of failed events true, and fencing tokens from going back.
var failureGuards = []guard{
	{
		Name: "deferred-triggers-of-own-tables", File: "internal/batchtx/commit.go",
		Old: "batch.Queue(sqlSettle)", New: `batch.Queue("SELECT 1")`,
		Test: "TestOnlyWhatHandlersHaveDeferredIsOfCommit", Promise: "a deferred trigger on the library's own table is no event's failure",
	},
	{
		Name: "commit-ends-the-timeout", File: "internal/batchtx/commit.go",
		Old: "\tbatch.Queue(sqlNoTimeout)\n", New: `	batch.Queue("SELECT 1")` + "\n",
		Test: "TestTheCommitBeginsByEndingTheHandlersTimeout", Promise: "a handler's statement_timeout does not end the batch",
	},
	{
		Name: "tokens-go-up", File: "pgcoord/activation.go",
		Old: "highest >= a.Number {", New: "highest < 0 {",
		Test: "TestActivationTakesANumberAboveThoseOfItsRows", Promise: "a projection's fencing token does not go back when it comes from another replica set",
	},
	{
		Name: "late-failures", File: "pgcoord/deadletters.go",
		Old: " AND position < $2::bigint", New: "",
		Test: "TestFailuresAreCountedUntilHandled", Promise: "a failure that is recorded late does not hide that the event was handled",
	},
	{
		Name: "handled-by-a-handler", File: "actors/deadletters.go",
		Old: "return events.Position(i) > p.failing.unsettled })", New: "return true })",
		Test: "TestHandlerThatFailsOverARestart", Package: "test/face", Promise: "an event that failed is recorded as handled by the batch that handled it",
	},
	{
		Name: "skipped-by-a-person", File: "pgcoord/deadletters.go",
		Old: "SET state = 'skipped'", New: "SET state = 'handled'",
		Test: "TestEventIsSkippedByHand", Package: "test/face", Promise: "an event that a person has skipped is not called handled",
	},
	{
		Name: "set-back-is-noticed", File: "actors/positions.go",
		Old: "seen.Positions < mine.Positions ||", New: "seen.Positions < 0 ||",
		Test: "TestRebuildOnAQuietStream", Package: "test/face", Promise: "checkpoints that were set back are handled again although nothing is appended",
	},
	{
		Name: "ended-transactions-close", File: "pgcoord/batch.go",
		Old: "		b.tx.Abort(ctx)", New: "		batchtx.Rollback(ctx, b.conn.Conn())",
		Test: "TestAConnectionWhoseTransactionAHandlerEndedIsClosed", Promise: "what a handler that commits has set for its session reaches no other statement",
	},
	{
		Name: "waits-look-at-checkpoints", File: "actors/resting.go",
		Old: "case !slices.Equal(pieces, p.rows()):", New: "case !slices.Equal(pieces, p.rows()) && p.halted:",
		Test: "TestEventIsSkippedByHand", Package: "test/face", Promise: "an event that a person skips is not waited for",
	},
	{
		Name: "records-fail-no-batch", File: "internal/batchtx/aside.go",
		Old: "EXCEPTION WHEN OTHERS OR query_canceled THEN", New: "EXCEPTION WHEN division_by_zero THEN",
		Test: "TestTheRecordOfFailuresFailsNoBatch", Package: "pgcoord", Promise: "a record of failures that cannot be written fails no batch",
	},
	{
		Name: "records-wait-for-nobody", File: "internal/batchtx/aside.go",
		Old: "set_config('lock_timeout', '100', true)", New: "set_config('lock_timeout', '0', true)",
		Test: "TestTheRecordOfFailuresFailsNoBatch", Package: "pgcoord", Promise: "nor holds it up",
	},
	{
		Name: "records-are-made-later", File: "actors/deadletters.go",
		Old: "	p.worker.late.add(", New: "	_ = p.worker.late.add; (*lateRecords).add(&lateRecords{}, ",
		Test: "TestTheRecordOfFailuresHoldsUpNothing", Promise: "what a batch could not record is recorded later",
	},
	{
		Name: "rebuilds-settle-skipped-events", File: "actors/processor.go",
		Old: "	if slot.IsSetBack(pieces, p.rows()) ||", New: "	if false && slot.IsSetBack(pieces, p.rows()) ||",
		Test: "TestARebuildHandlesWhatWasSkipped", Package: "test/face", Promise: "an event that was skipped is called handled once a rebuild has handled it",
	},
	{
		Name: "restarts-retry-soon", File: "actors/deadletters.go",
		Old: "p.failing.attempts = max(p.failing.attempts, attempts)", New: "p.failing.attempts = max(p.failing.attempts, attempts)\n\tp.failures.Attempts = p.failing.attempts",
		Test: "TestHandlerThatFailsOverARestart", Package: "test/face", Promise: "a restarted worker retries an event soon, however often it has failed",
	},
	{
		Name: "batches-go-without-turns", File: "actors/turns.go",
		Old: "} else if remedyOf(err) != \"\" {", New: "} else if err == nil {",
		Test: "TestWithoutItsTableNobodyTakesTurns", Promise: "a table of turns that is away or withheld holds up no batch",
	},
	{
		Name: "catch-ups-end-beside-the-hook", File: "catchup.go",
		Old:  "	cfg.Failed = c.failed(d.projections)\n",
		New:  "	own, tell := cfg.FailureHook, c.failed(d.projections)\n	cfg.FailureHook = func(ctx context.Context, f projection.Failure) { tell(f); own(ctx, f) }\n",
		Test: "TestCatchingUpEndsThoughTheHookHangs", Package: "test/face", Promise: "a catch-up ends at a failure, though the application's failure hook hangs",
	},
}
