package main

// resetGuards keep resets exact.
var resetGuards = []guard{
	{
		Name: "resets-take-their-time", File: "internal/dbguard/several.go",
		Old: "sqlSeveral, timeout, idle)", New: "sqlSeveral, timeout, map[bool]string{true: \"20\"}[idle != \"\"])",
		Test: "TestAResetWhoseFunctionTakesItsTime", Package: "test/face", Promise: "a role's idle_in_transaction_session_timeout ends no reset whose function takes its time",
	},
	{
		Name: "resets-hold-the-generation", File: "pgcoord/reset.go",
		Old: " AND pg_catalog.bool_and(generation = $2::bigint)", New: " AND pg_catalog.bool_or(generation = $2::bigint)",
		Test: "TestAResetIsFenced", Promise: "a reset holds all checkpoints of its projection, whoever owns them",
	},
	{
		Name: "resets-hold-all-slots", File: "pgcoord/reset.go",
		Old: "HAVING coalesce(pg_catalog.sum(slot_to - slot_from), 0) = 65536 AND", New: "HAVING",
		Test: "TestAResetIsFenced", Promise: "a reset holds all checkpoints of its projection, though some were replaced meanwhile",
	},
	{
		Name: "resets-are-the-owners", File: "pgcoord/reset.go",
		Old: "    AND pg_catalog.bool_or(worker_id = $3::uuid AND slot_from <= $4::int AND $4::int < slot_to)`", New: "    AND $3::uuid IS NOT NULL AND $4::int >= 0`",
		Test: "TestAResetIsFenced", Promise: "a worker that was fenced resets nothing",
	},
	{
		Name: "resets-advance-nothing", File: "pgcoord/reset.go",
		Old: "SET position = least(position, $2::bigint), hold_at", New: "SET position = $2::bigint, hold_at",
		Test: "TestAResetHoldsEverythingAndAnswersOnce", Promise: "a reset skips no events",
	},
	{
		Name: "resets-raise-the-revision", File: "pgcoord/reset.go",
		Old: "    stopped_at = NULL, revision = revision + 1,", New: "    stopped_at = NULL, revision = revision,",
		Test: "TestAResetHoldsEverythingAndAnswersOnce", Promise: "no owner goes on with what it knew before a reset",
	},
	{
		Name: "letters-before-the-point-stay", File: "pgcoord/reset.go",
		Old: "WHERE projection = $1 AND global_position > $2::bigint AND state IN", New: "WHERE projection = $1 AND $2::bigint >= 0 AND state IN",
		Test: "TestWhatAResetDoesWithLettersStopsAndPauses", Package: "test/face", Promise: "a reset loses no event that is put aside and not handled again",
	},
	{
		Name: "resets-keep-pauses", File: "pgcoord/reset.go",
		Old: "CASE WHEN hold_at <= position THEN least(position, $2::bigint) ELSE hold_at END", New: "hold_at",
		Test: "TestWhatAResetDoesWithLettersStopsAndPauses", Package: "test/face", Promise: "a paused projection handles nothing after a reset",
	},
	{
		Name: "resets-skip-nothing", File: "admin/point.go",
		Old: "	if position > lowest {", New: "	if false && position > lowest {",
		Test: "TestThePointsOfAReset", Package: "test/face", Promise: "a reset to a point ahead is refused",
	},
	{
		Name: "read-models-in-the-transaction", File: "admin/reset.go",
		Old: "	if before != after {", New: "	if false && before != after {",
		Test: "TestAResetThatIsRefused", Package: "test/face", Promise: "checkpoints are set back only with the read model that was emptied",
	},
	{
		Name: "resets-of-all-versions", File: "admin/reset.go",
		Old: "	case len(others) > 0:\n		return fmt.Errorf(\"the workers", New: "	case len(others) < 0:\n		return fmt.Errorf(\"the workers",
		Test: "TestAResetThatIsRefused", Package: "test/face", Promise: "a reset is refused while a worker has the projection without Reset",
	},
	{
		Name: "resets-though-held", File: "actors/requests.go",
		Old: "		if one.Kind == replicaset.Reset || ", New: "		if ",
		Test: "TestAWorkerResetsWhatIsPaused", Package: "test/face", Promise: "a paused projection can be reset",
	},
}
