package main

// horizonEnvironmentGuards keep the horizon right where connections, roles, rights and the sequence are not what they were.
var horizonEnvironmentGuards = []guard{
	{
		Name: "table-keeps-its-schema", File: "internal/horizon/prober.go",
		Old: "p.events, p.target, p.facts, p.server = t.tableName,", New: "p.events, p.target, p.facts, p.server = p.events,",
		Test: "TestWhatAHandlerLeavesBehindMisleadsNobody", Promise: "a start looks for the events table where it was found first",
	},
	{
		Name: "state-is-compared-at-rest", File: "internal/horizon/glance.go",
		Old: "if seen.facts != p.facts || !seen.mayRead", New: "if !seen.mayRead",
		Test: "TestPreconditionsThatChange", Promise: "a precondition that ends while nothing is appended is noticed",
	},
	{
		Name: "state-is-compared", File: "internal/horizon/prober.go",
		Old: "	if seen.facts != p.facts {\n", New: "	if seen.facts.table != p.facts.table {\n",
		Test: "TestPreconditionsThatChange", Promise: "a precondition that ends is noticed before what was drawn since is relied upon",
	},
	{
		Name: "positions-have-a-key", File: "internal/horizon/statements.go",
		Old: "AND (i.indnkeyatts = 1 OR t.relkind = 'p'))", New: "AND i.indisunique)",
		Test: "TestCheck", Promise: "two events cannot have one position",
	},
	{
		Name: "stored-columns-are-no-key", File: "internal/horizon/statements.go",
		Old: "ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])", New: "ANY (i.indkey)",
		Test: "TestCheck", Promise: "two events cannot have one position",
	},
	{
		Name: "aggregates-are-known", File: "internal/horizon/statements.go",
		Old: "AND NOT a.attnotnull AND NOT y.typnotnull", New: "AND a.attisdropped",
		Test: "TestCheck", Promise: "no event is without an aggregate, whose slot nobody would have",
	},
	{
		Name: "no-subscription", File: "internal/horizon/statements.go",
		Old: "WHERE u.subenabled AND (", New: "WHERE NOT u.subenabled AND (",
		Test: "TestASubscriptionWritesTheEvents", Promise: "events do not come at positions that another server has given",
	},
	{
		Name: "key-is-missed", File: "internal/horizon/check.go",
		Old: "if err := t.keyed(ctx, db); err != nil {", New: "if err := t.keyed(ctx, db); err == ctx.Err() && err != nil {",
		Test: "TestPreconditionsThatChange", Promise: "workers stop when the key of the events table is dropped",
	},
	{
		Name: "alterations-are-noticed", File: "internal/horizon/statements.go",
		Old: "coalesce(pg_catalog.pg_relation_filenode(s.seqrelid::pg_catalog.regclass), 0)", New: "0::pg_catalog.oid",
		Test: "TestACacheThatCameAndWent", Promise: "a sequence that was altered and altered back is not the one that was known",
	},
	{
		Name: "hidden-sequence-is-no-zero", File: "internal/horizon/prober.go",
		Old: "return seen, !called && seen.mayRead, nil", New: "return seen, called || !called, nil",
		Test: "TestASequenceThatWasHiddenForAMomentIsNoZero", Promise: "a sequence that may not be read does not seem to have gone back",
	},
	{
		Name: "epoch-of-the-statistics", File: "internal/horizon/server.go",
		Old: "s.statistics.Equal(*earlier.statistics)", New: "earlier.now.IsZero()",
		Test: "TestARoleThatCannotSeeItsSession", Promise: "a role that cannot see its session still knows that the server has not crashed",
	},
	{
		Name: "checkpoints-are-no-floor", File: "internal/horizon/stored.go",
		Old: "	floor := stored.Position\n", New: "	floor := p.known.Checkpoint\n",
		Test: "TestACheckpointByHandIsNoFloor", Promise: "a checkpoint that a person has entered settles nothing",
	},
	{
		Name: "own-horizon-of-the-sequence", File: "internal/horizon/stored.go",
		Old: "seen.facts.filenode != of.Filenode", New: "p.epoch == 0",
		Test: "TestAProberRemembersItsHorizon", Promise: "what was found of another sequence settles nothing",
	},
	{
		Name: "names-are-unambiguous", File: "internal/horizon/target.go",
		Old: "case len(t.ambiguous) > 0:", New: "case len(t.ambiguous) > 3:",
		Test: "TestCheck", Promise: "workers and the database agree on which aggregates are the same",
	},
	{
		Name: "names-have-no-filling", File: "internal/eventrow/scan.go",
		Old: "*name = strings.TrimRight(*name, \" \")", New: "_ = strings.TrimRight(*name, \" \")",
		Test: "TestNamesMayBeFilledUpWithSpaces", Package: "test/face", Promise: "and on which types a projection wants",
	},
	{
		Name: "names-are-one-text", File: "internal/horizon/statements.go",
		Old: "(NOT l.collisdeterministic OR 'citext' IN (y.typname, b.typname))", New: "NOT l.collisdeterministic",
		Test: "TestCheck", Promise: "and no aggregate has events in several slots because its id takes other texts for equal",
	},
	{
		Name: "next-numbers-are-no-zeros", File: "internal/horizon/prober.go",
		Old: "last := max(0, next-p.facts.increment)", New: "last := min(0, next)",
		Test: "TestASequenceThatWasGivenItsNextNumberHasNotGoneBack", Promise: "a sequence that was given its next number after a restore stops nobody",
	},
	{
		Name: "next-positions-are-no-zeros", File: "pgcoord/reset.go",
		Old: "ELSE greatest(last_value - 1, 0) END", New: "ELSE 0 END",
		Test: "TestLastAllocatedIsTheOneBeforeTheNext", Promise: "and resets and imports know of the positions before it",
	},
	{
		Name: "sequence-that-feeds", File: "internal/dbguard/sequence.go",
		Old: "p.deptype = 'i')", New: "p.deptype IN ('a', 'i'))",
		Test: "TestLastAllocatedIsOfTheSequenceThatFeedsThePositions", Package: "pgcoord", Promise: "and of those of the sequence that feeds them, whichever the column owns",
	},
	{
		Name: "sequence-behind-the-rows", File: "internal/horizon/prober.go",
		Old: "	if lastValue < p.extent.highest {\n", New: "	if lastValue < 0 {\n",
		Test: "TestTheSequenceIsBehindTheRows", Promise: "events above the sequence are not passed over in silence",
	},
	{
		Name: "stored-by-the-living", File: "pgcoord/regressions.go",
		Old: "interval '1 second' AND clock_timestamp() AND ` + horizon.SQLSameRun + `", New: "interval '1 second' AND clock_timestamp() AND $1::timestamptz IS DISTINCT FROM $2::timestamptz AND $3::timestamptz IS DISTINCT FROM $2::timestamptz",
		Test: "TestTheHorizonIsStoredByWhoeverKnowsIt", Promise: "a horizon from before a crash is not stored after it",
	},
	{
		Name: "stored-in-its-term", File: "pgcoord/regressions.go",
		Old: "WHERE events_table = $4 AND term = $5 AND", New: "WHERE events_table = $4 AND term >= $5 - 5 AND",
		Test: "TestTheHorizonIsStoredByWhoeverKnowsIt", Promise: "nor one from before the sequence went back",
	},
	{
		Name: "storing-waits-for-nobody", File: "pgcoord/regressions.go",
		Old: " SKIP LOCKED", New: "",
		Test: "TestStoringTheHorizonWaitsForNobody", Promise: "a row that somebody has locked stops no probe",
	},
}
