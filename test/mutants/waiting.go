package main

// waitingGuards keep waits exact.
var waitingGuards = []guard{
	{
		Name: "waits-need-all-slots", File: "internal/waiting/decide.go",
		Old: "	return behind, missing == 0\n", New: "	return behind, missing == 0 || w.Aggregate == nil\n",
		Test: "TestDecide", Promise: "who waits is not told before every slot has a checkpoint that is there",
	},
	{
		Name: "waits-see-letters", File: "internal/waiting/decide.go",
		Old: "		if examined != nil && examined.PutAside && !w.Letters {", New: "		if false {",
		Test: "TestWaitsForParkedAggregates", Package: "test/face", Promise: "an event that was put aside was not handled",
	},
	{
		Name: "waits-examine-what-may-be-parked", File: "internal/waiting/decide.go",
		Old: " || s.Parked && !w.Letters) && examined == nil {", New: ") && examined == nil {",
		Test: "TestDecide", Promise: "an event below the checkpoint counts as handled only if it is no letter",
	},
	{
		Name: "waits-of-one-events-table", File: "internal/waiting/decide.go",
		Old: "	if s.EventsTable != \"\" && s.EventsTable != events {", New: "	if false {",
		Test: "TestDecide", Promise: "positions of two events tables are not compared",
	},
	{
		Name: "stops-behind-are-no-failure", File: "internal/waiting/decide.go",
		Old: "		if p.Stopped != 0 && p.Stopped <= w.Position {", New: "		if p.Stopped != 0 {",
		Test: "TestDecide", Promise: "a wait fails only if its position will not be reached",
	},
	{
		Name: "pauses-behind-are-no-failure", File: "internal/waiting/decide.go",
		Old: "		if p.Held != 0 && p.Held <= w.Position && ", New: "		if p.Held != 0 && ",
		Test: "TestDecide", Promise: "a wait fails only if its position will not be reached",
	},
	{
		Name: "commits-with-letters-are-looked-up", File: "actors/waits.go",
		Old: "	plain := len(p.parked) == 0 && p.failing.outcome == handling.Retry", New: "	plain := handling.Retry == 0",
		Test: "TestWaitsFailAsTheEventDoes", Package: "test/face", Promise: "a batch that puts an event aside does not tell those who wait that it was handled",
	},
	{
		Name: "commits-from-before-are-looked-up", File: "internal/waiting/hub.go",
		Old: "		case !plain || one.since.After(began) ||", New: "		case !plain ||",
		Test: "TestUncertainCommitsAreLookedUp", Promise: "a wait does not end by what was committed before it began, and may have been set back since",
	},
	{
		Name: "commits-of-other-slots", File: "internal/waiting/decide.go",
		Old: "		case !p.Contains(known):\n			continue\n", New: "",
		Test: "TestCommitsEndWaits", Promise: "a wait ends with its own slot's commit",
	},
	{
		Name: "waits-poke-the-poller", File: "internal/waiting/hub.go",
		Old: "		go h.poll()\n		return\n	}\n	h.poke()\n", New: "		go h.poll()\n		return\n	}\n",
		Test: "TestANewWaiterIsLookedForAtOnce", Promise: "who begins to wait is not held up by those who have waited for long",
	},
	{
		Name: "waits-ask-to-flush", File: "internal/waiting/poll.go",
		Old: "			h.ask(answer, loop)\n", New: "",
		Test: "TestWorkersAreAskedToFlush", Promise: "who waits for an event that is out of scope is told soon",
	},
	{
		Name: "notified-to-flush", File: "actors/worker.go",
		Old: "					cfg.Waits.Flush(worker) // a projection's name follows\n", New: "",
		Test: "TestWhoWaitsHasTheCheckpointWritten", Promise: "who waits in another process for an event that is out of scope is told soon",
	},
	{
		Name: "dead-workers-run-nothing", File: "pgcoord/standing.go",
		Old: "(h.last_heartbeat > stale.since - $9::float8 * interval '1 ms' OR", New: "($9::float8 IS NOT NULL OR",
		Test: "TestWorkersThatAreGoneRunNothing", Package: "test/face", Promise: "nobody waits for a worker that is gone",
	},
	{
		Name: "own-runs-count", File: "internal/waiting/decide.go",
		Old: "	case s.Running || here:", New: "	case s.Running:",
		Test: "TestWaitsForTheOwnRun", Package: "test/face", Promise: "a process that is about to run a projection can wait for it",
	},
	{
		Name: "catching-up-reaches-the-horizon", File: "catchup.go",
		Old: "waiting.Wait{Projection: name, Position: upTo, Letters: true}", New: "waiting.Wait{Projection: name, Position: 0, Letters: true}",
		Test: "TestRunUntilCaughtUp", Package: "test/face", Promise: "everything up to the horizon at the time of the call is handled when it returns",
	},
	{
		Name: "catching-up-passes-letters", File: "catchup.go",
		Old: "Position: upTo, Letters: true}", New: "Position: upTo}",
		Test: "TestCatchingUpEndsWithAFailure", Package: "test/face", Promise: "what an error policy has put aside does not keep a projection from catching up",
	},
	{
		Name: "catching-up-ends-with-a-failure", File: "catchup.go",
		Old: "		if f.Retry && forEver ||", New: "		if f.Retry && forEver && false ||",
		Test: "TestCatchingUpEndsWithAFailure", Package: "test/face", Promise: "a job does not retry an event for ever",
	},
	{
		Name: "failing-projections-keep-their-batches", File: "orchestratortest/failing.go",
		Old: "		if batches, whole := d.Projection.(handling.BatchHandler); whole {", New: "		if batches, whole := d.Projection.(handling.BatchHandler); whole && false {",
		Test: "TestCatchUp", Promise: "a projection that is made to fail is tested as it runs",
	},
	{
		Name: "tested-handlers-cannot-commit", File: "orchestratortest/handle.go",
		Old: "batchtx.Guard(tx)", New: "func() pgx.Tx { _ = batchtx.Guard; return tx }()",
		Test: "TestHandleFails", Promise: "a handler that ends its transaction fails in its test",
	},
	{
		Name: "laws-compare-after-a-rollback", File: "orchestratortest/laws.go",
		Old: "		{law: rolledBack},\n", New: "",
		Test: "TestBadProjectionsBreakALaw", Promise: "a projection that writes outside of its transaction is found by its test",
	},
	{
		Name: "laws-compare-both-handlers", File: "orchestratortest/laws.go",
		Old: "		all = append(all, variant{law: \"through Handle\", batches: cut(events, usual), single: true})", New: "		_ = whole",
		Test: "TestBadProjectionsBreakALaw", Promise: "a HandleBatch that differs from Handle is found by its test",
	},
	{
		Name: "waits-elsewhere-are-noted", File: "wait.go",
		Old: "	if standing.PollOnly {", New: "	if false {",
		Test: "TestWaitsForWhatIsOutOfScope", Package: "test/face", Promise: "who waits for an event that is out of scope is told soon, also by workers without notifications",
	},
	{
		Name: "noted-waits-expire", File: "pgcoord/standing.go",
		Old: " AND until > now() AND until", New: " AND until",
		Test: "TestWhoWaitsHasTheCheckpointWritten", Package: "actors", Promise: "a process that died while it waited does not have checkpoints written for ever",
	},
	{
		Name: "watches-end", File: "internal/waiting/watch.go",
		Old: "			if f.unwritten {\n", New: "			if f != nil {\n",
		Test: "TestWaitsInOtherProcessesAreLookedForWhileCheckpointsStayBehind", Promise: "nobody looks for those who wait while all positions are written",
	},
	{
		Name: "watches-keep-their-interval", File: "internal/waiting/watch.go",
		Old: "		case due:\n", New: "		case due || !due:\n",
		Test: "TestWaitsInOtherProcessesAreLookedForWhileCheckpointsStayBehind", Promise: "checkpoints that stay behind for a moment, again and again, do not have those who wait looked for more often",
	},
	{
		Name: "only-pollers-watch", File: "actors/waits.go",
		Old: "	if p.worker.Connect == nil {", New: "	if true {",
		Test: "TestWhoWaitsHasTheCheckpointWritten", Package: "actors", Promise: "a worker that gets notifications does not look for those who wait",
	},
	{
		Name: "drained-workers-run-nothing", File: "presence.go",
		Old: "	case is && p.leave != nil:", New: "	case is && p.over && p.leave != nil:",
		Test: "TestCatchingUpWhileDrained", Package: "test/face", Promise: "a job whose worker is drained does not wait until its context ends",
	},
	{
		Name: "waits-outlive-the-server", File: "wait.go",
		Old: "	return !errors.Is(err, puddle.ErrClosedPool) && ", New: "	return errors.Is(err, context.Canceled) && !errors.Is(err, puddle.ErrClosedPool) && ",
		Test: "TestWaitsOutliveTheServer", Package: "test/face", Promise: "a wait goes on while the server restarts, and on the one that takes over",
	},
	{
		Name: "waits-notice-outages", File: "internal/waiting/poll.go",
		Old: "		question.Outage = h.outage.since(h.began, h.database.Grace)\n", New: "",
		Test: "TestLooksTellOfAnOutage", Promise: "a wait outlives an outage of the server, as its worker does",
	},
	{
		Name: "outages-end", File: "internal/waiting/poll.go",
		Old: "	if !o.lasts && now.Sub(o.to) > grace {\n", New: "	if !o.lasts && o.to.IsZero() {\n",
		Test: "TestLooksTellOfAnOutage", Promise: "who waits for a projection that nobody runs is told so, though there was an outage long ago",
	},
	{
		Name: "outages-last-until-a-look-succeeds", File: "internal/waiting/poll.go",
		Old: "		o.to, o.lasts = at, false\n", New: "		o.to, o.lasts = o.from, false\n",
		Test: "TestLooksTellOfAnOutage", Promise: "a wait outlives an outage of the server, as its worker does",
	},
	{
		Name: "outages-excuse-old-heartbeats", File: "pgcoord/standing.go",
		Old: "float64(q.Outage)", New: "float64(0*q.Outage)",
		Test: "TestAnOutageExcusesOldHeartbeats", Promise: "a wait outlives an outage of the server, as its worker does",
	},
	{
		Name: "waits-leave-workers-time-after-an-outage", File: "wait.go",
		Old: ", Grace: o.config.staleWorkerTimeout})", New: ", Grace: 0})",
		Test: "TestWaitsOutliveAnOutageLongerThanTheStaleTimeout", Package: "test/face", Promise: "a wait outlives an outage of the server, as its worker does",
	},
	{
		Name: "waits-know-each-workers-time", File: "pgcoord/standing.go",
		Old: "greatest($2::float8 * interval '1 ms', w.stale_timeout)", New: "$2::float8 * interval '1 ms'",
		Test: "TestAWorkerIsJudgedByItsOwnTimeout", Promise: "a wait does not give up a worker with a long heartbeat interval",
	},
	{
		Name: "restarts-excuse-old-heartbeats", File: "wait.go",
		Old: "		q.Restarts = true\n", New: "",
		Test: "TestWorkersThatAreGoneRunNothing", Package: "test/face", Promise: "a wait that begins just after a restart of the server does not give up a worker that lives",
	},
	{
		Name: "restarts-excuse-for-a-while", File: "pgcoord/standing.go",
		Old: "$10::boolean AND pg_catalog.pg_postmaster_start_time() > stale.since)", New: "$10::boolean)",
		Test: "TestARestartExcusesOldHeartbeats", Promise: "a wait ends where nobody runs the projection, however often the server was restarted",
	},
}
