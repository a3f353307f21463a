package main

// hungGuards keep a handler that does not return from stopping anything but its own projection on its own worker.
var hungGuards = []guard{
	{
		Name: "hung-handlers-are-abandoned", File: "actors/supervisor.go",
		Old: "time.AfterFunc(grace, stop)", New: "_, _ = grace, stop",
		Test: "TestAHandlerThatHangsIsAbandoned", Promise: "a handler that never returns uses up no worker and holds up no change of generation",
	},
	{
		Name: "abandoned-projections-are-left-out", File: "internal/replicaset/member.go",
		Old: "m.LeftOut = slices.Compact(abandoned)", New: "m.LeftOut = slices.Compact(abandoned)[:0]",
		Test: "TestTheOnlyWorkerLeavesOutWhatHangs", Package: "actors", Promise: "while a handler hangs its worker takes no partition of the projection",
	},
	{
		Name: "abandoned-batches-are-closed", File: "internal/batchtx/abandon.go",
		Old: "	_ = socket.Close()\n", New: "	_ = socket\n",
		Test: "TestAClosedSocketEndsTheTransaction", Promise: "an abandoned handler can do nothing more in its transaction, whose locks are released",
	},
	{
		Name: "abandoned-statements-are-ended", File: "pgcoord/abandoned.go",
		Old: "int(conn.PgConn().PID()), b.fence.Worker) //", New: "-int(conn.PgConn().PID()), b.fence.Worker) //",
		Test: "TestAStatementThatHangsIsEnded", Package: "actors", Promise: "a statement of an abandoned handler does not go on in the server",
	},
	{
		Name: "returned-handlers-count-again", File: "internal/replicaset/lead.go",
		Old: "g.State == Active && w.LeavesOut():", New: "g.State == Active && w.LeavesOut() && len(w.Abandoned) > 0:",
		Test: "TestAHandlerThatHangsIsAbandoned", Package: "actors", Promise: "a worker takes part in the projection again once its handler has returned",
	},
	{
		Name: "processors-are-told-one-horizon", File: "actors/partition.go",
		Old: "	if t.open > 0 {\n", New: "	if t.open < 0 {\n",
		Test: "TestNoMailboxGrowsWhileAHandlerRuns", Promise: "no mailbox grows while a handler runs",
	},
}
