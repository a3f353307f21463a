package main

// healthGuards keep what health handlers say true.
var healthGuards = []guard{
	{
		Name: "stuck-loops-are-seen", File: "internal/health/loops.go",
		Old: "OK: allowed == 0 || time.Since(last) <= allowed", New: "OK: allowed == 0 || time.Since(last) <= 100*allowed",
		Test: "TestALoopIsStuckWhenItsRoundTakesTooLong", Promise: "a loop of a worker that is stuck turns liveness red within two of its intervals",
	},
	{
		Name: "each-life-goes-on-with-the-watch", File: "internal/health/loops.go",
		Old: "	if loop == nil {\n", New: "	if loop == nil || time.Now().Unix() > 0 {\n",
		Test: "TestAnotherLifeOfALoopGoesOnWithItsWatch", Promise: "an actor that crashes again and again turns liveness red",
	},
	{
		Name: "failed-heartbeats-are-rounds", File: "actors/heartbeat.go",
		Old: "	h.loop.Round()\n", New: "	if m.err == nil {\n		h.loop.Round()\n	}\n",
		Test: "TestNoLoopIsStuckWhileTheDatabaseIsAway", Promise: "a lost database leaves a worker live",
	},
	{
		Name: "hung-handlers-are-no-stuck-loops", File: "actors/call.go",
		Old: "	p.loop.Rest()\n	defer p.endRound()\n	ctx", New: "	defer p.endRound()\n	ctx",
		Test: "TestAHungHandlerIsNoStuckLoop", Promise: "a handler that hangs leaves a worker live",
	},
	{
		Name: "processors-are-asked-for-rounds", File: "actors/partition.go",
		Old: "	if t.asked != p.asked {\n", New: "	if false && t.asked != p.asked {\n",
		Test: "TestAHungHandlerIsNoStuckLoop", Promise: "a processor that is stuck turns liveness red, and one that has nothing to do does not",
	},
	{
		Name: "ready-through-a-change", File: "internal/health/member.go",
		Old: "case now.Sub(m.Handled) <= patience:", New: "case now.Sub(m.Handled) <= patience && m.State == \"running\":",
		Test: "TestReady", Promise: "a worker stays ready while the generation changes",
	},
	{
		Name: "ready-while-trusted", File: "internal/health/member.go",
		Old: "	case !m.Trusted:\n", New: "	case !m.Trusted && now.IsZero():\n",
		Test: "TestReady", Promise: "a worker whose heartbeats fail is not ready",
	},
}
