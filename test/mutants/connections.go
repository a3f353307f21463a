package main

// connectionGuards keep a worker going where its connections are not what they were at the start.
var connectionGuards = []guard{
	{
		Name: "late-answers", File: "internal/dbguard/watch.go",
		Old: "	t.late.Store(true)\n	t.watch.late()\n	t.cancel()\n", New: "	t.late.Store(true)\n",
		Test: "TestASilentServerIsFoundOut", Promise: "a query whose connection died without a sign ends",
	},
	{
		Name: "write-transactions", File: "internal/dbguard/transactions.go",
		Old: "AccessMode: pgx.ReadWrite}", New: "}",
		Test: "TestTransactionsWriteWhateverTheDefaultsAre", Promise: "roles with default_transaction_read_only work",
	},
	{
		Name: "settings", File: "internal/dbguard/settings.go",
		Old: `encoding != "UTF8" && encoding != "SQL_ASCII"`, New: "false",
		Test: "TestSettingsThatChangeWhatIsReadAreNamed", Promise: "texts reach handlers as they were stored",
	},
	{
		Name: "after-connect", File: "internal/dbguard/hooks.go",
		Old: "if pool.AfterConnect != nil {", New: "if false {",
		Test: "TestTheSessionRunsAsTheRoleOfThePool", Package: "test/face", Promise: "the session runs as the role of the pool",
	},
	{
		Name: "prepare-conn", File: "internal/dbguard/hooks.go",
		Old: "	prepare := pool.PrepareConn\n", New: "	prepare := pool.PrepareConn\n	prepare = nil\n",
		Test: "TestResolveAsksANewConnection", Package: "eventstore", Promise: "a search_path that a hook of the pool sets decides which events are read",
	},
	{
		Name: "left-behind-settings", File: "internal/dbguard/pool.go",
		Old: "if drop(conn); others <= 0 {", New: "if drop(conn); others <= 1000 {",
		Test: "TestSettingsThatAreLeftBehindStopNobody", Package: "test/face", Promise: "a setting that a handler leaves on a connection ends no manual runner",
	},
	{
		Name: "left-behind-form", File: "internal/eventrow/scan.go",
		Old: "if s.payloadAsText {", New: "if false {",
		Test: "TestPayloadsComeInEitherForm", Promise: "a bytea_output that a handler leaves on a connection stops no reads",
	},
	{
		Name: "left-behind-role", File: "internal/dbguard/pool.go",
		Old: "HidesRows(err) || Raised(err, roleParameter) || ", New: "",
		Test: "TestARoleThatIsLeftBehindStopsNobody", Package: "test/face", Promise: "a role that the application leaves on a connection does not stop a worker",
	},
	{
		Name: "left-behind-timeout", File: "internal/dbguard/pool.go",
		Old: "dbfault.IsCutShort(err) || ", New: "",
		Test: "TestARoleThatIsLeftBehindStopsNobody", Package: "test/face", Promise: "nor does a timeout",
	},
	{
		Name: "handlers-meet-what-is-left-behind", File: "internal/batchtx/rollback.go",
		Old: "if !own || aborted && dbguard.Unfit(t.last) {", New: "if !own || dbguard.Unfit(nil) {",
		Test: "TestAbortClosesWhatAHandlerEnded", Promise: "a handler does not meet a timeout that was left behind again and again",
	},
	{
		Name: "left-behind-path", File: "internal/migrate/place.go",
		Old: "case pooled && (path || role):", New: "case pooled && fresh:",
		Test: "TestASearchPathThatIsLeftBehindDoesNotDecideWhereTheTablesAre", Package: "test/face", Promise: "no worker joins the replica set of another schema's tables",
	},
	{
		Name: "refused-once", File: "projection/processor.go",
		Old: "refused = true // by", New: "return r.explain(ctx, err) // by",
		Test: "TestARoleThatIsLeftBehindEndsNoManualRunner", Package: "projection", Promise: "nor does it end a manual runner",
	},
	{
		Name: "manual-table-is-replaced", File: "internal/dbguard/transient.go",
		Old: "IsReplaced(err) || ", New: "",
		Test: "TestTheEventsTableIsPartitionedWhileAManualRunnerReads", Package: "test/face", Promise: "a manual runner goes on when the events table was partitioned",
	},
	{
		Name: "session-is-notified", File: "connect.go",
		Old: "	cfg.OnNotification = nil\n", New: "",
		Test: "TestTheSessionIsNotifiedWhateverThePoolDoesAboutNotifications", Package: "test/face", Promise: "a callback of the pool takes no notification from the session",
	},
	{
		Name: "session-hears-its-channels", File: "pgcoord/session.go",
		Old: "UNLISTEN *; LISTEN ", New: "LISTEN ",
		Test: "TestSessionHearsNothingOfTheApplication", Promise: "nor does it look at the tables for each notification of the application's",
	},
	{
		Name: "session-waits-for-no-delay", File: "connect.go",
		Old: "	cfg.BuildContextWatcherHandler = func(", New: "	_ = func(",
		Test: "TestTheSessionWaitsForNoDelayOfThePool", Package: "test/face", Promise: "a pool that cancels statements slowly delays no heartbeat",
	},
	{
		Name: "closed-pools-are-left", File: "run.go",
		Old: "sync.OnceFunc(func() { close(closed) })", New: "sync.OnceFunc(func() {})",
		Test: "TestRunEndsWhenItsPoolIsClosed", Package: "test/face", Promise: "a worker whose pool was closed gives its partitions to the others",
	},
	{
		Name: "session-rights", File: "check.go",
		Old: "	if session != nil {\n		checked =", New: "	if false {\n		checked =",
		Test: "TestRunNamesTheRightsThatTheSessionLacks", Package: "test/face", Promise: "rights are checked as the role that uses them",
	},
	{
		Name: "commits-are-answered", File: "internal/dbguard/several.go",
		Old: "return tx.Commit(lasting)", New: "return tx.Commit(ctx)",
		Test: "TestACommitIsAnsweredThoughTheCallerGivesUp", Promise: "who gives up while the server commits learns that it has",
	},
	{
		Name: "rights-do-not-wait-for-the-session", File: "check.go",
		Old: "		giveUp()\n", New: "",
		Test: "TestRunNamesRightsThoughNoSessionComes", Package: "test/face", Promise: "what the role lacks is named though no session comes about",
	},
	{
		Name: "transient-start", File: "internal/dbguard/transient.go",
		Old: "|| !dbfault.IsConfiguration(err)", New: `|| dbfault.Code(err) != "" && !dbfault.IsConfiguration(err)`,
		Test: "TestAHookThatFailsOnceDoesNotEndRun", Package: "test/face", Promise: "what may pass does not end Run",
	},
	{
		Name: "shared-budget", File: "internal/budget/budget.go",
		Old: "(s.held > 0 && left <= workers)", New: "(s.held > 0 && left < 0)",
		Test: "TestWorkersOnOnePoolShareItsPlaces", Promise: "no replica set keeps all places of a pool",
	},
	{
		Name: "places-for-each-projection", File: "internal/budget/budget.go",
		Old: "	return left > projections\n", New: "	return left > 0\n",
		Test: "TestAProjectionLeavesPlacesToTheOthers", Promise: "handlers of one projection that hang leave connections to the others",
	},
	{
		Name: "slow-places-do-not-count", File: "internal/budget/budget.go",
		Old: " + min(slow, max(0, b.kept-1))", New: " + min(slow, 0)",
		Test: "TestHandlersThatHangLeaveConnectionsToOthers", Package: "actors", Promise: "handlers that hang in a small pool leave a connection to the other projections",
	},
	{
		Name: "one-budget", File: "internal/budget/budget.go",
		Old: "	b := budgets.of[pool]\n", New: "	var b *Budget\n",
		Test: "TestABudgetIsForgottenWithItsLastUser", Promise: "handlers find a second connection",
	},
	{
		Name: "budget-keeps-what-is-needed-most", File: "internal/budget/budget.go",
		Old: "b.kept = max(b.kept, s.kept)", New: "b.kept = s.kept",
		Test: "TestWorkersAndManualRunnersShareABudget", Promise: "handlers find a second connection beside manual runners",
	},
}
