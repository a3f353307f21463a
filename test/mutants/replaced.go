package main

// replacedGuards keep events from being passed over where other tables get the names of those that workers use.
var replacedGuards = []guard{
	{
		Name:    "reads-are-of-one-table",
		File:    "internal/eventread/statements.go",
		Old:     `dbguard.LimitAllRowsOf(events, oid, "$3::bigint")`,
		New:     `dbguard.LimitAllRowsOf(events, 0, "$3::bigint")`,
		Test:    "TestNothingIsReadFromAnotherTable",
		Promise: "not reading another table up to the horizon of the one before",
	},
	{
		Name:    "replaced-tables-are-noticed",
		File:    "internal/horizon/replaced.go",
		Old:     `if found == known.Event.ID || (found == "" && known.Table == p.facts.table) {`,
		New:     `if found != known.Event.ID || found == known.Event.ID {`,
		Test:    "TestATableThatTakesTheNameIsRecognized",
		Promise: "handling nothing of a table that lacks events of the one before",
	},
	{
		Name:    "floors-are-of-one-table",
		File:    "internal/horizon/stored.go",
		Old:     ` || stored.Table != p.facts.table) {`,
		New:     `) {`,
		Test:    "TestAnotherTableStartsFromItsOwnFloor",
		Promise: "not taking what is settled in one table for settled in another that draws from the same sequence",
	},
	{
		Name:    "reused-positions-are-no-other-table",
		File:    "pgcoord/regressions.go",
		Old:     `        last_event_id = CASE WHEN last_event_position <= $3::bigint THEN last_event_id END,`,
		New:     `        last_event_id = last_event_id,`,
		Test:    "TestTheHorizonIsStoredByWhoeverKnowsIt",
		Promise: "going on once a sequence that went back is settled, though another event is at a position",
	},
	{
		Name:    "heartbeats-without-workers",
		File:    "pgcoord/workers.go",
		Old:     "SELECT worker_id FROM worker\nON CONFLICT (worker_id) DO UPDATE SET last_heartbeat = now()`",
		New:     "SELECT worker_id FROM worker`",
		Test:    "TestTheWorkersTablesAreReplaced",
		Package: "test/face",
		Promise: "a worker whose row is gone joins again, though its heartbeat is there",
	},
}
