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
}
