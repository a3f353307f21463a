package main

// countingGuards keep what is counted true, so that an alert can rely on it.
var countingGuards = []guard{
	{
		Name: "losses-are-counted-when-committed", File: "pgcoord/generations.go",
		Old: "return result, nil\n}\n\n// sqlTransition", New: "result.Died = len(p.Lost)\n\treturn result, nil\n}\n\n// sqlTransition",
		Test: "TestPrepareDeclaresTheLostDead", Promise: "a death is counted once, and only if it was declared",
	},
	{
		Name: "excluded-workers-are-counted", File: "pgcoord/activation.go",
		Old: "died = int(tag.RowsAffected())", New: "died = min(0, int(tag.RowsAffected()))",
		Test: "TestReasonNamesAllWhoCameAndWent", Promise: "a worker that is given up on counts as lost",
	},
	{
		Name: "losses-in-a-change-are-counted", File: "actors/execution.go",
		Old: "e.worker.Metrics.WorkersLost(died)", New: "e.worker.Metrics.WorkersLost(min(0, died))",
		Test: "TestADeathInAChangeIsCountedOnce", Promise: "a worker that dies while a generation is in preparation is counted",
	},
	{
		Name: "a-loss-is-the-cause", File: "internal/replicaset/changes.go",
		Old: "case slices.Contains(found, CauseLost):", New: "case len(found) == 1 && found[0] == CauseLost:",
		Test: "TestADeathInAChangeIsCountedOnce", Package: "actors", Promise: "a worker that was lost is the cause of a generation, whatever else happened with it",
	},
	{
		Name: "causes-are-complete-when-counted", File: "actors/transitions.go",
		Old: "m.GenerationChanged(g.Cause) // who", New: "m.GenerationChanged(t.generation.Cause) // who",
		Test: "TestADeathInAChangeIsCountedOnce", Promise: "a generation is counted by the cause that it had in the end",
	},
	{
		Name: "series-from-the-start", File: "actors/processor.go",
		Old: "p.worker.Metrics.ShowPartition(p.fence.Projection, p.fence.Partition.String())", New: "",
		Test: "TestSeriesOfAWorker", Package: "test/face", Promise: "an alert sees the first failure of a projection",
	},
}
