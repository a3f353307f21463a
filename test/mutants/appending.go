package main

// appendGuards keep appends from reporting conflicts that are none, which callers retry for ever, and from keeping half of an append.
var appendGuards = []guard{
	{
		Name: "swallowed-events", File: "eventstore/append.go",
		Old: "if out.events == 0 && !out.advanced {", New: "if out.events == 0 {",
		Test: "TestEventsThatATriggerTakesAwayAreNoConflict", Promise: "events that a trigger takes away, or stores elsewhere, are no conflict",
	},
	{
		Name: "swallowed-head", File: "eventstore/append.go",
		Old: "if b.expected == anyVersion || actual == b.expected {", New: "if b.expected == anyVersion && actual < 0 {",
		Test: "TestEventsThatATriggerTakesAwayAreNoConflict", Promise: "nor is a head that a trigger does not let be written",
	},
	{
		Name: "incomplete-append", File: "eventstore/append.go",
		Old: "return es.AppendResult{}, 0, errors.Join(err, spoil(ctx, tx))", New: "return es.AppendResult{}, 0, err",
		Test: "TestEventsThatATriggerTakesAwayAreNoConflict", Promise: "nobody commits a head without its events",
	},
	{
		Name: "hidden-aggregate", File: "eventstore/statements.go",
		Old: "THEN {{all heads}} AND {{all events}} ELSE true END", New: "THEN true ELSE true END",
		Test: "TestAnAggregateThatAPolicyHidesIsNoConflict", Promise: "an aggregate that row-level security hides is not taken for one without events",
	},
	{
		Name: "other-unique-indexes", File: "eventstore/uniquekeys.go",
		Old: "case meaning == keyOfVersion && !known.hides:", New: "case meaning != keyOfEventID:",
		Test: "TestEveryOtherUniqueViolationIsTheDatabasesOwn", Promise: "only the index of the versions tells of a conflict",
	},
	{
		Name: "renamed-unique-indexes", File: "eventstore/uniquekeys.go",
		Old: "if err := k.lookElsewhere(ctx, conn, name); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestAVersionConflictIsRecognisedByTheColumnsOfTheIndex", Promise: "whatever it is called, and on whichever partition it is",
	},
	{
		Name: "ids-that-were-given", File: "eventstore/uniquekeys.go",
		Old: "case meaning == keyOfEventID && givenID:", New: "case meaning == keyOfEventID:",
		Test: "TestAnEventIDThatATriggerRepeatsIsTheDatabasesOwnError", Promise: "an append is a repetition only of ids that its caller gave",
	},
	{
		Name: "schemas-of-tenants", File: "eventstore/uniquekeys.go",
		Old: "if meaning == keyOfOthers && len(s.EventsTable()) == 1 {", New: "if meaning == keyOfOthers && ctx.Err() != nil {",
		Test: "TestAConflictIsRecognisedInEachSchemaOfTheTenants", Promise: "conflicts and repetitions are recognised in whichever schema the search_path leads to",
	},
	{
		Name: "texts-as-they-are", File: "eventstore/append.go",
		Old: "if err := dbguard.CheckConn(conn); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestConnectionsThatWouldChangeTextsAreRefused", Promise: "no connection's encoding changes what is stored",
	},
}
