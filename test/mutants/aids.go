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
	{
		Name: "classifiers-hold-up-nobody", File: "internal/handling/class.go",
		Old: "classifyPatience = 2 * time.Second", New: "classifyPatience = 200 * time.Second",
		Test: "TestClassifyIsContained", Promise: "a classifier that hangs keeps no projection from going on, and no generation from changing",
	},
	{
		Name: "late-calls-are-few", File: "internal/contained/contained.go",
		Old: "if c.late.Load() >= c.most {", New: "if c.late.Load() > c.most {",
		Test: "TestCall", Promise: "a function of the application that hangs each time does not leave ever more goroutines behind",
	},
	{
		Name: "loggers-hold-up-nobody", File: "orchestrator.go",
		Old: "	o.config.logger = contained.Logger(o.config.logger)\n", New: "	_ = contained.Logger(o.config.logger)\n",
		Test: "TestALoggerThatHangsHoldsUpNobody", Package: "test/face", Promise: "a logger that hangs keeps no event from being handled",
	},
	{
		Name: "lost-records-are-counted", File: "internal/contained/logger.go",
		Old: "h.lost.Add(lost + 1)", New: "h.lost.Add(1)",
		Test: "TestLogger", Package: "internal/contained", Promise: "the log says how many records are missing",
	},
	{
		Name: "tracers-hold-up-nobody", File: "internal/tracing/batch.go",
		Old: "	patience = time.Second", New: "	patience = 100 * time.Second",
		Test: "TestATracerThatHangs", Promise: "a tracer that hangs keeps no event from being handled",
	},
}
