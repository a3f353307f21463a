package main

// horizonGuards keep projections from passing a position at which an event may still appear.
var horizonGuards = []guard{
	{
		Name: "previous-probe-bound", File: "internal/horizon/tracker.go",
		Old: "func (t *Tracker) boundOfNew() int64 { return t.reached }", New: "func (t *Tracker) boundOfNew() int64 { return 1 << 62 }",
		Test: "TestTracker", Promise: "a transaction that was not seen before is above what the previous probe saw",
	},
	{
		Name: "known-holder-bound", File: "internal/horizon/tracker.go",
		Old: "if bound, known := t.bounds[h.Name]; known {", New: "if bound, known := t.bounds[h.Name]; known && bound < 0 {",
		Test: "TestTracker", Promise: "a transaction that stays open keeps its bound",
	},
	{
		Name: "prepared-holder-bound", File: "internal/horizon/tracker.go",
		Old: "func (t *Tracker) boundOfNewPrepared() int64 { return t.horizon }", New: "func (t *Tracker) boundOfNewPrepared() int64 { return t.reached }",
		Test: "TestTracker", Promise: "a prepared transaction with a new name may be an old one",
	},
	{
		Name: "first-probe-floor", File: "internal/horizon/tracker.go",
		Old: "func (t *Tracker) boundOfNew() int64 { return t.reached }", New: "func (t *Tracker) boundOfNew() int64 {\n\tif !t.started {\n\t\treturn 1 << 62\n\t}\n\treturn t.reached\n}",
		Test: "TestFirstProbeAmongOpenTransactions", Promise: "transactions that the first probe meets are above no more than a horizon that was stored",
	},
	{
		Name: "first-probe-counts", File: "internal/horizon/counting.go",
		Old: "upTo, err := p.withoutHole(ctx, c.from, lastValue)", New: "upTo, err := lastValue, ctx.Err()",
		Test: "TestFirstProbeAmongOpenTransactions", Promise: "only a stretch without a hole is settled whoever is open",
	},
	{
		Name: "regressed", File: "internal/horizon/tracker.go",
		Old: "if lastValue < t.reached {", New: "if lastValue < 0 {",
		Test: "TestTrackerRegressed", Promise: "positions that are given again are noticed",
	},
	{
		Name: "regressed-and-grown-again", File: "internal/horizon/regression.go",
		Old: "if reused > 0 {", New: "if reused < 0 {",
		Test: "TestProbeRegressedAndGrownAgain", Promise: "events at positions that a checkpoint had passed before are not skipped in silence",
	},
	{
		Name: "regressed-and-open", File: "internal/horizon/regression.go",
		Old: "case position < p.known.Checkpoint: // somebody", New: "case position < 0: // somebody",
		Test: "TestProbeRegressedAndGrownAgain", Promise: "nor are those of transactions that are still open",
	},
	{
		Name: "regressions-of-others", File: "internal/horizon/regression.go",
		Old: "if latest != p.known.Regression || ", New: "if latest.Number < 0 || ",
		Test: "TestProbersSettleARegressionTogether", Promise: "who has not seen the sequence go back hears of it from others",
	},
	{
		Name: "regressions-are-asked-for", File: "internal/horizon/prober.go",
		Old: "if outdated, err := p.outdated(ctx); err != nil || outdated {", New: "if outdated, err := false, ctx.Err(); err != nil || outdated {",
		Test: "TestOnlyWhereSomethingMayBeDrawnOthersAreAsked", Promise: "and asks them wherever a position may have been drawn",
	},
	{
		Name: "glances-ask-others", File: "internal/horizon/glance.go",
		Old: "if outdated, err := p.outdated(ctx); err != nil || outdated {", New: "if outdated, err := false, ctx.Err(); err != nil || outdated {",
		Test: "TestOnlyWhereSomethingMayBeDrawnOthersAreAsked", Promise: "also where it does not look at the locks",
	},
	{
		Name: "glances-stop-at-holes", File: "internal/horizon/target.go",
		Old: "if position > end+1 || position > s.lastValue() {", New: "if position > s.lastValue() {",
		Test: "TestAGlanceStopsAtAHole", Promise: "a position that is missing may still appear",
	},
	{
		Name: "glances-bound-unseen-transactions", File: "internal/horizon/tracker.go",
		Old: "	t.reached = max(t.reached, position)\n", New: "	t.reached = max(t.reached, position+1)\n",
		Test: "TestPropertyNothingAppearsBelowTheHorizon", Promise: "a transaction that no look has met is above what was visible without a hole, and no more",
	},
	{
		Name: "partitioned-tables-need-the-locks", File: "internal/horizon/glance.go",
		Old: "p.facts.kind == partitioned || ", New: "",
		Test: "TestAPositionThatIsThereTwiceHidesNoTransaction", Promise: "a row at the position of an open transaction is not taken for its event",
	},
	{
		Name: "holes-are-looked-at", File: "internal/horizon/glance.go",
		Old: "(p.hole == before &&", New: "(p.hole == before-1 &&",
		Test: "TestAGlanceWaitsForARolledBackHoleOnce", Promise: "a position that was rolled back holds nothing up",
	},
	{
		Name: "glances-wait-for-no-lock", File: "internal/horizon/statements.go",
		Old: "set_config('lock_timeout', '100ms', true)", New: "set_config('lock_timeout', '60s', true)",
		Test: "TestAGlanceIsExcludedByALock", Promise: "the horizon is found while a lock keeps readers out",
	},
	{
		Name: "idle-probers-ask-nobody", File: "internal/horizon/glance.go",
		Old: "	if lastValue > before || !p.tracker.Settled() {\n", New: "	if lastValue >= before {\n",
		Test: "TestOnlyWhereSomethingMayBeDrawnOthersAreAsked", Promise: "a worker that has nothing to do asks only where the sequence stands",
	},
	{
		Name: "quiet-probes-see-what-comes", File: "internal/horizon/glance.go",
		Old: "seen.lastValue() <= before {", New: "seen.lastValue() >= before {",
		Test: "TestAQuietProbeIsOneStatement", Promise: "a worker to which nothing came for a while handles the next event at once",
	},
	{
		Name: "regression-until-taken-down", File: "internal/horizon/regression.go",
		Old: "if err := p.takeDown(ctx); err != nil {", New: "if p.noticed = nil; p.db == nil {\n\t\tvar err error",
		Test: "TestProbersSettleARegressionTogether", Promise: "that the sequence went back is not forgotten while it cannot be written down",
	},
	{
		Name: "settled-regressions-stay-settled", File: "pgcoord/regressions.go",
		Old: "\nWHERE r.settled_at IS NULL`", New: ", settled_at = NULL`",
		Test: "TestRegressionsAreTakenDownOnce", Promise: "checkpoints that were set back and have moved on since are not taken for some that were not",
	},
	{
		Name: "settles-what-it-knows", File: "pgcoord/regressions.go",
		Old: "AND last_position = $3 AND settled_at", New: "AND $3::bigint >= 0 AND settled_at",
		Test: "TestRegressionsAreTakenDownOnce", Promise: "a regression that went deeper meanwhile is not settled",
	},
	{
		Name: "horizon-is-withdrawn", File: "actors/horizon.go",
		Old: "\t\th.withdraw(c)\n", New: "",
		Test: "TestHorizonIsWithdrawnWhenAProbeFails", Promise: "nobody reads up to the horizon of a server that is gone",
	},
	{
		Name: "own-session", File: "internal/horizon/statements.go",
		Old: " AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()", New: "",
		Test: "TestProbeDoesNotCountItsOwnSession", Promise: "the prober is not held back by itself",
	},
	{
		Name: "partitions-are-looked-at", File: "internal/horizon/statements.go",
		Old: "JOIN target ON i.inhparent = target.oid", New: "JOIN target ON i.inhparent = target.oid AND i.inhparent = 0",
		Test: "TestProbePartitionedEvents", Promise: "writers that insert into a partition are seen",
	},
	{
		Name: "who-makes-a-child-may-write-to-it", File: "internal/horizon/statements.go",
		Old: "l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock')", New: "l.mode IN ('RowExclusiveLock')",
		Test: "TestAChildIsWrittenToByWhoMakesIt", Promise: "writers to a partition that nobody else sees yet are seen",
	},
	{
		Name: "who-makes-a-child-has-an-id", File: "internal/horizon/statements.go",
		Old:  "pg_catalog.bool_or(l.mode = 'ShareUpdateExclusiveLock') AND pg_catalog.bool_or(l.mode = 'ExclusiveLock')",
		New:  "pg_catalog.bool_or(l.mode = 'ShareUpdateExclusiveLock')",
		Test: "TestALockWithoutATransactionIDHoldsNothingBack", Promise: "VACUUM and the build of an index do not hold the horizon back",
	},
	{
		Name: "sequence-under-its-lock", File: "internal/horizon/statements.go",
		Old:  "(SELECT pg_catalog.pg_sequence_last_value(s.seqrelid::pg_catalog.regclass) FROM",
		New:  "(SELECT (xpath('/row/n/text()', query_to_xml(\n\t'SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS n FROM ' || s.seqrelid::regclass ||\n\t' WHERE length(md5(repeat(''x'', (random() + 2000)::int))) > 0', false, true, '')))[1]::text::bigint FROM",
		Test: "TestLastValueIsNeverAheadOfTheSequence", Promise: "the number that a draw logs ahead for an instant is not taken for one that was given",
	},
	{
		Name: "sequence-before-holders", File: "internal/horizon/target.go",
		Old:  "	if err := db.SendBatch(ctx, &batch).Close(); err != nil {\n\t\treturn sight{}",
		New:  "	batch.QueuedQueries[0], batch.QueuedQueries[1] = batch.QueuedQueries[1], batch.QueuedQueries[0]\n\tif err := db.SendBatch(ctx, &batch).Close(); err != nil {\n\t\treturn sight{}",
		Test: "TestWriterBetweenTheTwoStatementsIsAboveTheHorizon", Promise: "the last value is read before the holders",
	},
	{
		Name: "epoch-of-the-server", File: "internal/horizon/server.go",
		Old: "if !s.started.Equal(earlier.started) {", New: "if s.started.IsZero() {",
		Test: "TestServerFollows", Promise: "what another run of the server said proves nothing",
	},
	{
		Name: "epoch-of-the-session", File: "internal/horizon/server.go",
		Old: "s.session != nil && !s.session.After(earlier.now)", New: "true",
		Test: "TestServerFollows", Promise: "a session from after the previous probe may be of a server that has crashed since",
	},
	{
		Name: "epoch-is-asked-for", File: "internal/horizon/prober.go",
		Old: "err != nil || !same {", New: "err != nil || !same && p.epoch == 0 {",
		Test: "TestACrashEndsTheEpoch", Promise: "after a crash the prober starts afresh",
	},
	{
		Name: "epoch-of-the-oldest-session", File: "internal/horizon/server.go",
		Old: "return oldest.follows(p.server), nil", New: "return true, nil",
		Test: "TestACrashEndsTheEpoch", Promise: "where no session is as old as the previous probe, the server may have crashed since",
	},
	{
		Name: "epoch-of-the-same-server", File: "internal/horizon/server.go",
		Old: "if !now.started.Equal(p.server.started) {", New: "if p.epoch == 0 {",
		Test: "TestASessionElsewhereProvesNothing", Promise: "an old session proves nothing for another server than its own",
	},
	{
		Name: "epoch-outlives-connections", File: "internal/horizon/server.go",
		Old: "return oldest.follows(p.server), nil", New: "return false, nil",
		Test: "TestProbeOverAPool", Promise: "a connection that the pool has just opened has nobody read again what was read",
	},
	{
		Name: "cache-is-refused", File: "internal/horizon/check.go",
		Old: "add(f.cache != 1, ", New: "add(f.cache < 1, ",
		Test: "TestCheck", Promise: "a sequence whose sessions draw ahead is refused at the start",
	},
	{
		Name: "polls-while-holders-exist", File: "actors/horizon.go",
		Old: "settled := m.reading.Holders == 0", New: "settled := true",
		Test: "TestHorizonInterval", Promise: "an append that the trigger saw before the horizon asked to be told is found by looking",
	},
	{
		Name: "told-before-the-probe", File: "actors/horizon.go",
		Old: "told := m.told && h.wakeUps.told()", New: "told := h.wakeUps.told()",
		Test: "TestHorizonInterval", Promise: "an append between a probe and the asking is looked for",
	},
	{
		Name: "looks-after-asking", File: "actors/wakeups.go",
		Old: "	if w.who != before {\n", New: "	if w.who == pgcoord.WakeUpsNobody && before != w.who {\n",
		Test: "TestWhatWasAppendedBeforeAskingIsLookedFor", Promise: "whoever asked to be told looks once more",
	},
	{
		Name: "answers-may-be-outdated", File: "actors/wakeups.go",
		Old: "	if outdated {\n", New: "	if outdated && m.declining {\n",
		Test: "TestAnswersThatAreOutdated", Promise: "nobody relies on another's asking that has declined since, nor on its own of an earlier session",
	},
	{
		Name: "crowds-decline", File: "actors/wakeups.go",
		Old: "h.rate.streams() || h.crowd.is()", New: "h.rate.streams()",
		Test: "TestACrowdIsNotNotified", Promise: "appends are not notified when they come too fast for it",
	},
	{
		Name: "relies-on-others-for-a-while", File: "actors/wakeups.go",
		Old: "now.Sub(w.since) >= wakeUpsTrust:", New: "now.Sub(w.since) < 0:",
		Test: "TestWakeUpsWish", Promise: "whoever relies on another's asking notices that it is gone",
	},
	{
		Name: "appends-that-look-ask-nothing", File: "pgcoord/wakeups.go",
		Old: "WHEN NOT pg_try_advisory_lock_shared($1) THEN 2", New: "WHEN true THEN 2",
		Test: "TestAnAppendThatLooksIsNobodyWhoAsked", Promise: "an append that looks at the lock is not taken for a worker that has asked",
	},
	{
		Name: "declining-is-told", File: "pgcoord/wakeups.go",
		Old: "sqlNotify, s.cfg.Appends, notifyDeclined)", New: "sqlNotify, s.cfg.Channel, notifyDeclined)",
		Test: "TestOneSessionSeesToTheWakeUps", Promise: "whoever relied on another's asking hears that it has declined",
	},
	{
		Name: "ended-sessions-decline", File: "pgcoord/session.go",
		Old: "			s.sayGoodbye(ctx, conn)\n", New: "",
		Test: "TestAnEndedSessionDeclines", Promise: "and that it has ended",
	},
	{
		Name: "a-proof-is-not-broken-off", File: "pgcoord/session.go",
		Old: "context.WithTimeout(context.WithoutCancel(parent), timeout)", New: "context.WithTimeout(parent, timeout)",
		Test: "TestAStatementOutlastsTheEndOfItsSession", Promise: "a worker that leaves while its session proves itself tells the others to ask for wake-ups",
	},
	{
		Name: "new-sessions-have-not-asked", File: "pgcoord/session.go",
		Old: "failures, s.asked = 0, false", New: "failures = 0",
		Test: "TestAskingAgainAfterTheSessionBroke", Promise: "a session that was connected again asks again",
	},
	{
		Name: "appends-exclude-nobody", File: "eventstore/wakeup.go",
		Old: " AND pg_catalog.pg_advisory_unlock_shared('{{key}}')))", New: "))",
		Test: "TestAppendsAreNotifiedWhileSomebodyAsks", Promise: "an open append does not keep a worker from asking to be told",
	},
	{
		Name: "appends-do-not-ask", File: "eventstore/wakeup.go",
		Old:  "pg_try_advisory_lock_shared('{{key}}') AND pg_catalog.pg_advisory_unlock_shared(",
		New:  "pg_try_advisory_lock('{{key}}') AND pg_advisory_unlock(",
		Test: "TestAppendsAreNotifiedWhileSomebodyAsks", Promise: "appends at the same time do not notify because of each other",
	},
	{
		Name: "new-epoch-reads-again", File: "actors/processor.go",
		Old: "p.known, p.horizon = p.known && p.epoch == 0, 0", New: "p.horizon = 0",
		Test: "TestNewEpochReadsTheCheckpointsAgain", Promise: "after a crash of the server a processor goes on from what the tables say",
	},
}
