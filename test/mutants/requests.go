package main

// requestGuards keep exact what operators ask for.
var requestGuards = []guard{
	{
		Name: "full-batches-may-end-a-retry", File: "actors/parked.go",
		Old: "	return n > letters\n", New: "	return true\n",
		Test: "TestARetryThatLeavesNoLetter", Promise: "what is handled after a retry is not rolled back for what the worker itself has done",
	},
	{
		Name: "raised-revisions-are-noticed", File: "actors/positions.go",
		Old: " || seen.Revisions > mine.Revisions {", New: " {",
		Test: "TestCheckpointsThatSomebodyElseHasChanged", Promise: "what an operator asks for is done though nothing is appended",
	},
	{
		Name: "retries-of-letters-that-are-there", File: "pgcoord/requests.go",
		Old: "SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM letter) <> $6::bigint OR (SELECT pg_catalog.count(*) FROM parked) <> 1", New: "SELECT CASE WHEN $6::bigint < 0",
		Test: "TestARetryOfWhatIsGoneCommitsNothing", Promise: "a letter that was discarded meanwhile is not handled as well",
	},
	{
		Name: "requests-that-are-waiting", File: "pgcoord/requests.go",
		Old: "      AND state = 'waiting'\n    RETURNING 1\n)\nSELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(requestChanged) + ` END FROM request`\n\n// sqlAnswer", New: "    RETURNING 1\n)\nSELECT CASE WHEN pg_catalog.count(*) <> 1 THEN ` + dbguard.Raise(requestChanged) + ` END FROM request`\n\n// sqlAnswer",
		Test: "TestARetryOfWhatIsGoneCommitsNothing", Promise: "a request that was cancelled is not served any more",
	},
	{
		Name: "parked-while-letters-are-left", File: "pgcoord/requests.go",
		Old: "  AND NOT EXISTS (SELECT FROM {{schema}}orchestrator_dead_letters WHERE ` + parkedLetters + ` LIMIT {{letters 1}})`", New: "`",
		Test: "TestLettersAreRetriedInBatches", Promise: "an aggregate flows again only when nothing of it is put aside",
	},
	{
		Name: "requests-have-their-own-backoff", File: "actors/requests.go",
		Old: "		if f.AtCommit || f.Lost {", New: "		if f.AtCommit || f.Lost || d.Err != nil {",
		Test: "TestARetryThatCannotBeServedHoldsUpNobody", Package: "test/face", Promise: "other aggregates do not wait for a retry whose handler cannot reach another system",
	},
	{
		Name: "requests-let-others-go-first", File: "actors/requests.go",
		Old: "	p.requests.postpone(r)\n", New: "",
		Test: "TestARetryWaitsForNoOtherWhoseSystemIsAway", Package: "test/face", Promise: "a retry whose handler cannot reach another system holds up no other retry",
	},
	{
		Name: "operations-are-listed-in-turn", File: "pgcoord/requests.go",
		Old:  "row_number() OVER (PARTITION BY operation ORDER BY aggregate_id, aggregate_type, bounded_context), operation\n",
		New:  "operation, aggregate_id, aggregate_type, bounded_context\n",
		Test: "TestARetryWaitsForNoOtherWhoseSystemIsAway", Package: "test/face", Promise: "a retry of many aggregates keeps no other from being served",
	},
	{
		Name: "letters-before-one-that-waits-are-kept", File: "actors/requests.go",
		Old: "		if d.Size > 0 && r.Kind == replicaset.Retry {", New: "		if false && r.Kind == replicaset.Retry {",
		Test: "TestARetryWaitsForNoOtherWhoseSystemIsAway", Package: "test/face", Promise: "letters that were handled are not handled again at each attempt at a later one",
	},
	{
		Name: "operations-end-in-turn", File: "pgcoord/requests.go",
		Old: "	b.add(sqlEndInTurn, r.Operation)\n", New: "",
		Test: "TestTheLastAnswerEndsTheOperation", Promise: "an operation ends with its last request, though two owners answer at once",
	},
	{
		Name: "letters-and-their-events", File: "actors/requests.go",
		Old: " && events.At(n).EventID == letters[n].EventID {", New: " {",
		Test: "TestALetterWithoutItsEvent", Package: "test/face", Promise: "a retry handles the event that was put aside, not another at its position",
	},
	{
		Name: "trials-check-what-is-deferred", File: "actors/requests.go",
		Old: "		call.err = b.CheckDeferred(ctx)", New: "		_ = b.CheckDeferred(ctx)",
		Test: "TestATrialChecksWhatIsDeferred", Package: "test/face", Promise: "a trial succeeds only if the retry would",
	},
	{
		Name: "the-same-are-discarded", File: "admin/discard.go",
		Old: "	parked = parked.among(locked)", New: "	_ = locked",
		Test: "TestDiscardLocksWhatItDiscards", Package: "test/face", Promise: "nothing is discarded whose slots are not locked",
	},
	{
		Name: "no-more-is-discarded", File: "admin/discard.go",
		Old: "		if result.Events > most {", New: "		if result.Events > most && ctx == nil {",
		Test: "TestNoMoreIsDiscardedThanAgreedTo", Package: "test/face", Promise: "nobody loses more letters than they have agreed to",
	},
	{
		Name: "what-is-deleted-was-not-done", File: "admin/retry.go",
		Old: "		case result.Aggregates < of.parts:", New: "		case result.Aggregates < 0:",
		Test: "TestRequestsThatSomebodyDeletes", Package: "test/face", Promise: "a request whose rows somebody has deleted is not reported as done",
	},
	{
		Name: "pauses-are-waited-for", File: "admin/retry.go",
		Old: "	if paused != \"\" {", New: "	if paused == \" \" {",
		Test: "TestARetryOfAPausedProjectionSaysSo", Package: "test/face", Promise: "a caller of a retry learns what the retry waits for",
	},
	{
		Name: "pauses-that-are-over", File: "admin/pause.go",
		Old: "	if past {", New: "	if past && ctx == nil {",
		Test: "TestAPauseThatEndsWhileItWaits", Package: "test/face", Promise: "nobody is told that a projection is paused which is not",
	},
	{
		Name: "rebuilds-count-up-to-their-end", File: "admin/rebuild.go",
		Old: "sum(least(position, (o.result ->> 'until')::bigint)::numeric", New: "sum(position::numeric",
		Test: "TestARebuildOfWhichAPartIsAhead", Package: "test/face", Promise: "what is left of a rebuild is not less than nothing",
	},
	{
		Name: "held-slots-rest", File: "internal/slot/slot.go",
		Old: "func (p Piece) Rests() bool { return p.Stopped != 0 || p.IsHeld() }", New: "func (p Piece) Rests() bool { return p.Stopped != 0 }",
		Test: "TestAPauseOutlivesRestartsAndPartitions", Package: "test/face", Promise: "a paused projection handles nothing",
	},
	{
		Name: "holds-are-rewritten", File: "pgcoord/activation.go",
		Old: "c.held, c.heldUntil = append(c.held, orNull(row.Held)), append(c.heldUntil, orNull(row.HeldUntil))", New: "c.held, c.heldUntil = append(c.held, nil), append(c.heldUntil, nil)",
		Test: "TestAPauseOutlivesRestartsAndPartitions", Package: "test/face", Promise: "a pause survives a change of the number of partitions",
	},
	{
		Name: "holds-stay-apart", File: "internal/slot/slot.go",
		Old: " && pieces[n-1].sameHold(p) {", New: " {",
		Test: "TestPropertyEverySlotKeepsItsPosition", Promise: "a hold stays with its slots when ranges are joined",
	},
	{
		Name: "nothing-beyond-a-hold", File: "actors/batch.go",
		Old: "	if upTo > limit {", New: "	if false && upTo > limit {",
		Test: "TestAHoldAhead", Package: "test/face", Promise: "nothing beyond a hold is handled",
	},
	{
		Name: "pauses-raise-the-revision", File: "admin/pause.go",
		Old: "SET hold_at = position, hold_until = $3::timestamptz, revision = revision + 1", New: "SET hold_at = position, hold_until = $3::timestamptz, revision = revision",
		Test: "TestNothingCommitsAfterPause", Package: "test/face", Promise: "nothing commits after Pause has returned",
	},
	{
		Name: "requests-wait-for-holds", File: "actors/requests.go",
		Old: "return p.IsHeld() && p.Contains(one.Slot)", New: "return false && p.Contains(one.Slot)",
		Test: "TestResumeEndsStopsAndLetsRequestsBeServed", Package: "test/face", Promise: "nothing of a paused projection is retried",
	},
	{
		Name: "retries-keep-their-size", File: "actors/requests.go",
		Old: "	r.known, r.list = !slices.ContainsFunc", New: "	r.size, r.failures = 0, handling.State{}\n	r.known, r.list = !slices.ContainsFunc",
		Test: "TestATrialChecksWhatIsDeferred", Package: "test/face", Promise: "a letter that the commit refuses is found among others",
	},
	{
		Name: "turns-end-before-the-answer", File: "actors/requests.go",
		Old: "	alive, conflict, cause := b.Alive(), b.Conflict(call.err), b.Cause()\n	done()", New: "	alive, conflict, cause := b.Alive(), b.Conflict(call.err), b.Cause()\n	b.Rollback(ctx)\n	defer done()",
		Test: "TestARetryThatFailsWhilePartitionsTakeTurns", Package: "test/face", Promise: "a letter that fails is answered, also where partitions take turns",
	},
	{
		Name: "imports-end-manual-processors", File: "admin/importing.go",
		Old: "fmt.Sprintf(sqlDeleteManualRows, table), names)", New: "fmt.Sprintf(sqlDeleteManualRows, table), names[:0])",
		Test: "TestAnImportEndsManualProcessors", Package: "test/face", Promise: "a manual runner handles nothing that a replica set handles after an import",
	},
	{
		Name: "imports-are-not-begun-again", File: "projection/checkpoint.go",
		Old: "	if c.had {", New: "	if c.had && ctx == nil {",
		Test: "TestAnImportWhileAProcessorArrangesItsRows", Package: "test/face", Promise: "a manual runner does not take rows that an import has just deleted for rows that never were",
	},
	{
		Name: "imports-between-attempts", File: "projection/checkpoint.go",
		Old: "c.had = c.had || c.among(rows)", New: "c.had = c.among(rows)",
		Test: "TestAnImportWhileAProcessorArrangesItsRows", Package: "test/face", Promise: "a manual runner that tries again remembers that there were rows",
	},
	{
		Name: "imports-look-under-the-lock", File: "projection/checkpoint.go",
		Old: "err == nil && !c.among(rows) {", New: "err == nil && !c.had {",
		Test: "TestAnImportWhileAProcessorArrangesItsRows", Package: "test/face", Promise: "a manual runner decides by the rows that it sees under its lock whether it may begin",
	},
	{
		Name: "imports-exclude-starts", File: "admin/importing.go",
		Old: "c.tx.Exec(ctx, manual.SerializeSQL(dbguard.Literal(table)), projection)", New: "c.tx.Exec(ctx, manual.SerializeSQL(dbguard.Literal(table)), projection+\"x\")",
		Test: "TestProcessorsThatStartWaitForAnImport", Package: "test/face", Promise: "a manual runner that starts makes no rows beside an import",
	},
	{
		Name: "imports-see-all-rows", File: "admin/importing.go",
		Old: "err != nil || slices.Equal(locked, there) {", New: "err != nil || len(there) > 0 {",
		Test: "TestAnImportFindsRowsThatAreInsertedWhileItWaits", Package: "test/face", Promise: "an import takes over rows that were inserted while it waited",
	},
	{
		Name: "imports-above-an-unused-sequence", File: "admin/importing.go",
		Old: "	case known && last == 0 && highest > 0:", New: "	case known && last == 0:\n		return nil\n	case known && last == 0 && highest > 0:",
		Test: "TestAnImportAboveASequenceThatWasNeverUsedIsRefused", Package: "test/face", Promise: "a row above a sequence that was never used stops no worker",
	},
	{
		Name: "imports-skip-nothing", File: "admin/importing.go",
		Old: "lowest < 0 || position < lowest {", New: "lowest < 0 || position > lowest {",
		Test: "TestImportOfWhatCannotBeExact", Package: "test/face", Promise: "an import of partitions that are divided otherwise leaves no event out",
	},
	{
		Name: "imports-leave-nothing-aside", File: "admin/importing.go",
		Old: "	if aside > 0 {", New: "	if aside < 0 {",
		Test: "TestImportOfWhatCannotBeExact", Package: "test/face", Promise: "what a manual runner has put aside is not forgotten by an import",
	},
	{
		Name: "discards-end-in-turn", File: "pgcoord/reset.go",
		Old: "WHERE state = 'waiting' AND kind <> 'cut-over' ORDER BY id FOR NO KEY UPDATE`", New: "WHERE state = 'waiting' ORDER BY id`",
		Test: "TestTheLastOfWhatIsDiscardedEndsTheOperation", Promise: "an operation ends when the last of its requests is discarded",
	},
	{
		Name: "moves-beside-starts", File: "actors/execution.go",
		Old: "is && claimed.ReplicaSet != e.worker.Store.ReplicaSet() {", New: "is && claimed.ReplicaSet == \"\" {",
		Test: "TestAMoveBesideAStartHoldsUpNothing", Promise: "a projection that is moved holds up no other of a worker that starts",
	},
	{
		Name: "who-goes-away-learns-of-it", File: "admin/admin.go",
		Old: "\tif found := a.found.Load(); found != nil && !a.moved.Load() {\n\t\treturn found.store, nil\n\t}\n\tselect {", New: "\tselect {",
		Test: "TestACallerThatLeavesLearnsTheOperation", Package: "test/face", Promise: "a caller that leaves right after its request learns the operation's number",
	},
	{
		Name: "the-cancelled-is-told", File: "admin/retry.go",
		Old: "if err == nil && cancelled > 0 {", New: "if err == nil && cancelled < 0 {",
		Test: "TestWhoWaitsForWhatIsCancelledIsTold", Package: "test/face", Promise: "nothing that was cancelled is taken for done",
	},
	{
		Name: "rebuilds-after-rebuilds", File: "pgcoord/reset.go",
		Old: "AND b.state = 'done')) -- a rebuild", New: "AND b.state = 'none')) -- a rebuild",
		Test: "TestARebuildAfterARebuildThatWasNotComplete", Package: "test/face", Promise: "a rebuild is complete when the read model is",
	},
	{
		Name: "operations-of-moved-projections", File: "pgcoord/reset.go",
		Old: "WHERE o.state = 'waiting' AND o.kind <> 'cut-over' AND NOT EXISTS (SELECT", New: "WHERE o.replica_set = 'nobody' AND o.state = 'waiting' AND NOT EXISTS (SELECT",
		Test: "TestAnOperationEndsThoughItsProjectionWasMoved", Package: "test/face", Promise: "an operation ends though its projection was moved",
	},
	{
		Name: "goroutines-that-end", File: "internal/dbguard/several.go",
		Old: "		if !ended {", New: "		if false && !ended {",
		Test: "TestAResetWhoseFunctionEndsItsGoroutine", Package: "test/face", Promise: "a function that ends its goroutine holds nothing",
	},
	{
		Name: "drains-are-taken-notice-of", File: "admin/drain.go",
		Old: "case has == \"\" && noticed:", New: "case has == \"\" && (noticed || true):",
		Test: "TestDrainWaitsForAGenerationThatBegins", Package: "test/face", Promise: "a worker gets no partitions once Drain has returned",
	},
	{
		Name: "retries-of-unparked-aggregates", File: "actors/requests.go",
		Old: "	case len(letters) > 0 && !p.parked.holds(r.Aggregate):\n", New: "	case len(letters) > 0 && false:\n",
		Test: "TestARetryWhoseAggregateWasUnparkedByHandIsRefused", Package: "test/face", Promise: "a retry that cannot be committed ends, and does not call the handler forever",
	},
	{
		Name: "refused-batches-back-off", File: "actors/refused.go",
		Old: "	if p.moved <= movesAtOnce {\n", New: "	if p.moved > 0 {\n",
		Test: "TestBatchesThatAreRefusedInARowBackOff", Promise: "a row that never is as read does not have the handler called without a pause",
	},
	{
		Name: "rows-that-are-held", File: "pgcoord/batch.go",
		Old: "		LockWait: settings.LockWait / time.Duration(max(1, len(locks))),\n", New: "",
		Test: "TestACheckpointThatIsHeldIsNoSilentServer", Package: "actors", Promise: "a row that is held costs no connection, and is not taken for a server that does not answer",
	},
	{
		Name: "resets-give-way", File: "actors/reset.go",
		Old: "	if errors.Is(err, pgcoord.ErrLocked) && p.run.soft.Err() == nil {\n", New: "	if false {\n",
		Test: "TestAResetThatWaitsForABatchGivesWay", Promise: "a reset that waits for one partition does not hold the others for long",
	},
	{
		Name: "resets-stop-waiting", File: "actors/reset.go",
		Old: "	ctx, forget := p.untilStopping(ctx)\n", New: "	forget := func() {}\n",
		Test: "TestAResetThatWaitsStopsAtOnce", Promise: "a reset that waits keeps no change of generation waiting",
	},
	{
		Name: "paused-requests-last", File: "pgcoord/requests.go",
		Old: "c.position >= c.hold_at AND", New: "c.position < 0 AND",
		Test: "TestRequestsOfPausedSlotsComeLast", Promise: "requests whose slots are paused do not keep others waiting",
	},
	{
		Name: "resets-before-retries", File: "pgcoord/requests.go",
		Old: "ORDER BY (kind = 'reset') DESC, EXISTS (", New: "ORDER BY EXISTS (",
		Test: "TestAWorkerResetsWhatIsPausedBeforeItsRetries", Package: "test/face", Promise: "a paused projection is reset, however many retries wait",
	},
}
