package main

// announcingGuards keep what one worker finds out for all from being wrong for another.
var announcingGuards = []guard{
	{
		Name: "only-the-leader-is-heard", File: "actors/lead.go",
		Old: "m.Session == l.seen.Leader && ", New: "",
		Test: "TestOnlyTheLeaderIsHeard", Promise: "nobody who can notify can have events passed over",
	},
	{
		Name: "the-leaders-session-is-a-workers", File: "internal/replicaset/view.go",
		Old: "w.SessionPID != 0 && w.SessionPID == v.LeaderPID {\n\t\t\treturn w.SessionPID", New: "w.SessionPID != 0 {\n\t\t\treturn v.LeaderPID",
		Test: "TestLeadersSession", Promise: "nor who can take the leader's lock",
	},
	{
		Name: "the-leaders-role-is-a-workers", File: "internal/replicaset/view.go",
		Old: "if !v.LeaderMayWrite {", New: "if v.LeaderPID < 0 {",
		Test: "TestNobodyElsePassesForTheLeader", Package: "pgcoord", Promise: "nor who can take both locks, but nothing else",
	},
	{
		Name: "hears-on-a-proven-session", File: "actors/lead.go",
		Old: " && l.proved == l.session", New: "",
		Test: "TestOnlyTheLeaderIsHeard", Promise: "what is heard is of the run of the server that the worker's own probe has met",
	},
	{
		Name: "announcements-are-of-one-run", File: "pgcoord/announcements.go",
		Old: "WHERE ` + horizon.SQLSameRun", New: "WHERE $1::timestamptz IS DISTINCT FROM $2::timestamptz AND $3::timestamptz IS DISTINCT FROM $2`",
		Test: "TestNothingIsAnnouncedAfterACrash", Promise: "a horizon of a server that has crashed is not announced by the one after it",
	},
	{
		Name: "announcements-are-of-one-server", File: "internal/horizon/announcement.go",
		Old: "if a.Started != p.server.started.UnixMicro() {", New: "if a.Started < 0 {",
		Test: "TestHorizonsOfSomethingElseAreNotHeard", Promise: "a session that still leads to the server before a failover says nothing of the one after it",
	},
	{
		Name: "what-a-failed-probe-heard", File: "actors/horizon.go",
		Old: "\t\th.lead.failed()\n", New: "",
		Test: "TestWhatWasHeardDuringAFailedProbeIsForgotten", Promise: "nor does what was heard while a probe found out that its server is gone",
	},
	{
		Name: "announcements-are-of-one-table", File: "internal/horizon/announcement.go",
		Old: "a.Table != p.target.table || ", New: "",
		Test: "TestHorizonsOfSomethingElseAreNotHeard", Promise: "a horizon of another table is not taken for that of this one",
	},
	{
		Name: "announcements-are-of-one-sequence", File: "internal/horizon/announcement.go",
		Old: "a.Sequence != p.facts.sequence || a.Filenode != p.facts.filenode || ", New: "",
		Test: "TestHorizonsOfSomethingElseAreNotHeard", Promise: "nor that of another sequence",
	},
	{
		Name: "announcements-are-of-one-term", File: "internal/horizon/announcement.go",
		Old: "a.Term != p.known.Stored.Term || ", New: "",
		Test: "TestHorizonsOfSomethingElseAreNotHeard", Promise: "nor one that was found to be void",
	},
	{
		Name: "nothing-is-heard-during-a-regression", File: "internal/horizon/announcement.go",
		Old: " || p.known.Regression.stands()", New: "",
		Test: "TestHorizonsOfSomethingElseAreNotHeard", Promise: "nothing is read while positions that a checkpoint has passed may be given again",
	},
	{
		Name: "news-that-were-missed", File: "internal/horizon/announcement.go",
		Old: "a.News.Known && a.News.After <= before && ", New: "a.News.Known && ",
		Test: "TestWhoHearsOfAHorizonAsksNobody", Promise: "an announcement that was missed hides no events",
	},
	{
		Name: "news-of-the-window", File: "actors/reader.go",
		Old: "n.After <= r.window.head && ", New: "",
		Test: "TestEventsOfOtherSlotsAreNotRead", Promise: "events that were not read before are not passed over",
	},
	{
		Name: "news-are-looked-through", File: "actors/reader.go",
		Old: " && !r.wants.wantsSlots(n.Slots)", New: "",
		Test: "TestEventsOfOtherSlotsAreNotRead", Promise: "nor those that are wanted",
	},
	{
		Name: "news-of-all-merged", File: "internal/announcement/news.go",
		Old: "append(slices.Clip(n.Slots), later.Slots...)", New: "slices.Clip(later.Slots)",
		Test: "TestNewsFollowNews", Promise: "two announcements in one have the events of both",
	},
	{
		Name: "news-end-at-a-hole", File: "internal/horizon/target.go",
		Old: "return end, s.slots[:i]", New: "return end, s.slots[:0*i]",
		Test: "TestWithoutHole", Promise: "the events in front of a hole are not forgotten",
	},
	{
		Name: "a-silent-leader-is-noticed", File: "actors/lead.go",
		Old: "\t\tl.following, l.unheard = false, 0\n", New: "\t\tl.unheard = 0\n",
		Test: "TestALeaderThatSaysNothingIsNotReliedUpon", Promise: "a leader that is frozen holds nobody up for long",
	},
	{
		Name: "another-leader-is-waited-for", File: "actors/lead.go",
		Old: "\tl.following = false\n\treturn true\n", New: "\treturn true\n",
		Test: "TestALeaderThatSaysNothingIsNotReliedUpon", Promise: "nor one that was replaced",
	},
	{
		Name: "news-of-one-epoch", File: "actors/lead.go",
		Old: "case another || earlier.Position == 0:", New: "case earlier.Position == 0:",
		Test: "TestWhatWaitsIsAnnouncedTogether", Promise: "what was found before a crash says nothing about the positions that are given again",
	},
	{
		Name: "news-without-a-gap", File: "actors/lead.go",
		Old: "case news.After > earlier.Position:", New: "case news.After < 0:",
		Test: "TestWhatWaitsIsAnnouncedTogether", Promise: "announcements that do not follow each other are not taken for one",
	},
}
