package main

// leadingGuards keep a replica set led, regardless of the holder of the leader's lock, of the roles' rights and of the clocks.
var leadingGuards = []guard{
	{
		Name: "somebody-leads-without-the-lock", File: "internal/replicaset/lead.go",
		Old: "return v.Leading || LeadsUnlocked(s, v)", New: "return v.Leading",
		Test: "TestTheLeastLiveLeadsWhereNobodyWhoLivesHasTheLock", Promise: "a lock that is no live worker's holds up nobody",
	},
	{
		Name: "a-live-leader-is-left-alone", File: "internal/replicaset/lead.go",
		Old: "if live(s, w) && w.SessionPID != 0 && w.SessionPID == v.LeaderPID {", New: "if w.SessionPID < 0 {",
		Test: "TestTheLeastLiveLeadsWhereNobodyWhoLivesHasTheLock", Promise: "beside a live leader nobody else leads",
	},
	{
		Name: "refused-sessions-rest", File: "internal/replicaset/lead.go",
		Old: "if w.SessionPID == s.Refused && v.At-s.RefusedAt < s.Timing.Stale {", New: "if w.SessionPID == s.Refused && v.At-s.RefusedAt < 0 {",
		Test: "TestAFrozenLeadersSessionIsTriedAgainLater", Promise: "a session that may not be ended is not tried at every look",
	},
	{
		Name: "ends-a-leader-only", File: "pgcoord/blockers.go",
		Old: " AND l.key = w.session_key AND EXISTS (SELECT 1 FROM locks AS m WHERE m.pid = a.pid AND m.key = $5)", New: " AND $5::bigint IS NOT NULL",
		Test: "TestEndLeaderEndsALeaderOnly", Promise: "only a session that leads is ended as a frozen leader's",
	},
	{
		Name: "batches-show-their-worker", File: "internal/batchtx/begin.go",
		Old: "pg_catalog.pg_try_advisory_xact_lock_shared(pg_catalog.hashtextextended($2, 0))", New: "true",
		Test: "TestBlockersOfAnActivationAreEnded", Package: "pgcoord", Promise: "a batch that holds up a generation is recognized whatever its session is called",
	},
	{
		Name: "logins-end-their-own", File: "pgcoord/blockers.go",
		Old: "AND set_config('role', 'none', true) IS NOT NULL THEN pg_terminate_backend(pid)\n", New: "THEN NULL\n",
		Test: "TestWhoHasLoggedInMayEndItsOwn", Promise: "after SET ROLE a worker still ends its own sessions",
	},
	{
		Name: "given-up-statements-are-answered", File: "pgcoord/session.go",
		Old: "context.WithTimeout(context.WithoutCancel(r.ctx), sessionStatement)", New: "context.WithTimeout(r.ctx, sessionStatement)",
		Test: "TestDoThatIsGivenUpKeepsTheSession", Promise: "what is given up costs no session",
	},
	{
		Name: "patience-counts-from-the-generation", File: "actors/blockers.go",
		Old: "patient := prepared+time.Since(began) < w.Timing.Coordination", New: "patient := time.Since(began) < w.Timing.Coordination",
		Test: "TestPatienceCountsFromTheGeneration", Promise: "an activation that is repeated does not begin to wait again",
	},
	{
		Name: "ages-on-the-workers-clock", File: "internal/replicaset/ages.go",
		Old: "return own\n", New: "return databases\n",
		Test: "TestAgesAreMeasuredOnTheWorkersClock", Promise: "a database clock that is set holds up no change and declares nobody dead",
	},
	{
		Name: "missing-heartbeats-are-old", File: "pgcoord/view.go",
		Old: "ELSE 'infinity' END,", New: "ELSE 0 END,",
		Test: "TestObserveReadsWhateverStandsThere", Promise: "a worker without a heartbeat is not taken for a new one",
	},
	{
		Name: "young-changes-are-looked-at", File: "internal/replicaset/lead.go",
		Old: "most = min(most, max(patienceYoung, least))", New: "most = min(most, max(s.Timing.Observe, least))",
		Test: "TestLeaderActivates", Promise: "a change ends soon after the last worker becomes ready, even without a notification",
	},
	{
		Name: "many-workers-are-looked-at-less", File: "internal/replicaset/lead.go",
		Old: "max(patienceLeast, time.Duration(len(v.Workers))*patienceEach)", New: "max(patienceLeast, min(patienceLeast, time.Duration(len(v.Workers))*patienceEach))",
		Test: "TestLeaderActivates", Promise: "a leader's looks do not hold up the workers that it waits for",
	},
	{
		Name: "many-stop-together", File: "internal/replicaset/decide.go",
		Old: "stop.After = stopAfter(v)", New: "stop.After = min(0, stopAfter(v))",
		Test: "TestManyStopTogether", Promise: "the pause of many workers does not grow with the time that they take to look",
	},
	{
		Name: "what-has-stopped-is-not-stopped", File: "actors/change.go",
		Old: "if k.state.Partitions != replicaset.Draining || k.state.Generation != a.Generation {", New: "if k.state.Partitions == replicaset.Handling {",
		Test: "TestThePartitionsAreStoppedAfterATime", Promise: "a stop that comes late stops no later partitions",
	},
	{
		Name: "what-is-read-ahead-is-of-its-generation", File: "actors/execution.go",
		Old: "e.ahead != nil && e.ahead.Generation == generation", New: "e.ahead != nil",
		Test: "TestAnAssignmentThatWasReadAhead", Promise: "a worker starts the partitions of the active generation only",
	},
	{
		Name: "aids-are-prepared-before-they-are-read-along", File: "pgcoord/reads.go",
		Old: "if !is || !isPrepared(conn, r) {", New: "if !is || ctx == nil {",
		Test: "TestAnAssignmentIsReadWithoutTheRecordOfFailures", Promise: "a lock on the record of failures holds up no start of partitions",
	},
	{
		Name: "aids-are-not-prepared-behind-a-lock", File: "pgcoord/reads.go",
		Old: "setPrepared(conn, r, errors.Join(missed, err) == nil)", New: "setPrepared(conn, r, missed == nil)",
		Test: "TestAnAidIsNotPreparedAgainBehindALock", Promise: "a lock on the record of failures holds up no start of partitions",
	},
	{
		Name: "aids-that-are-read-along-wait-briefly", File: "pgcoord/reads.go",
		Old: "	batch.Queue(sqlRecordPatience)\n	batch.Queue(r.sql, r.args...)\n	results", New: "	batch.Queue(\"SELECT 1\")\n	batch.Queue(r.sql, r.args...)\n	results",
		Test: "TestAnAssignmentIsReadWithoutTheRecordOfFailures", Promise: "a lock on the record of failures holds up no start of partitions",
	},
	{
		Name: "late-workers-notify", File: "pgcoord/workers.go",
		Old: "now() - $5::bigint * interval '1 ms' AND now() OR", New: "now() - $5::bigint * interval '1 h' AND now() OR",
		Test: "TestGenerationsAreNotified", Promise: "a worker that becomes ready late in a change notifies the leader",
	},
	{
		Name: "the-last-worker-notifies", File: "pgcoord/workers.go",
		Old: " AND now() OR NOT EXISTS (", New: " AND now() OR false AND NOT EXISTS (",
		Test: "TestGenerationsAreNotified", Promise: "a change need not wait for the leader's next look when the last worker is ready",
	},
	{
		Name: "only-the-last-worker-notifies", File: "pgcoord/workers.go",
		Old: "AND (other.state <> 'ready' OR other.generation <> $3)", New: "AND false",
		Test: "TestGenerationsAreNotified", Promise: "a change of many workers does not wake every session for each of them",
	},
}
