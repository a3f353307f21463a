package main

// observingGuards keep what metrics and autoscalers are told true.
var observingGuards = []guard{
	{
		Name: "old-surveys-are-not-shown", File: "internal/measure/computed.go",
		Old: "time.Since(c.surveyed) > c.survey.Shown", New: "time.Since(c.surveyed) < 0",
		Test: "TestASurveyThatIsOld", Promise: "slots that belonged to nobody when the leader could look last are not shown as if it were so now",
	},
	{
		Name: "lag-is-of-what-is-not-handled", File: "internal/lag/history.go",
		Old: "return h.samples[i].Position > position })", New: "return h.samples[i].Position >= position })",
		Test: "TestSince", Promise: "a projection that has handled everything has no lag in seconds",
	},
	{
		Name: "lag-forgets-a-stream-that-was-set-back", File: "internal/lag/history.go",
		Old: "return old.Position > s.Position })", New: "return false })",
		Test: "TestSince", Promise: "positions that are given again do not count as old",
	},
	{
		Name: "samples-forget-a-stream-that-was-set-back", File: "pgcoord/samples.go",
		Old: "replica_set = $1::text AND position > $2::bigint\n", New: "replica_set = $1::text AND position < 0 AND $2::bigint > 0\n",
		Test: "TestSamples", Promise: "stored positions that are given again do not count as old",
	},
	{
		Name: "stored-samples-have-their-times", File: "actors/survey.go",
		Old: "w.Store.Samples(ctx, db, lag.Now())", New: "w.Store.Samples(ctx, db, lag.Now()+24*time.Hour)",
		Test: "TestLagInSeconds", Package: "test/face", Promise: "a worker knows since when events wait that came before it",
	},
	{
		Name: "poison-events-do-not-scale-out", File: "migrations/000007_samples.up.sql",
		Old: "l.state = 'retrying'", New: "l.state = 'nothing'",
		Test: "TestNothingThatStandsStillScalesOut", Package: "test/face", Promise: "an event that fails starts no workers",
	},
	{
		Name: "pauses-do-not-scale-out", File: "migrations/000007_samples.up.sql",
		Old: "c.hold_until > now()) THEN c.hold_at END", New: "c.hold_until > now()) THEN NULL::bigint END",
		Test: "TestNothingThatStandsStillScalesOut", Package: "test/face", Promise: "a pause starts no workers",
	},
	{
		Name: "stops-do-not-scale-out", File: "migrations/000007_samples.up.sql",
		Old: "c.stopped_at IS NOT NULL\n", New: "false\n",
		Test: "TestNothingThatStandsStillScalesOut", Package: "test/face", Promise: "a projection that is stopped starts no workers",
	},
	{
		Name: "lag-grows-while-a-handler-runs", File: "internal/measure/metrics.go",
		Old: "		s.stretchLag()\n", New: "		_ = s\n",
		Test: "TestWhatMethodsRecord", Promise: "a handler that hangs does not hide what waits behind it",
	},
	{
		Name: "hanging-handlers-are-counted", File: "actors/handlers.go",
		Old: "	w.hangs = true\n", New: "",
		Test: "TestAHandlerThatHangsIsCounted", Promise: "a handler that hangs is a metric before it is told to stop",
	},
	{
		Name: "the-clock-has-all-its-digits", File: "pgcoord/view.go",
		Old: "'', extract(epoch FROM clock_timestamp()) * 1000, 0::bigint,", New: "'', extract(epoch FROM clock_timestamp())::float8 * 1000, 0::bigint,",
		Test: "TestTimesAreExactWhateverTheDigits", Package: "pgcoord", Promise: "no role's setting changes who is taken for dead",
	},
	{
		Name: "computed-series-vanish", File: "internal/measure/metrics.go",
		Old: "	r.series.forgetWorker(r)\n", New: "",
		Test: "TestWhatIsComputedAtAScrape", Promise: "the series of a worker vanish when Run returns",
	},
	{
		Name: "unknown-projections-are-told", File: "cli/outcome.go",
		Old: "if s, err := adm.Snapshot(ctx); err == nil {", New: "if s, err := adm.Snapshot(ctx); err != nil {",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "a name that is misspelled is told, with those that there are",
	},
	{
		Name: "nothing-is-retried", File: "cli/deadletters.go",
		Old: "if aggregates == 0 {", New: "if aggregates < 0 {",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "a filter that matches nothing leaves no operation",
	},
	{
		Name: "put-aside-while-rebuilt", File: "cli/reset.go",
		Old: "if d.Position > beyond {", New: "if d.Position < beyond {",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "a rebuild that has put events aside does not pass for a complete one",
	},
	{
		Name: "rebuilds-that-wait-for-a-person", File: "cli/reset.go",
		Old: "name, why), errFalse)", New: "name, why), nil)",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "a rebuild that waits for a person is not waited for, and does not pass for a complete one",
	},
	{
		Name: "what-is-confirmed-is-discarded", File: "cli/deadletters.go",
		Old: "	if c.Bool(\"yes\") {\n		return adm.Discard(", New: "	if letters >= 0 {\n		return adm.Discard(",
		Test: "TestTranscripts", Package: "test/transcripts", Promise: "who confirms the loss of a number of letters loses no more",
	},
	{
		Name: "late-contexts-end-with-theirs", File: "eventstore/heldup.go",
		Old: "		if ctx.Err() != nil {\n			close(late.done)", New: "		if true {\n			close(late.done)",
		Test: "TestWhatHoldsUpNothingEndsNothing", Promise: "no context ends without an error, which the runtime answers with a panic",
	},
	{
		Name: "nothing-to-compare", File: "orchestratortest/laws.go",
		Old: "empty && err == nil {", New: "empty && err != nil {",
		Test: "TestCheckLawsTellsThatItReadsNothing", Promise: "laws of a read model that is never read do not pass in silence",
	},
	{
		Name: "rows-of-others", File: "admin/importing.go",
		Old: "has = fmt.Sprintf(\"it has rows for %q\", name)", New: "has = \"it has rows\"",
		Test: "TestImportOfWhatCannotBeExact", Package: "test/face", Promise: "an import of a misspelled projection says which there are",
	},
	{
		Name: "the-last-of-a-burst-waits", File: "internal/lag/history.go",
		Old: "		h.samples[n-1] = s //", New: "		_ = s //",
		Test: "TestTheLastOfABurstWaits", Promise: "the lag in seconds includes the last events of a burst",
	},
	{
		Name: "moved-tables-are-found", File: "admin/admin.go",
		Old: "		a.moved.Store(true)\n", New: "",
		Test: "TestAnAdminFindsTablesThatWereMoved", Package: "test/face", Promise: "a status page goes on after the tables were moved to another schema",
	},
}
