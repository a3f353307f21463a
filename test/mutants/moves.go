package main

// moveGuards keep a projection in one replica set.
var moveGuards = []guard{
	{
		Name: "moves-contradict-nobody", File: "admin/move.go",
		Old: "	if len(still) > 0 {", New: "	if len(still) < 0 {",
		Test: "TestAMoveThatIsRefused", Package: "test/face", Promise: "a projection is not moved away from a worker that runs it",
	},
	{
		Name: "moved-slots-are-nobodys", File: "admin/move.go",
		Old: "SET replica_set = $2, worker_id = NULL, partition_key = NULL, total_partitions = NULL,", New: "SET replica_set = $2,",
		Test: "TestAMoveFencesWhoIsLeft", Package: "test/face", Promise: "whoever had a projection before its move commits nothing of it afterwards",
	},
	{
		Name: "moves-take-what-is-parked", File: "admin/move.go",
		Old: "	`UPDATE {{schema}}orchestrator_parked_aggregates SET replica_set = $2 WHERE projection = $1`,\n", New: "",
		Test: "TestMoveTakesAllOfAProjection", Package: "test/face", Promise: "what is parked moves with its projection",
	},
	{
		Name: "moves-of-one-stream", File: "admin/move.go",
		Old: "	if other != \"\" {", New: "	if false && other != \"\" {",
		Test: "TestAMoveThatIsRefused", Package: "test/face", Promise: "positions of one events table are not taken for another's",
	},
	{
		Name: "imported-projections-are-not-run-by-hand", File: "projection/checkpoint.go",
		Old: "if err := c.refuseImported(ctx, tx); err != nil {", New: "if err := ctx.Err(); err != nil {",
		Test: "TestAnImportEndsManualProcessors", Package: "test/face", Promise: "a manual runner that is started again after an import handles nothing a second time",
	},
}
