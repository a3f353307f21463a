package main

// coordinationGuards keep workers coordinated whatever the role, the settings and the people beside them.
var coordinationGuards = []guard{
	{
		Name: "notifications-stand-apart", File: "pgcoord/workers.go",
		Old: "SELECT worker_id FROM worker\nON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now()`", New: "SELECT worker_id FROM worker\nON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now() RETURNING pg_notify('x', 'y')`",
		Test: "TestAFullQueueOfNotificationsChangesNothingElse", Promise: "a full queue of notifications keeps nobody from joining",
	},
	{
		Name: "unsent-proof-costs-nothing", File: "pgcoord/session.go",
		Old: "if err != nil && !conn.IsClosed() { // the queue", New: "if err != nil && conn.IsClosed() { // the queue",
		Test: "TestAFullQueueOfNotificationsCostsNoSession", Promise: "a full queue of notifications ends no session",
	},
	{
		Name: "transitions-outlast-lock-timeouts", File: "pgcoord/generations.go",
		Old: "set_config('lock_timeout', '0', true)", New: "set_config('lock_timeout', current_setting('lock_timeout'), true)",
		Test: "TestTransitionsDoNotKnowTheRolesTimeouts", Promise: "the role's timeouts cut no transition short",
	},
	{
		Name: "numbers-outlive-their-rows", File: "pgcoord/generations.go",
		Old: "(SELECT max(generation) FROM {{schema}}orchestrator_checkpoints WHERE replica_set = $1), 0) + 1", New: "0) + 1",
		Test: "TestNumbersGoOnWhenGenerationsAreDeleted", Promise: "a fencing token is used once",
	},
	{
		Name: "pieces-are-whole", File: "pgcoord/checkpoints.go",
		Old: "if !f.Partition.Covers(pieces) {", New: "if len(pieces) == 0 {",
		Test: "TestPiecesThatLeaveSlotsOutAreNobodys", Promise: "what a deleted checkpoint covered is not handled until it is repaired",
	},
	{
		Name: "hidden-rows-are-an-error", File: "pgcoord/store.go",
		Old: "limit = dbguard.LimitAllRows(pgx.Identifier{schema, \"orchestrator_\" + table}, limit)", New: "_ = dbguard.LimitAllRows(pgx.Identifier{schema, \"orchestrator_\" + table}, limit)",
		Test: "TestHiddenRowsOfTheCoordinationTablesAreAnError", Promise: "a hidden row is not taken for a missing one",
	},
}
