package main

// membershipGuards keep the leader from acting on what proves nothing, and a worker from handling events untrusted.
var membershipGuards = []guard{
	{
		Name: "grace-after-a-restart", File: "internal/replicaset/lead.go",
		Old: "return v.ServerAge >= s.Timing.SessionGrace &&", New: "return v.ServerAge >= 0 &&",
		Test: "TestMissingSessionsCount", Promise: "right after a restart of the database nobody is declared dead",
	},
	{
		Name: "grace-after-reconnecting", File: "internal/replicaset/lead.go",
		Old: "|| v.SessionAge >= s.Timing.SessionGrace)", New: "|| v.SessionAge >= 0)",
		Test: "TestMissingSessionsCount", Promise: "what ended one's own session may have ended all",
	},
	{
		Name: "absence-needs-two-looks", File: "internal/replicaset/lead.go",
		Old: "case missing && v.At-since >= absenceInterval:", New: "case missing && v.At >= since:",
		Test: "TestMissingSessionsCount", Promise: "a session that only broke is back by the second look",
	},
	{
		Name: "activation-waits-for-all", File: "internal/replicaset/lead.go",
		Old: "if !anyReady || (len(late) > 0 && !timedOut) {", New: "if !anyReady || (len(late) > 0 && !timedOut && g.Number < 0) {",
		Test: "TestLeaderActivates", Promise: "a generation waits until the living have stopped what they had",
	},
	{
		Name: "declares-dead-before-activating", File: "internal/replicaset/lead.go",
		Old:  "func finishPreparing(s State, v View, lost []Loss) []Action {\n\tif len(lost) > 0 {",
		New:  "func finishPreparing(s State, v View, lost []Loss) []Action {\n\tif len(lost) > len(v.Workers) {",
		Test: "TestLeaderActivates", Promise: "a worker that is lost while a generation is in preparation is declared dead first",
	},
	{
		Name: "frozen-leader-only", File: "internal/replicaset/lead.go",
		Old: "if stale(s, w) && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {", New: "if w.SessionPID != 0 && w.SessionPID == v.LeaderPID {",
		Test: "TestFrozenLeadersSessionIsEndedByTheLeastLive", Promise: "only a leader whose heartbeat is stale loses its session",
	},
	{
		Name: "drain-before-ready", File: "internal/replicaset/decide.go",
		Old:  "func decidePreparing(s State, v View, me Worker) (State, []Action) {\n\tg := v.Generation\n\tif s.Partitions != Idle {",
		New:  "func decidePreparing(s State, v View, me Worker) (State, []Action) {\n\tg := v.Generation\n\tif s.Partitions == Handling {",
		Test: "TestDecideOwn", Promise: "a worker is ready only when nothing of it runs",
	},
	{
		Name: "drain-before-rejoin", File: "internal/replicaset/decide.go",
		Old: "if !me.Present() {\n\t\tif s.Partitions != Idle {", New: "if !me.Present() {\n\t\tif s.Partitions == Handling {",
		Test: "TestDecideOwn", Promise: "a worker that was declared dead rejoins only when nothing of it runs",
	},
	{
		Name: "drain-before-leaving", File: "internal/replicaset/decide.go",
		Old:  "func decideLeaving(s State, v View, me Worker) (State, []Action) {\n\tif s.Partitions == Idle {",
		New:  "func decideLeaving(s State, v View, me Worker) (State, []Action) {\n\tif s.Partitions != Handling {",
		Test: "TestDecideOwn", Promise: "a worker has left only when nothing of it runs",
	},
	{
		Name: "starts-only-trusted", File: "internal/replicaset/decide.go",
		Old: "case s.Partitions == Idle && s.Trusted:", New: "case s.Partitions == Idle:",
		Test: "TestDecideOwn", Promise: "a worker without a lease asks for no partitions",
	},
	{
		Name: "starts-only-under-a-lease", File: "actors/supervisor.go",
		Old: "if s.lease.IsZero() {\n\t\tc.Send(s.coordinator, messages.PartitionsStopped{Generation: a.Generation})", New: "if s.lease.IsZero() && a.Generation < 0 {\n\t\tc.Send(s.coordinator, messages.PartitionsStopped{Generation: a.Generation})",
		Test: "TestPartitionsStartOnlyUnderALease", Promise: "a lease that ended while the assignment was on its way starts nothing",
	},
	{
		Name: "trust-ends-before-others-give-up", File: "actors/config.go",
		Old: "return t.Stale - t.Stale/6 }", New: "return t.Stale + t.Stale/6 }",
		Test: "TestTrustEndsBeforeOthersGiveUp", Promise: "a worker stops by itself before others may declare it dead",
	},
	{
		Name: "trust-from-the-start-of-a-heartbeat", File: "actors/heartbeat.go",
		Old: "until := began.Add(h.worker.Timing.trust())", New: "until := time.Now().Add(h.worker.Timing.trust())",
		Test: "TestLeaseCountsFromTheStartOfTheHeartbeat", Promise: "a heartbeat that was answered late gives no longer lease than others see",
	},
	{
		Name: "trust-has-a-deadline", File: "actors/heartbeat.go",
		Old: "	h.until = until\n\th.armExpiry(c)", New: "	h.until = until",
		Test: "TestLeaseEndsWhenNoHeartbeatSucceeds", Promise: "a worker that cannot reach the database stops handling events by itself",
	},
	{
		Name: "trust-without-a-heartbeat", File: "actors/supervisor.go",
		Old: "if kind == kindHeartbeat && !s.lease.IsZero() {", New: "if kind == kindHeartbeat && s.closed {",
		Test: "TestLeaseEndsWithoutAHeartbeat", Promise: "the lease ends also while the heartbeat's actor is gone",
	},
	{
		Name: "expired-lease-cancels", File: "actors/supervisor.go",
		Old: "s.lease = time.Time{}\n\t\ts.cancelPartitions(c)", New: "s.lease = time.Time{}",
		Test: "TestLeaseExpiredCancelsPartitionsAtOnce", Promise: "handlers are cancelled when the lease ends",
	},
	{
		Name: "stopped-after-the-last", File: "actors/supervisor.go",
		Old: "if s.run != nil && s.run.stopping && s.count(kindPartition)+s.count(kindReader) == 0 {", New: "if s.run != nil && s.run.stopping {",
		Test: "TestDrainIsSoftFirstThenHard", Promise: "partitions are reported as stopped after the last of them",
	},
	{
		Name: "one-generation-at-a-time", File: "actors/supervisor.go",
		Old: "if s.run != nil {\n\t\t// The coordinator starts only", New: "if s.run != nil && a.Generation < 0 {\n\t\t// The coordinator starts only",
		Test: "TestDrainIsSoftFirstThenHard", Promise: "no partitions are started beside others that are alive",
	},
	{
		Name: "stopped-of-before-is-no-stop", File: "actors/coordinator.go",
		Old: "if m.Generation >= k.state.Generation {", New: "if m.Generation >= 0 {",
		Test: "TestStoppedOfAnEarlierGenerationIsNoStop", Promise: "a report of an earlier generation does not hide what runs",
	},
	{
		Name: "the-blind-lead-nobody", File: "actors/coordinator.go",
		Old: "		k.transitions.leads(k, false)\n", New: "",
		Test: "TestAWorkerThatSeesNothingDoesNotLead", Promise: "a worker that cannot reach the database does not seem to lead",
	},
	{
		Name: "leaders-lock-once", File: "pgcoord/view.go",
		Old: "WHEN EXISTS (SELECT 1 FROM locks WHERE key = $3 AND pid = pg_backend_pid()) THEN true\n", New: "WHEN EXISTS (SELECT 1 FROM locks WHERE key = $3 AND pid = pg_backend_pid()) THEN pg_try_advisory_lock($3)\n",
		Test: "TestObserveTakesTheLeadersLockOnce", Promise: "giving up leadership once is enough",
	},
	{
		Name: "other-databases-locks", File: "pgcoord/blockers.go",
		Old: "WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted\n      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())", New: "WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted",
		Test: "TestObserveShowsWhoHoldsASession", Promise: "a lock of another database is no sign of life",
	},
	{
		Name: "predecessors-session-only", File: "pgcoord/blockers.go",
		Old: "\n      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())", New: "",
		Test: "TestSessionLeavesOtherDatabasesAlone", Promise: "a session of another database is never ended",
	},
	{
		Name: "a-glance-forgets-nobody", File: "internal/replicaset/lead.go",
		Old: "\tif v.Glance {\n\t\treturn s.absent\n\t}\n", New: "",
		Test: "TestAGlanceDecidesNothingForOthers", Promise: "who was missing at a look still was after a glance",
	},
	{
		Name: "a-glance-keeps-the-others-ages", File: "internal/replicaset/ages.go",
		Old: "*a = Ages{stood: maps.Clone(before.stood)}", New: "clear(maps.Clone(before.stood))",
		Test: "TestAGlanceKeepsTheOthersAges", Promise: "a worker that is dead is not taken for alive because of glances at a clock that was set back",
	},
	{
		Name: "a-heartbeat-is-as-old-as-the-last-whole-look", File: "internal/replicaset/ages.go",
		Old: "databases = min(databases, at-stood.seen)", New: "databases = min(databases, time.Second)",
		Test: "TestAGlanceKeepsTheOthersAges", Promise: "a heartbeat is not taken for younger than the looks prove",
	},
	{
		Name: "somebody-takes-the-lead", File: "actors/coordinator.go",
		Old: "&& !k.view.Leading && k.view.LeaderLocked", New: "&& !k.view.Leading",
		Test: "TestWhoGlances", Promise: "where nobody leads, the next look finds that out",
	},
	{
		Name: "hanging-look-watches-nothing", File: "actors/coordinator.go",
		Old: "case *lookOverdue:\n\t\tk.tellWatched(c, false)", New: "case *lookOverdue:",
		Test: "TestALookThatHangsWatchesNoAppends", Promise: "appends are looked for while nobody can look at the replica set",
	},
	{
		Name: "late-ready-is-notified", File: "pgcoord/workers.go",
		Old: "if changed == 1 && awaited && state == replicaset.Ready {", New: "if changed == 1 && awaited && state == replicaset.Dead {",
		Test: "TestGenerationsAreNotified", Promise: "the leader hears of who is ready late at once",
	},
	{
		Name: "each-worker-has-its-own-time", File: "internal/replicaset/lead.go",
		Old: "return max(s.Timing.Stale, w.StaleTimeout)", New: "return s.Timing.Stale",
		Test: "TestLeaderLeavesWellAlone", Promise: "a worker with a long heartbeat interval is not declared dead by the settings of another",
	},
	{
		Name: "stale-timeouts-are-stored", File: "configure.go",
		Old: "			StaleTimeout:  o.config.staleWorkerTimeout,\n", New: "",
		Test: "TestWorkersWithDifferentTimeoutsShareAReplicaSet", Package: "test/face", Promise: "a worker with a long heartbeat interval is not declared dead by the settings of another",
	},
	{
		Name: "moves-know-each-workers-time", File: "admin/move.go",
		Old: "greatest(interval '1 minute', w.stale_timeout)", New: "interval '1 minute'",
		Test: "TestAMoveDoesNotTakeAProjectionFromAWorkerWithALongHeartbeatInterval", Package: "test/face", Promise: "a projection is not moved away from a worker that runs it",
	},
}
