package main

// manualLetterGuards are those of the manual runner's error policies.
var manualLetterGuards = []guard{
	{
		Name: "manual-letters-are-of-their-events", File: "projection/letters.go",
		Old: "last_error = excluded.last_error, ` + sqlOfEvent + `, slot_from", New: "last_error = excluded.last_error, slot_from",
		Test: "TestAProcessorsLetterAtAPositionThatIsGivenAgain", Promise: "a letter names the event that failed, not an earlier one at its position",
	},
	{
		Name: "manual-outcomes-are-looked-up", File: "projection/load.go",
		Old: "if state == wanted {", New: "if state == wanted || true {",
		Test: "TestAnotherProcessorHandlesTheEventThatFailed", Promise: "nobody is told that an event was skipped which another processor has handled",
	},
	{
		Name: "manual-stops-are-fenced", File: "projection/processor_batch.go",
		Old: "	if r.letters != nil {\n\t\tlocks = append", New: "	if r.letters == nil {\n\t\tlocks = append",
		Test: "TestProcessorsOfOnePartitionStopTogether", Promise: "no processor of a partition passes an event that another has stopped at",
	},
	{
		Name: "manual-stop-cover-all-slots", File: "projection/letters.go",
		Old: "from, to = &l.slots.From, &l.slots.To", New: "one := l.slots.From + 1\n\t\tfrom, to = &l.slots.From, &one",
		Test: "TestParkedAggregatesFollowTheSlotsOfProcessors", Promise: "another number of partitions does not undo a stop",
	},
	{
		Name: "manual-parked-is-heeded", File: "projection/load.go",
		Old: "r.parked, err = r.letters.parked(ctx, db)", New: "_, err = r.letters.parked(ctx, db)",
		Test: "TestProcessorsOfOnePartitionParkTogether", Promise: "another processor knows which aggregates are parked",
	},
	{
		Name: "manual-parked-events-wait", File: "projection/processor_batch.go",
		Old: "if _, is := r.parked[aggregateOf(e)]; is {", New: "if _, is := r.parked[aggregateOf(e)]; is && false {",
		Test: "TestProcessorSkipsAndParks", Promise: "no event of a parked aggregate passes the one that failed",
	},
	{
		Name: "manual-letters-of-parked-only", File: "projection/letters.go",
		Old: " OR (SELECT pg_catalog.sum(n) FROM parked) IS DISTINCT FROM $8::bigint", New: "",
		Test: "TestProcessorSkipsAndParks", Promise: "no event is put aside whose aggregate was discarded",
	},
	{
		Name: "manual-parks-are-capped", File: "projection/letters.go",
		Old: "WHERE projection_name = $1::text) < $6::bigint", New: "WHERE projection_name = $1::text) < 1000 + $6::bigint",
		Test: "TestCapsOfAProcessorsParking", Promise: "no more aggregates are parked than may be",
	},
	{
		Name: "manual-attempts-over-runs", File: "projection/failing.go",
		Old: "f.attempts = max(f.attempts, attempts)", New: "f.attempts = max(f.attempts, min(attempts, 1))",
		Test: "TestProcessorCountsAttemptsOverRuns", Promise: "a restart does not begin the attempts again",
	},
	{
		Name: "manual-performs-after-losses", File: "projection/load.go",
		Old: "if wanted != \"\" && r.letters != nil {", New: "if wanted == \"never\" {",
		Test: "TestProcessorsOutcomesSurviveCuts", Promise: "an outcome whose commit's answer was lost is told",
	},
	{
		Name: "manual-unpartitioned-does-not-park", File: "projection/config.go",
		Old: "if d.Unpartitioned && p.Then == handling.Park {", New: "if !d.Unpartitioned && p.Then == handling.Park {",
		Test: "TestCapsOfAProcessorsParking", Promise: "a projection that wants one order across aggregates parks none of them",
	},
}
