package main

// generationGuards keep two workers from owning a slot, and a slot from being owned by nobody.
var generationGuards = []guard{
	{
		Name: "leader-row-lock", File: "pgcoord/generations.go",
		Old: "AND state <> 'superseded' LIMIT {{all rows}} FOR UPDATE`", New: "AND state <> 'superseded' LIMIT {{all rows}}`",
		Test: "TestOfTwoLeadersOneActivates", Promise: "if two workers believe that they lead, one acts",
	},
	{
		Name: "prepare-compares", File: "pgcoord/generations.go",
		Old: "if current != p.From || (current != 0 && state != replicaset.Active) {", New: "if current == -1 && state != replicaset.Active {",
		Test: "TestPrepareThatComesTooLateDeclaresNobodyDead", Promise: "a leader with an old view changes nothing",
	},
	{
		Name: "activate-compares", File: "pgcoord/activation.go",
		Old: "if err != nil || current != a.Number || state != replicaset.Preparing {", New: "if err != nil || state == \"\" || current == -1 {",
		Test: "TestActivateIsRefused", Promise: "a generation is activated once, and only the one in preparation",
	},
	{
		Name: "one-current-generation", File: "migrations/000001_init.up.sql",
		Old: "CREATE UNIQUE INDEX orchestrator_generations_current", New: "CREATE INDEX orchestrator_generations_current",
		Test: "TestTablesRefuseWhatMustNeverBe", Package: "pgcoord", Promise: "the table itself refuses two current generations",
	},
	{
		Name: "ranges-never-overlap", File: "migrations/000001_init.up.sql",
		Old: "hashtextextended(projection, 0)::numeric * 65536 + slot_to\n        ) WITH &&", New: "hashtextextended(projection, 0)::numeric * 65536 + slot_to\n        ) WITH =",
		Test: "TestTablesRefuseWhatMustNeverBe", Package: "pgcoord", Promise: "the table itself refuses two owners of a slot",
	},
	{
		Name: "activation-waits-for-batches", File: "pgcoord/activation.go",
		Old: "ORDER BY projection, slot_from LIMIT {{all rows}} FOR UPDATE`", New: "ORDER BY projection, slot_from LIMIT {{all rows}}`",
		Test: "TestActivationWaitsForABatchAndSeesWhereItEnds", Promise: "a new generation begins where the batches in flight end",
	},
	{
		Name: "contradictions-are-seen", File: "pgcoord/view.go",
		Old: "THEN bool_or(c.generation = g.number AND c.worker_id = ANY (g.members))", New: "THEN false",
		Test: "TestObserveShowsWhatContradictsTheGeneration", Promise: "a projection that is another replica set's in part is given up",
	},
	{
		Name: "contradictions-call-for-a-generation", File: "internal/replicaset/decide.go",
		Old: "if s.Partitions == Handling && s.Generation == g.Number && len(v.Contradicting) > 0 {", New: "if s.Partitions == Handling && s.Generation == g.Number && v.Contradicting == nil && me.Generation < 0 {",
		Test: "TestChangesByHandOnAQuietStream", Package: "test/face", Promise: "checkpoints that were changed by hand do not stand still on a quiet stream",
	},
	{
		Name: "deleted-checkpoints-begin-again", File: "internal/replicaset/repair.go",
		Old: "all = append(all, Checkpoint{", New: "_ = append(all, Checkpoint{",
		Test: "TestDeletedCheckpointsBeginAgain", Package: "pgcoord", Promise: "no slot of a projection that a worker runs is handled by nobody, and nothing else stops for it",
	},
	{
		Name: "moved-projections-stay-away", File: "internal/replicaset/repair.go",
		Old: "if other, is := elsewhere[projection]; is {", New: "if other, is := elsewhere[projection]; is && other == \"\" {",
		Test: "TestProjectionThatWasMovedStopsNobody", Package: "pgcoord", Promise: "what is moved to another replica set is not taken back, and nothing else stops for it",
	},
	{
		Name: "entered-checkpoints-are-complete", File: "check.go",
		Old: "return stores{coordination: store, events: events}, store.CheckEntered(ctx, db, d.names)", New: "return stores{coordination: store, events: events}, nil",
		Test: "TestCheckpointsThatLeaveSlotsOut", Package: "test/face", Promise: "what was handled before is not handled again because somebody forgot to enter a checkpoint",
	},
	{
		Name: "members-are-ready", File: "pgcoord/activation.go",
		Old: "WHERE replica_set = $1 AND state = 'ready' AND generation = $2", New: "WHERE replica_set = $1 AND state <> 'dead' AND $2::bigint > 0",
		Test: "TestActivateIsRefused", Promise: "slots go only to workers that have stopped what they had",
	},
	{
		Name: "members-stay-meanwhile", File: "pgcoord/activation.go",
		Old: "ORDER BY worker_id LIMIT {{all rows}} FOR SHARE OF w`", New: "ORDER BY worker_id LIMIT {{all rows}}`",
		Test: "TestMembersWaitForTheActivation", Promise: "nobody leaves between being counted and owning its slots",
	},
	{
		Name: "late-are-excluded", File: "pgcoord/activation.go",
		Old: "batch.Queue(s.q(sqlExclude), s.replicaSet, a.Number, texts(a.Exclude), a.Detail)", New: "batch.Queue(s.q(sqlExclude), s.replicaSet, a.Number, texts(nil), a.Detail)",
		Test: "TestActivateExcludesWhoIsNotReady", Promise: "who is not waited for any longer knows it from its row",
	},
	{
		Name: "evidence-session", File: "pgcoord/generations.go",
		Old: "CASE WHEN $3 THEN w.session_key IS NOT NULL AND NOT EXISTS (", New: "CASE WHEN $3 THEN true OR NOT EXISTS (",
		Test: "TestMarkDeadLooksAtItsEvidenceAgain", Promise: "a worker whose session is back is not declared dead",
	},
	{
		Name: "evidence-heartbeat", File: "pgcoord/generations.go",
		Old: "ELSE $4 = coalesce((", New: "ELSE $4::text IS NOT NULL OR $4 = coalesce((",
		Test: "TestMarkDeadLooksAtItsEvidenceAgain", Promise: "a worker whose heartbeat is fresh again is not declared dead",
	},
	{
		Name: "dead-stay-dead", File: "pgcoord/workers.go",
		Old:  "SET state = $2, generation = $3, state_changed_at = now(), detail = ''\n    WHERE worker_id = $1 AND state NOT IN ('stopped', 'dead')",
		New:  "SET state = $2, generation = $3, state_changed_at = now(), detail = ''\n    WHERE worker_id = $1",
		Test: "TestSetStateOfWhoHasLeftChangesNothing", Promise: "who was declared dead comes back by rejoining only, with nothing running",
	},
	{
		Name: "dead-have-no-lease", File: "pgcoord/workers.go",
		Old: "WHERE worker_id = $1 AND state NOT IN ('stopped', 'dead')\nON CONFLICT", New: "WHERE worker_id = $1\nON CONFLICT",
		Test: "TestHeartbeatRenewsTheLease", Promise: "who was declared dead learns it from its heartbeat",
	},
	{
		Name: "claim-is-exclusive", File: "pgcoord/workers.go",
		Old: "AND (replica_set <> $2 OR events_table <> $3)", New: "AND ($2 = '' OR events_table <> $3)",
		Test: "TestProjectionBelongsToOneReplicaSet", Promise: "a projection runs in one replica set",
	},
	{
		Name: "claim-order", File: "pgcoord/workers.go",
		Old: "ORDER BY name\nON CONFLICT DO NOTHING", New: "ON CONFLICT DO NOTHING",
		Test: "TestClaimsTakeTheNamesInOneOrder", Promise: "two claims of several projections do not deadlock",
	},
	{
		Name: "slots-keep-positions", File: "internal/slot/slot.go",
		Old: "pieces[n-1].To == p.From && pieces[n-1].Position == p.Position && ", New: "pieces[n-1].To == p.From && ",
		Test: "TestPropertyEverySlotKeepsItsPosition", Promise: "at a change of the number of partitions nothing is replayed or skipped",
	},
	{
		Name: "slots-are-covered", File: "internal/slot/slot.go",
		Old: "if err := checkCover(ordered); err != nil {", New: "if err := checkCover(ordered); err != nil && total < 0 {",
		Test: "TestPropertyDamagedCoverIsRefused", Promise: "no slot is without a checkpoint, and none has two",
	},
	{
		Name: "advance-never-lowers", File: "internal/slot/slot.go",
		Old: "advanced[i].Position = max(advanced[i].Position, position)", New: "advanced[i].Position = position",
		Test: "TestPropertyAdvanceMovesOnlyItsPartition", Promise: "a checkpoint never goes back",
	},
	{
		Name: "ends-only-own-backends", File: "pgcoord/blockers.go",
		Old: "WHERE w.replica_set = $2 AND w.worker_id = $4 AND l.pid = a.pid%s)", New: "WHERE w.replica_set = $2 AND $4::uuid IS NOT NULL AND l.pid = a.pid%s)",
		Test: "TestBlockersFindsTheReplicaSetsBackends", Promise: "a backend is ended only while it works for the worker that it is to be ended for",
	},
	{
		Name: "ends-only-workers-backends", File: "pgcoord/blockers.go",
		Old: "AND w.worker_id = $4 AND l.pid = a.pid%s)", New: "AND w.worker_id = $4%s)",
		Test: "TestBlockersFindsTheReplicaSetsBackends", Promise: "no backend of the application's is ended",
	},
	{
		Name: "ends-only-this-sets-backends", File: "pgcoord/blockers.go",
		Old: "    WHERE w.replica_set = $2\n)", New: "    WHERE $2::text IS NOT NULL\n)",
		Test: "TestBlockersFindsTheReplicaSetsBackends", Promise: "another replica set's workers are left alone",
	},
	{
		Name: "blockers-of-the-living-wait", File: "actors/blockers.go",
		Old: "if !dead && patient {", New: "if !dead && patient && pid < 0 {",
		Test: "TestLivingBlockerHasTheCoordinationTimeout", Promise: "a batch of a living worker has its time before it is ended",
	},
}
