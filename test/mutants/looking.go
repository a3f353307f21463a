package main

// lookingGuards keep what operators see true.
var lookingGuards = []guard{
	{
		Name: "looks-are-of-one-moment", File: "internal/dbguard/several.go",
		Old: "IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly", New: "IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly",
		Test: "TestASnapshotIsOfOneMoment", Package: "test/face", Promise: "what a snapshot shows was so at one moment",
	},
	{
		Name: "looks-fail-on-a-standby", File: "internal/dbguard/several.go",
		Old: "const sqlPrimary = `SELECT WHERE ` + Primary", New: "const sqlPrimary = `SELECT`",
		Test: "TestAStandbyFailsEveryStatementAndLosesItsConnection", Promise: "operators see no old rows of a standby",
	},
	{
		Name: "open-writers-hold-the-horizon", File: "admin/look.go",
		Old: "		if len(writers) == 0 {", New: "		if len(writers) >= 0 {",
		Test: "TestASnapshotNamesWhoHoldsTheHorizonBack", Package: "test/face", Promise: "no position is shown as settled while a transaction may yet append there",
	},
	{
		Name: "lags-are-of-their-slots", File: "admin/assemble.go",
		Old: "		if r.contains(int(l.slots[i])) {", New: "		if i >= 0 {",
		Test: "TestALagIsCountedOrEstimated", Package: "test/face", Promise: "a lag counts the events of the range's slots only",
	},
	{
		Name: "readers-need-select-only", File: "pgcoord/grants.go",
		Old: "	return needs(schema, events, \"SELECT\")\n", New: "	return Needs(schema, events)\n",
		Test: "TestWhoOnlyReadsNeedsOnlySelect", Package: "test/face", Promise: "who only reads is asked for no right to write",
	},
}
