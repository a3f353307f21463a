package main

// drainGuards keep partitions from drained workers.
var drainGuards = []guard{
	{
		Name: "drained-members-get-nothing", File: "pgcoord/activation.go",
		Old: "			m.Drain()\n", New: "			_ = m\n",
		Test: "TestADrainedMemberGetsNothing", Promise: "a drained worker gets no partitions",
	},
	{
		Name: "drains-are-noticed", File: "internal/replicaset/lead.go",
		Old: "w.Drained != w.WithoutPartitions:", New: "w.Drained && !w.WithoutPartitions:",
		Test: "TestADrainMakesAGeneration", Promise: "a worker that is undrained gets partitions again",
	},
	{
		Name: "drained-workers-contradict-nothing", File: "pgcoord/view.go",
		Old: " AND NOT w.drained AND", New: " AND",
		Test: "TestADrainedMemberGetsNothing", Promise: "a drained worker whose projections nobody handles causes no change after the other",
	},
	{
		Name: "drains-in-turn", File: "admin/drain.go",
		Old: "IN SHARE ROW EXCLUSIVE MODE`", New: "IN ACCESS SHARE MODE`",
		Test: "TestADrainThatIsRefused", Package: "test/face", Promise: "of two workers that handle a projection alone, one is drained at most",
	},
	{
		Name: "the-last-is-not-drained", File: "admin/drain.go",
		Old: "		if len(only) > 0 {", New: "		if len(only) < 0 {",
		Test: "TestADrainThatIsRefused", Package: "test/face", Promise: "no projection stands still because of a drain that was not meant so",
	},
	{
		Name: "drains-that-are-ended", File: "admin/drain.go",
		Old: "		case !drained:", New: "		case !drained && ctx == nil:",
		Test: "TestADrainThatSomebodyElseEnds", Package: "test/face", Promise: "nobody waits for a drain that somebody else has ended",
	},
	{
		Name: "drains-count-on-heartbeats", File: "admin/drain.go",
		Old: " AND h.last_heartbeat > now() - ` + silenceSQL + ` AND $2", New: " AND $2",
		Test: "TestWhoIsSilentDependsOnItsHeartbeats", Package: "test/face", Promise: "a worker that has probably died is not counted on",
	},
	{
		Name: "silence-is-measured-by-the-timeout", File: "admin/snapshot.go",
		Old: "		after = max(after,", New: "		_ = max(after,",
		Test: "TestWhoIsSilentDependsOnItsHeartbeats", Package: "test/face", Promise: "a worker is not called silent for sending heartbeats as often as it is configured to",
	},
	{
		Name: "handlers-end-with-their-process", File: "admin/snapshotread.go",
		Old: "WHERE w.replica_set = $1 AND w.state NOT IN ('stopped', 'dead') ORDER BY a.projection", New: "WHERE w.replica_set = $1 ORDER BY a.projection",
		Test: "TestWhatAWorkerThatHasEndedHadAbandoned", Package: "test/face", Promise: "no handler is shown as running whose process has ended",
	},
}
