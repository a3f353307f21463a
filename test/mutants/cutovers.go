package main

// cutOverGuards keep each effect exactly once across a cut-over.
var cutOverGuards = []guard{
	{
		Name: "cut-overs-at-the-same-positions", File: "admin/cutover.go",
		Old: "		if slot.Level(pair.from.Pieces, pair.to.Pieces) {", New: "		if slot.Level(pair.from.Pieces, pair.from.Pieces) {",
		Test: "TestACutOverThatIsGivenUp", Package: "test/face", Promise: "a projection takes over only where the other one has ended",
	},
	{
		Name: "cut-overs-raise-the-revision", File: "admin/cutoverrows.go",
		Old: "SET hold_at = NULL, hold_until = NULL, revision = revision + 1\nWHERE replica_set = $1 AND projection = $2`", New: "SET hold_at = NULL, hold_until = NULL\nWHERE replica_set = $1 AND projection = $2`",
		Test: "TestCutOver", Package: "test/face", Promise: "no handler is told that it replays after a cut-over",
	},
	{
		Name: "replays-until-the-cut-over", File: "actors/batch.go",
		Old: "p.succession.replay,\n", New: "p.succession.replay && false,\n",
		Test: "TestCutOver", Package: "test/face", Promise: "a projection that is built has no effects",
	},
	{
		Name: "replays-end", File: "internal/replicaset/succession.go",
		Old: "		if s.Projection == projection {", New: "		if s.Projection == projection+\" \" {",
		Test: "TestSuccessions", Package: "internal/replicaset", Promise: "a projection has effects after the cut-over",
	},
	{
		Name: "what-was-replaced-rests", File: "actors/succession.go",
		Old: "	if s.replacedBy != \"\" {\n		return nil, pieces", New: "	if s.replacedBy == \" \" {\n		return nil, pieces",
		Test: "TestWhatWasReplacedStaysSo", Package: "test/face", Promise: "a projection that was replaced handles nothing, even if somebody releases its checkpoints",
	},
	{
		Name: "what-was-replaced-is-held", File: "admin/cutoverrows.go",
		Old: "SET hold_at = position, hold_until = NULL, revision", New: "SET hold_at = NULL, hold_until = NULL, revision",
		Test: "TestWhatWasReplacedStaysSo", Package: "test/face", Promise: "a worker of an older version handles nothing of a projection that was replaced",
	},
	{
		Name: "no-resume-of-what-was-replaced", File: "admin/pause.go",
		Old: "const notReplacedSQL = ` AND NOT EXISTS", New: "const notReplacedSQL = ` AND $1 <> '' OR NOT EXISTS",
		Test: "TestWhatWasReplacedStaysSo", Package: "test/face", Promise: "a resume of all projections leaves alone those that were replaced",
	},
	{
		Name: "cut-overs-take-back", File: "admin/cutover.go",
		Old: "return CutOver{}, errors.Join(err, c.takeBack(ctx, err))", New: "return CutOver{}, err",
		Test: "TestACutOverThatIsGivenUp", Package: "test/face", Promise: "a cut-over that fails holds nothing",
	},
	{
		Name: "cut-overs-end-by-themselves", File: "admin/cutoverrows.go",
		Old: "o.from, o.to, o.at, o.until); err != nil {", New: "o.from, o.to, o.at, o.until.Add(time.Hour)); err != nil {",
		Test: "TestACutOverWhoseProcessDies", Package: "test/face", Promise: "nothing stays held if whoever cuts over dies",
	},
	{
		Name: "cut-overs-are-continued", File: "admin/cutover.go",
		Old: "tx.endCutOvers(ctx, waitingCutOvers{from: c.from, to: c.to}, \"another", New: "tx.endCutOvers(ctx, waitingCutOvers{id: -1}, \"another",
		Test: "TestACutOverWhoseProcessDies", Package: "test/face", Promise: "a cut-over continues one whose process has died",
	},
	{
		Name: "no-cut-over-of-parked-aggregates", File: "admin/cutovercheck.go",
		Old: "		if s.Parked {", New: "		if false && s.Parked {",
		Test: "TestACutOverIsRefused", Package: "test/face", Promise: "no event that is put aside has two effects, or none",
	},
	{
		Name: "nothing-parked-meanwhile", File: "admin/cutover.go",
		Old: "		if s.Parked {", New: "		if false && s.Parked {",
		Test: "TestACutOverThatIsGivenUp", Package: "test/face", Promise: "nor does one that is put aside while a cut-over waits",
	},
	{
		Name: "one-cut-over-after-the-other", File: "admin/cutovercheck.go",
		Old: "	case *fromReplaces != \"\":", New: "	case *fromReplaces == \" \":",
		Test: "TestACutOverIsRefused", Package: "test/face", Promise: "a projection that has no effects yet hands none over",
	},
	{
		Name: "no-reset-while-cutting-over", File: "admin/reset.go",
		Old: "	return errors.Join(c.notReplaced(ctx, projection), c.notCuttingOver(ctx, projection))", New: "	return c.notReplaced(ctx, projection)",
		Test: "TestACutOverThatIsGivenUp", Package: "test/face", Promise: "positions that are held for a cut-over are not set back",
	},
	{
		Name: "cut-overs-wait-for-no-requests", File: "pgcoord/reset.go",
		Old: "WHERE o.state = 'waiting' AND o.kind <> 'cut-over' AND", New: "WHERE o.state = 'waiting' AND",
		Test: "TestACutOverThatIsGivenUp", Package: "test/face", Promise: "whoever ends operations that wait for nothing does not end a cut-over",
	},
	{
		Name: "not-too-far-apart", File: "admin/cutovercheck.go",
		Old: "apart > c.apart {", New: "apart > c.apart+1000 {",
		Test: "TestACutOverThatIsTooFarApart", Package: "test/face", Promise: "a cut-over does not pause a projection for minutes",
	},
	{
		Name: "who-never-counted-is-not-replaced", File: "admin/cutovercheck.go",
		Old: "        ORDER BY w.started_at DESC LIMIT 1) END,", New: "        AND false) END,",
		Test: "TestAVersionThatNeverCountedIsNotReplaced", Package: "test/face", Promise: "no event has effects through two projections, though the one between them runs nowhere",
	},
	{
		Name: "old-cut-overs-take-nothing-along", File: "admin/cutoverrows.go",
		Old: "AND replaced = $1 AND projection = $2 AND held_until = $3::timestamptz`", New: "AND (replaced = $1 OR projection = $2) AND $3::timestamptz IS NOT NULL`",
		Test: "TestACutOverThatIsOverDisturbsNoOther", Package: "test/face", Promise: "ending a cut-over whose time is over leaves the one that holds the projections now as it is",
	},
	{
		Name: "replaced-is-not-held", File: "admin/explanations.go",
		Old: "case by != \"\":", New: "case by != \"\" && f.event == nil:",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "an explanation says that a projection was replaced, not that somebody holds it back",
	},
	{
		Name: "cut-overs-that-are-done-are-not-cancelled", File: "admin/retry.go",
		Old: "	if err == nil && ended == 0 {", New: "	if err == nil && ended < 0 {",
		Test: "TestACutOverThatIsDoneIsNotCancelled", Package: "test/face", Promise: "nobody is told that a cut-over was cancelled that is done",
	},
	{
		Name: "other-actors-have-the-limits", File: "admin/event.go",
		Old: "apart: a.apart, pause: a.pause, ", New: "",
		Test: "TestAnAdminOfAnotherActorHasTheOptions", Package: "test/face", Promise: "a cut-over in the name of somebody else has the limits that were set",
	},
}
