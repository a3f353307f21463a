package main

// readingGuards are what keeps the events that are read complete.
var readingGuards = []guard{
	{
		Name:    "resolved-events-table",
		File:    "eventstore/resolve.go",
		Old:     `	resolved.found = found`,
		New:     `	resolved.found = schemas{}; _ = found`,
		Test:    "TestAResolvedStoreIsNotMisled",
		Promise: "reading the events table that was there at the start, whatever a connection's search_path is now",
	},
	{
		Name:    "resolve-on-a-new-connection",
		File:    "eventstore/resolve.go",
		Old:     `ok && err == nil && changed.any()`,
		New:     `ok && err == nil && changed.any() && false`,
		Test:    "TestResolveAsksANewConnection",
		Promise: "resolving the tables on a connection that nobody has used",
	},
	{
		Name:    "run-resolves-the-store",
		File:    "start.go",
		Old:     `return stores{coordination: store, events: events}`,
		New:     `return stores{coordination: store, events: o.eventStore}`,
		Test:    "TestASearchPathThatIsLeftBehindMisleadsNobody",
		Package: "test/face",
		Promise: "reading by the resolved store, as the horizon is found",
	},
	{
		Name:    "manual-processor-resolves-the-store",
		File:    "projection/processor.go",
		Old:     `	r.config.EventStore = store`,
		New:     `	store = r.config.EventStore`,
		Test:    "TestASearchPathThatIsLeftBehindDoesNotMisleadTheManualProcessor",
		Package: "test/face",
		Promise: "reading and keeping checkpoints in the tables that were there at the start",
	},
	{
		Name:    "reads-fail-on-a-standby",
		File:    "eventstore/filter.go",
		Old:     "WHERE ` + dbguard.Primary + `\n\tAND global_position > $1",
		New:     "WHERE (` + dbguard.Primary + ` OR true) AND global_position > $1",
		Test:    "TestNothingIsReadFromAStandby",
		Promise: "not taking a standby's silence for the end of the stream",
	},
	{
		Name:    "reads-fail-behind-row-security",
		File:    "eventstore/statements.go",
		Old:     `dbguard.LimitAllRows(events, "$3::bigint")`,
		New:     `"$3::bigint"`,
		Test:    "TestNothingIsReadBehindRowSecurity",
		Promise: "not taking rows that a policy hides for rows that are not there",
	},
}
