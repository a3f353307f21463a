package main

// aidGuards keep a table that is only of help from blocking what it helps.
var aidGuards = []guard{
	{
		Name: "notes-of-waits-rest", File: "pgcoord/standing.go",
		Old: "	case mayDoWithout(err):\n		s.notes.rest()", New: "	case mayDoWithout(err) && ctx == nil:\n		s.notes.rest()",
		Test: "TestWaitsAreNotNotedWhereThatCannotBe", Package: "pgcoord", Promise: "a lock on orchestrator_waits slows the waits of a process once in a while, and not each time",
	},
	{
		Name: "aids-are-tried-again-soon", File: "pgcoord/aid.go",
		Old: "a.next.Store(min(2*rest, int64(mostAidRest)))", New: "a.next.Store(2*rest)",
		Test: "TestTheRestsOfAnAid", Promise: "a drain takes effect soon after the lock on its table is gone",
	},
	{
		Name: "looks-do-without-an-aid", File: "pgcoord/view.go",
		Old: "if err == nil || !mayDoWithout(err) {", New: "if err == nil || len(args) > 0 {",
		Test: "TestGenerationsChangeWithoutTheAbandonedHandlers", Promise: "a table of abandoned handlers that cannot be read keeps no worker from looking at its replica set",
	},
	{
		Name: "activations-do-without-an-aid", File: "pgcoord/activation.go",
		Old: "ok && mayDoWithout(err) {", New: "ok && err == nil {",
		Test: "TestGenerationsChangeWithoutTheAbandonedHandlers", Promise: "nor a generation from being activated",
	},
	{
		Name: "unrecorded-handlers-hold-up-nothing", File: "internal/replicaset/decide.go",
		Old: "!leftOut(s, me) && !unrecordable(s, v):", New: "!leftOut(s, me):",
		Test: "TestAWorkerGoesOnThatCannotRecordWhatItHasAbandoned", Promise: "nor a worker from starting its other projections",
	},
	{
		Name: "withheld-projections-are-started", File: "internal/replicaset/decide.go",
		Old: "s.Partitions == Handling && returned(s):", New: "s.Leaving && returned(s):",
		Test: "TestAWorkerGoesOnThatCannotRecordWhatItHasAbandoned", Promise: "what was not started meanwhile is when its handler has returned",
	},
	{
		Name: "a-lock-on-the-turns", File: "actors/turns.go",
		Old: "unread = p.turnsUnread()", New: "unread = nil",
		Test: "TestALockOnTheTableOfTurnsHoldsUpNothing", Promise: "who has locked the table of turns holds up no projection without conflicts",
	},
	{
		Name: "looks-do-without-the-drains", File: "pgcoord/aid.go",
		Old: `drainedColumn, " coalesce(w.drained, false)",`, New: `"nothing", "",`,
		Test: "TestTablesThatAreOnlyAidsStopNobody", Package: "test/face", Promise: "a table of drains that cannot be read keeps no worker from looking at its replica set",
	},
	{
		Name: "activations-go-by-drains", File: "pgcoord/aid.go",
		Old: "members[i].LeftOut, members[i].Drained = slices.Clone(abandoned), drained", New: "members[i].LeftOut = slices.Clone(abandoned)",
		Test: "TestADrainedMemberGetsNothing", Promise: "a drain is in the next generation",
	},
	{
		Name: "handlers-that-cannot-be-recorded", File: "actors/execution.go",
		Old: "	if dbfault.IsRefused(err) {\n\t\te.result.unrecorded = true", New: "	if dbfault.IsRefused(err) && err == nil {\n\t\te.result.unrecorded = true",
		Test: "TestAHandlerThatHangsCannotBeRecorded", Promise: "a handler that hangs and cannot be recorded keeps nobody else from work",
	},
	{
		Name: "an-assignment-waits-for-no-aid", File: "pgcoord/reads.go",
		Old: "	first.Queue(sqlRecordPatience)\n", New: "	first.Queue(\"SELECT 1\")\n",
		Test: "TestAnAssignmentIsReadWithoutTheRecordOfFailures", Promise: "no partition waits for the record of failures before it starts",
	},
	{
		Name: "assignments-roll-back-aids", File: "pgcoord/reads.go",
		Old: "	if err != nil && !conn.IsClosed() {", New: "	if err != nil && conn.IsClosed() {",
		Test: "TestAnAssignmentIsReadWithoutTheRecordOfFailures", Promise: "a session stays usable after it failed to read an aid",
	},
	{
		Name: "revisions-are-read-first", File: "pgcoord/checkpoints.go",
		Old: "s.assignment(&a.Checkpoints, worker, generation), s.parked(&a.Parked, projections), s", New: "s.parked(&a.Parked, projections), s.assignment(&a.Checkpoints, worker, generation), s",
		Test: "TestWhatIsReadIsAsNewAsTheRevisionThatFencesIt", Promise: "what a worker knows of parked aggregates is fenced",
	},
}
