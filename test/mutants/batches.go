package main

// batchGuards keep what handlers do to a batch's transaction from losing events.
var batchGuards = []guard{
	{
		Name: "nothing-is-written-after-the-commit", File: "internal/batchtx/commit.go",
		Old: "	t.over.Store(true)\n", New: "",
		Test: "TestNothingIsWrittenAfterTheEnd", Promise: "a goroutine that a handler has left behind writes nothing with another batch",
	},
	{
		Name: "nothing-is-written-after-the-rollback", File: "internal/batchtx/rollback.go",
		Old: "	t.over.Store(true)\n", New: "",
		Test: "TestNothingIsWrittenAfterTheEnd", Promise: "what a failed handler has left behind commits nothing of the event, which is handled again",
	},
	{
		Name: "commit-in-the-batchs-transaction", File: "internal/batchtx/commit.go",
		Old: "pg_catalog.text = $1) IS NOT TRUE THEN", New: "pg_catalog.text = $1) IS NULL AND false THEN",
		Test: "TestACommitInAnotherTransactionIsRefused", Package: "pgcoord",
		Promise: "a batch commits only in the transaction in which all of its events were handled",
	},
	{
		Name: "replaced-transaction-names-its-event", File: "internal/batchtx/verify.go",
		Old: "if id == nil || *id != t.id {", New: "if id == nil {",
		Test: "TestVerifyFindsTheEvent", Package: "internal/batchtx",
		Promise: "the event whose handler ended the transaction is found",
	},
	{
		Name: "commit-restores-the-role", File: "internal/batchtx/commit.go",
		Old: "CASE WHEN pg_catalog.current_setting('role') <> $3 THEN", New: "CASE WHEN $3 = '' THEN",
		Test: "TestWhatAHandlerLeavesBehindDoesNotStopItsBatch", Package: "pgcoord",
		Promise: "a handler's SET ROLE does not keep its batch from committing",
	},
	{
		Name: "commit-changes-every-checkpoint", File: "internal/batchtx/commit.go",
		Old: "count(*) <> 1 THEN", New: "count(*) < 0 THEN",
		Test: "TestACheckpointThatIsNotChangedCommitsNothing", Package: "pgcoord",
		Promise: "no read model is committed without its checkpoint",
	},
	{
		Name: "batches-wait-without-the-roles-timeouts", File: "internal/batchtx/begin.go",
		Old: "pg_catalog.set_config('statement_timeout', '0', true),", New: "NULL::pg_catalog.text,",
		Test: "TestTheRolesTimeoutsAreTheHandlers", Package: "pgcoord",
		Promise: "a role's statement_timeout does not end a batch that waits for its rows",
	},
	{
		Name: "handlers-keep-the-roles-timeouts", File: "internal/batchtx/begin.go",
		Old: "pg_catalog.set_config('statement_timeout', pg_catalog.current_setting('pupsourcing.statement_timeout'), true)", New: "NULL::pg_catalog.text",
		Test: "TestTheRolesTimeoutsAreTheHandlers", Package: "pgcoord",
		Promise: "the application's statement_timeout bounds its handlers' statements",
	},
	{
		Name: "conflicts-are-no-failures", File: "internal/handling/fault.go",
		Old: "return f.Conflict || batchtx.IsConflict(f.Err)", New: "return f.AtCommit && batchtx.IsConflict(f.Err)",
		Test: "TestDecide", Promise: "no event is blamed for a deadlock",
	},
	{
		Name: "conflicts-at-commit-are-no-failures", File: "internal/handling/fault.go",
		Old: "|| batchtx.IsConflict(f.Err)", New: "|| batchtx.IsConflict(f.Err) && !f.AtCommit",
		Test: "TestAConflictIsNoFailureOfItsEvent", Package: "actors", Promise: "nor where COMMIT finds it",
	},
	{
		Name: "conflicts-that-handlers-hide", File: "internal/batchtx/record.go",
		Old: `code != "" && code != "25P02"`, New: `code == "" && code != "25P02"`,
		Test: "TestConflictsAreSeenWhateverAHandlerMakesOfThem", Package: "internal/batchtx", Promise: "whatever its handler makes of the error",
	},
	{
		Name: "conflicts-are-forgotten", File: "internal/batchtx/record.go",
		Old: "		t.last = nil\n	}\n}", New: "		_ = code\n	}\n}",
		Test: "TestAConflictThatAHandlerDealtWithIsForgotten", Package: "internal/batchtx", Promise: "a conflict that a handler dealt with hides no failure of the event",
	},
	{
		Name: "waiting-is-a-conflict", File: "internal/batchtx/begin.go",
		Old: "current_setting('pupsourcing.statement_timeout') = '0' THEN", New: "current_setting('pupsourcing.statement_timeout') <> '' THEN",
		Test: "TestWaitingForARowIsNoFailureOfTheEvent", Package: "test/face", Promise: "an event whose handler waits for another transaction is not skipped",
	},
	{
		Name: "conflicts-abort-the-transaction", File: "internal/batchtx/record.go",
		Old: "IsConflict(t.last) && (conn.TxStatus() == inAborted || conn.IsBusy())", New: "IsConflict(t.last) || conn == nil",
		Test: "TestAConflictThatAHandlerDealtWithIsForgotten", Package: "internal/batchtx", Promise: "nor where the library does not see how",
	},
	{
		Name: "turns-are-taken", File: "pgcoord/turns.go",
		Old: "THEN (SELECT true FROM pg_catalog.pg_advisory_xact_lock($2))", New: "THEN $2::bigint IS NOT NULL",
		Test: "TestABatchTakesItsTurnBeforeItsRows", Promise: "batches that are in conflict run one after the other",
	},
	{
		Name: "waits-for-a-row-are-noticed", File: "actors/rowwaits.go",
		Old: "	case waits:\n", New: "	case waits && p.fence.Generation < 0:\n",
		Test: "TestBatchesThatWaitForOneRowTakeTurns", Promise: "partitions whose events change one row do not make each other slow",
	},
	{
		Name: "slow-is-not-waiting", File: "pgcoord/turns.go",
		Old: "AS l JOIN blocking ON blocking.pid = l.pid WHERE l.key = $2)", New: "AS l WHERE $2::bigint IS NOT NULL)",
		Test: "TestWhoWaitsForAShownBatchIsFound", Package: "pgcoord", Promise: "partitions that are slow by themselves take no turns",
	},
	{
		Name: "turns-are-waited-for-outside", File: "actors/turns.go",
		Old: "	if !p.eventByEvent() || p.fence", New: "	if p.run != nil || p.fence",
		Test: "TestWhoWaitsForAnothersTurnWaitsOutsideTheDatabase", Promise: "who waits for its turn does not keep the server from removing old rows",
	},
	{
		Name: "one-wait-is-chance", File: "actors/rowwaits.go",
		Old: "t.slow, t.blocked = -slowSkipped, 0", New: "t.slow = -slowSkipped",
		Test: "TestOneChanceWaitMeansNothing", Promise: "nor do partitions that wait for each other now and then",
	},
	{
		Name: "slow-events-do-not-stand-out", File: "actors/rowwaits.go",
		Old: "c.handled == 1 || c.first >= slowTimes", New: "c.handled == 1 || c.first >= 0*slowTimes",
		Test: "TestOneChanceWaitMeansNothing", Promise: "or whose events all take long",
	},
	{
		Name: "who-asks-for-the-turn-gets-it", File: "actors/turns.go",
		Old: "time.Since(began) < turnOutside;", New: "time.Since(began) < 1000*turnOutside;",
		Test: "TestWhoAsksForTheTurnQueuesInTheEnd", Promise: "who waits outside the database for its turn is not passed over for ever",
	},
	{
		Name: "turns-end-their-time", File: "internal/batchtx/begin.go",
		Old: "batch.Queue(sqlEndTurn, lockWait)", New: "batch.Queue(\"SELECT $1, $2\", sqlEndTurn, lockWait)",
		Test: "TestABatchInTurnWaitsForItsRows", Package: "pgcoord", Promise: "a batch waits for its rows for as long as that takes, also after it waited for its turn",
	},
	{
		Name: "losses-elsewhere", File: "internal/handling/decide.go",
		Old: "if s.lossPosition != f.Position {", New: "if s.lossPosition != f.Position && s.losses == 0 {",
		Test: "TestDecideCountsLosses", Promise: "a server that goes away now and then fails no event",
	},
	{
		Name: "idle-handlers-get-more-time", File: "internal/handling/fault.go",
		Old: "f.Idle > 0 && f.Lost", New: "f.Idle > 0 && f.Lost && f.Events == 0",
		Test: "TestDecide", Promise: "a handler that takes longer than a frozen worker may keep its rows is not repeated for ever",
	},
}
