package main

// errorPolicyGuards keep what error policies decide exact.
var errorPolicyGuards = []guard{
	{
		Name: "fence-revision", File: "pgcoord/batch.go",
		Old: "AND revision = $7\nFOR NO KEY UPDATE", New: "AND $7::bigint >= 0\nFOR NO KEY UPDATE",
		Test: "TestAStopIsKnownToWhoeverCommits", Promise: "whoever does not know that the projection is stopped commits nothing",
	},
	{
		Name: "letters-or-nothing", File: "pgcoord/outcome.go",
		Old: "batchtx.Statement{SQL: batchtx.ExactlyOne(b.store.q(sqlLetter)),", New: "batchtx.Statement{SQL: b.store.q(sqlLetter),",
		Test: "TestASkipCommitsWithItsCheckpoint", Promise: "no event is passed without the record that says so",
	},
	{
		Name: "letters-are-of-their-events", File: "pgcoord/outcome.go",
		Old: "last_error = excluded.last_error, ` + sqlOfEvent + `,", New: "last_error = excluded.last_error,",
		Test: "TestALetterReplacesThatOfAnEarlierEvent", Promise: "an event that fails at a position that was given again is found when its aggregate is retried",
	},
	{
		Name: "letters-aside-are-of-their-events", File: "pgcoord/parked.go",
		Old: "generation = excluded.generation, ` + sqlOfEvent + `,", New: "generation = excluded.generation,",
		Test: "TestALetterAtAPositionThatIsGivenAgain", Package: "test/face", Promise: "and so are the later events of its aggregate",
	},
	{
		Name: "stops-raise-the-revision", File: "pgcoord/outcome.go",
		Old: "revision = revision + 1", New: "revision = revision",
		Test: "TestAStopIsKnownToWhoeverCommits", Promise: "a stop is known before the next commit",
	},
	{
		Name: "stops-stay-apart", File: "internal/slot/slot.go",
		Old: "pieces[n-1].Stopped == p.Stopped && ", New: "",
		Test: "TestPropertyEverySlotKeepsItsPosition", Promise: "a stop stays with its slots when ranges are joined",
	},
	{
		Name: "revisions-never-fall", File: "internal/slot/slot.go",
		Old: "p.To, max(pieces[n-1].Revision, p.Revision)", New: "p.To, min(pieces[n-1].Revision, p.Revision)",
		Test: "TestPropertyEverySlotKeepsItsPosition", Promise: "a slot's revision does not go back when ranges are joined",
	},
	{
		Name: "stops-are-rewritten", File: "pgcoord/activation.go",
		Old: "c.stopped = append(c.stopped, orNull(row.Stopped))", New: "c.stopped = append(c.stopped, orNull(0))",
		Test: "TestAStopFollowsItsSlots", Promise: "a stop survives a change of the number of partitions",
	},
	{
		Name: "partly-stopped-reads-alone", File: "actors/reader.go",
		Old: "level := !q.Partial && ", New: "level := ",
		Test: "TestStopOutlivesRestartsAndPartitions", Package: "test/face", Promise: "a partition of which some slots are stopped does not get their events from the shared window",
	},
	{
		Name: "stopped-rows-are-looked-at", File: "actors/processor.go",
		Old: "|| p.unsettled() || len(p.resting) > 0 ||", New: "|| p.unsettled() ||",
		Test: "TestAPauseEnds", Package: "test/face", Promise: "a projection goes on when its pause is over, though nothing is appended",
	},
	{
		Name: "attempts-over-restarts", File: "actors/eventfailed.go",
		Old: "p.policy.After(p.failing.attempts, d.Class); outcome != handling.Retry {", New: "p.policy.After(0, d.Class); outcome != handling.Retry {",
		Test: "TestAttemptsAreCountedOverRestarts", Package: "test/face", Promise: "an event that fails over restarts has an outcome in the end",
	},
	{
		Name: "unknown-outcomes-are-refused", File: "actors/outcome.go",
		Old: "	default: // no transaction is begun\n", New: "	default:\n		return p.pass(ctx, letter, func(b *pgcoord.Batch) { b.Skip(letter) })\n",
		Test: "TestAnUnknownOutcomeIsNotPerformed", Promise: "an event is not skipped because its outcome is unknown",
	},
	{
		Name: "a-pause-is-no-stop", File: "actors/outcome.go",
		Old: "done = slices.ContainsFunc(p.resting, func(one slot.Piece) bool { return one.Stopped == p.failing.position })", New: "done = len(p.pieces) == 0",
		Test: "TestAPauseBeforeTheOutcomeOfAnEvent", Package: "test/face", Promise: "a pause before a failed event is not taken for the stop at it",
	},
	{
		Name: "a-pause-is-no-park", File: "actors/outcome.go",
		Old: "done = p.parked.holds(p.failing.of)", New: "done = len(p.pieces) == 0 || p.parked.holds(p.failing.of)",
		Test: "TestAPauseBeforeTheOutcomeOfAnEvent", Package: "test/face", Promise: "nobody is told that an aggregate is parked before it is",
	},
	{
		Name: "changes-come-before-outcomes", File: "actors/eventfailed.go",
		Old: "return slot.IsSetBack(now, before) || p.failing.outcome != handling.Retry && isRevised(now, before)", New: "return slot.IsSetBack(now, before)",
		Test: "TestAResetBeforeTheOutcomeOfAnEvent", Package: "test/face", Promise: "an event has no outcome by an attempt from before a reset",
	},
	{
		Name: "resets-forget-attempts", File: "actors/eventfailed.go",
		Old: "return slot.IsSetBack(now, before) || p.failing.outcome != handling.Retry && isRevised(now, before)", New: "return p.failing.outcome != handling.Retry && isRevised(now, before)",
		Test: "TestAResetForgetsAttempts", Package: "test/face", Promise: "a rebuild tries an event as often as the error policy says",
	},
	{
		Name: "late-batches-heed-people", File: "actors/processor.go",
		Old: "		return p.waitToRetry(ctx, wait)\n", New: "		return next{after: wait}, nil\n",
		Test: "TestABatchThatIsRetriedLaterHoldsUpNobody", Package: "test/face", Promise: "a batch that is retried in a day keeps nobody from a retry, a reset or a skip meanwhile",
	},
	{
		Name: "conflicts-are-no-attempts", File: "internal/handling/class.go",
		Old: "case batchtx.IsConflict(err):", New: "case batchtx.IsConflict(err) && !permanent:",
		Test: "TestDefaultClass", Promise: "an event is not given up because a concurrent transaction was in the way",
	},
	{
		Name: "texts-suit-the-encoding", File: "pgcoord/store.go",
		Old: "dbguard.Storable(text, s.encoding)", New: `dbguard.Storable(text, "UTF8")`,
		Test: "TestOutcomesAreRecordedInAnyEncoding", Package: "test/face", Promise: "an outcome is recorded though the error has characters that the database lacks",
	},
	{
		Name: "texts-of-letters-suit-the-encoding", File: "projection/letters.go",
		Old: "attempts, dbguard.Storable(text, l.encoding), from", New: `attempts, dbguard.Storable(text, "UTF8"), from`,
		Test: "TestProcessorRecordsOutcomesInAnyEncoding", Promise: "so does the manual runner",
	},
	{
		Name: "full-disks-fail-no-event", File: "internal/dbfault/meaning.go",
		Old: `answer.Code == "53100" ||`, New: "",
		Test: "TestDefaultClass", Package: "internal/handling", Promise: "no event is skipped because the server's disk is full",
	},
	{
		Name: "altered-tables-fail-no-event", File: "internal/dbfault/meaning.go",
		Old: " || isOutdated(answer)", New: " || isOutdated(answer) && false",
		Test: "TestAnAlteredTableFailsNoEvent", Package: "test/face", Promise: "no event is skipped because a table was altered",
	},
	{
		Name: "classifiers-are-contained", File: "internal/handling/class.go",
		Old: "(class < ClassError || class > ClassShutdown) {", New: "class > 1000 {",
		Test: "TestClassifyIsContained", Promise: "a classifier that returns nonsense leaves no event without an outcome",
	},
	{
		Name: "zero-retries-for-ever", File: "internal/handling/errorpolicy.go",
		Old: "if made.Then == Stop && made.Attempts == 0 && made.Classify == nil {", New: "if made.Then == Stop && made.Attempts < 0 && made.Classify == nil {",
		Test: "TestPolicyFillsInItsDefaults", Promise: "without an error policy every event is retried for ever",
	},
	{
		Name: "late-calls-are-timeouts", File: "internal/handling/timeout.go",
		Old: "case !ok || err == nil && !closed:", New: "case !ok || err == nil && (closed || !closed):",
		Test: "TestHandleWithinHidden", Promise: "a handler that hides that its time was over has not handled the event",
	},
	{
		Name: "hooks-hold-up-nothing", File: "internal/handling/hook.go",
		Old: "	default:\n\t\th.dropped()", New: "	case <-h.ending:\n\t\th.dropped()",
		Test: "TestFailureHookThatBlocks", Package: "test/face", Promise: "a hook that blocks delays no event",
	},
	{
		Name: "parked-events-wait", File: "actors/parked.go",
		Old: "all.handle = all.all.Pick(func(i int) bool { return !aside[i] })", New: "all.handle = all.all.Pick(func(int) bool { return true })",
		Test: "TestParkPutsAnAggregateAside", Package: "test/face", Promise: "no event of a parked aggregate passes the one that failed",
	},
	{
		Name: "parked-is-loaded", File: "actors/execution.go",
		Old: "Unsettled: unsettled(row.Projection), Parked: read.Parked, ", New: "Unsettled: unsettled(row.Projection), ",
		Test: "TestParkedAggregatesFollowTheirSlots", Package: "test/face", Promise: "another owner knows which aggregates are parked",
	},
	{
		Name: "parked-is-read-again", File: "actors/processor.go",
		Old: "	p.parked = parkedIn(all, p.fence", New: "	_ = parkedIn(all, p.fence",
		Test: "TestADiscardedAggregateIsHandledAgain", Package: "test/face", Promise: "an owner that was fenced by a revision learns what is parked by now",
	},
	{
		Name: "letters-of-parked-only", File: "pgcoord/parked.go",
		Old: " OR (SELECT pg_catalog.sum(n) FROM parked) IS DISTINCT FROM $11::bigint", New: "",
		Test: "TestParkingCommitsWithItsCheckpoint", Promise: "no event is put aside whose aggregate is not parked",
	},
	{
		Name: "letters-on-record-are-parked", File: "pgcoord/parked.go",
		Old: "    SET state = 'parked', worker_id", New: "    SET state = d.state, worker_id",
		Test: "TestEventsOnRecordArePutAside", Package: "pgcoord", Promise: "an event that was handled before a reset is put aside like any other",
	},
	{
		Name: "parks-are-capped", File: "pgcoord/parked.go",
		Old: "WHERE projection = $1::text) < $7::bigint", New: "WHERE projection = $1::text) < 1000 + $7::bigint",
		Test: "TestParkingCommitsWithItsCheckpoint", Promise: "no more aggregates are parked than may be",
	},
	{
		Name: "parks-take-turns", File: "pgcoord/parked.go",
		Old: "const sqlParkTurn = `SELECT pg_catalog.pg_advisory_xact_lock($1)`", New: "const sqlParkTurn = `SELECT $1::bigint`",
		Test: "TestParksAreCountedOneAfterTheOther", Promise: "nor by two partitions at the same time",
	},
	{
		Name: "letters-are-capped", File: "internal/handling/parked.go",
		Old: "if letters+more[a] >= most {", New: "if letters+more[a] < 0 {",
		Test: "TestCapsOfParking", Package: "test/face", Promise: "no aggregate gets more letters than may be",
	},
	{
		Name: "cut-batches-put-less-aside", File: "actors/parked.go",
		Old: "q.aside.Slice(0, before(q.aside, q.upTo+1))", New: "q.aside.Slice(0, q.aside.Len())",
		Test: "TestAPortionIsCut", Promise: "a batch that is cut puts no event aside that it does not pass",
	},
	{
		Name: "events-before-one-that-waits-are-committed", File: "actors/eventfailed.go",
		Old: "		if d.Size > 0 {\n", New: "		if false {\n",
		Test: "TestEventsBeforeOneWhoseSystemIsAwayAreCommitted", Package: "test/face",
		Promise: "events are not handled again at each attempt at a later one whose system is away",
	},
	{
		Name: "systems-that-are-away-are-asked-later", File: "internal/handling/decide.go",
		Old: "	d.Delay = wishedDelay(err)\n", New: "",
		Test: "TestRetryAfterOfASystemThatIsAway", Package: "test/face", Promise: "RetryAfter delays an attempt that does not count too",
	},
	{
		Name: "unpartitioned-does-not-park", File: "policychoice.go",
		Old: "if p.Unpartitioned && p.Policy.Then == handling.Park {", New: "if !p.Unpartitioned && p.Policy.Then == handling.Park {",
		Test: "TestRunRefusesErrorPolicies", Package: "test/face", Promise: "a projection that wants one order across aggregates parks none of them",
	},
	{
		Name: "stops-that-nobody-saw", File: "actors/parked.go",
		Old: "	p.failing.unsettled = max(p.failing.unsettled, event.GlobalPosition) // a person", New: "	// a person",
		Test: "TestAStopThatIsEndedAtOnce", Package: "test/face", Promise: "a letter says what became of its event, however soon a stop is ended",
	},
}
