package face

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A cut-over that cannot be done, or would take long, is refused with a reason, and changes nothing.
func TestACutOverIsRefused(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	a := w.admin("set")
	third := succeeding{acting{recorder{name: "p3"}}, "p2"}
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("w1")), oldVersion(), newVersion(), third, recorder{name: "q"})
	w.append("ada", 3)
	for _, name := range []string{"p1", "p2", "p3", "q"} {
		w.awaitHandled(name, 3)
	}
	w.await("3 3", "SELECT min(position), max(position) FROM orchestrator_checkpoints")
	const letter = `INSERT INTO orchestrator_dead_letters (projection, global_position, replica_set, event_id, event_type, bounded_context, aggregate_type, aggregate_id, state, attempts, last_error, worker_id, generation)
		SELECT 'p2', 99, 'set', event_id, event_type, bounded_context, aggregate_type, aggregate_id, 'retrying', 1, '', event_id, 1 FROM events LIMIT 1`
	for _, test := range []struct{ from, to, given, undo, want string }{
		{"p1", "", "", "", "the new projection's name must not be empty"},
		{"\x00", "p2", "", "", "the old projection's name must not contain NUL"},
		{"p1", "p1", "", "", `the new projection must be another one than "p1"`},
		{"none", "p2", "", "", `projection "none": it has no checkpoints`},
		{"p1", "none", "", "", `projection "none": it has no checkpoints`},
		{"p1", "q", "", "", `the workers w1 run projection "q" without a method Replaces (projection.Successor) that returns "p1"`},
		{"q", "p2", "", "", `without a method Replaces (projection.Successor) that returns "q"`},
		{"p2", "p3", "", "", `projection "p2" has not taken over from "p1" itself: cut over to it first`},
		{"p1", "p2", "INSERT INTO orchestrator_successions (cut_over_at, projection, replaced) VALUES (now(), 'p2', 'q')", "DELETE FROM orchestrator_successions", `"p2" has replaced "q" already, and can replace no other`},
		{"p1", "p2", "INSERT INTO orchestrator_successions (cut_over_at, projection, replaced) VALUES (now(), 'q', 'p1')", "DELETE FROM orchestrator_successions", `"p1" was replaced by "q"`},
		{"p1", "p2", "INSERT INTO orchestrator_successions (cut_over_at, projection, replaced) VALUES (now(), 'q', 'p2')", "DELETE FROM orchestrator_successions", `"p2" was replaced by "q"`},
		{"p1", "p2", "UPDATE orchestrator_checkpoints SET events_table = 'public.others' WHERE projection = 'p2'", "UPDATE orchestrator_checkpoints SET events_table = 'public.events'", "the positions of \"p1\" are of the events table public.events, and those of \"p2\" of public.others"},
		{"p1", "p2", letter, "DELETE FROM orchestrator_dead_letters", `projection "p2" retries the event at position 99`},
		{"p1", "p2", "INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters) VALUES ('p1', 'c', 't', 'x', 'set', 1, 1)", "DELETE FROM orchestrator_parked_aggregates", `projection "p1" has parked aggregates: retry or discard them first`},
		{"p1", "p2", "INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters) VALUES ('p2', 'c', 't', 'x', 'set', 1, 1)", "DELETE FROM orchestrator_parked_aggregates", `projection "p2" has parked aggregates: retry or discard them first`},
		{"p1", "p2", "UPDATE orchestrator_checkpoints SET stopped_at = 5 WHERE projection = 'p1'", "UPDATE orchestrator_checkpoints SET stopped_at = NULL", `projection "p1" is stopped at position 5`},
		{"p1", "p2", "UPDATE orchestrator_checkpoints SET hold_at = 3, hold_until = '2999-01-01Z' WHERE projection = 'p2'", "UPDATE orchestrator_checkpoints SET hold_at = NULL, hold_until = NULL", `projection "p2" is held at position 3 until 2999-01-01T00:00:00Z: resume it first`},
		{"p1", "p2", "UPDATE orchestrator_checkpoints SET hold_at = 300 WHERE projection = 'p1'", "UPDATE orchestrator_checkpoints SET hold_at = NULL", `projection "p1" is held at position 300: resume it first`},
		{"p1", "p2", "UPDATE orchestrator_workers SET left_out = '{p2}'", "UPDATE orchestrator_workers SET left_out = '{}'", `the workers that run projection "p2" wait for handlers of it that do not return`},
		{"p1", "p2", "UPDATE orchestrator_workers SET drained = true", "UPDATE orchestrator_workers SET drained = false", `no worker runs projection "p2", or those that do are drained`},
	} {
		before := w.value("SELECT projection, position, hold_at, revision FROM orchestrator_checkpoints ORDER BY 1")
		if test.given != "" {
			w.exec(test.given)
		}
		given := w.value("SELECT projection, position, hold_at, revision FROM orchestrator_checkpoints ORDER BY 1")
		preview := a.PreviewCutOver(w.patiently(), test.from, test.to)
		_, err := a.CutOver(w.patiently(), test.from, test.to, "")
		require.ErrorContains(t, err, test.want)
		refusedAlike(t, preview, err)
		assert.Equal(t, given, w.value("SELECT projection, position, hold_at, revision FROM orchestrator_checkpoints ORDER BY 1"), test.want)
		if test.undo != "" {
			w.exec(test.undo)
		}
		assert.Equal(t, before, w.value("SELECT projection, position, hold_at, revision FROM orchestrator_checkpoints ORDER BY 1"), test.want)
	}
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_operations"))
	// What an earlier attempt has left does not count, since another one takes over. It stays until then.
	w.exec(`INSERT INTO orchestrator_operations (replica_set, projection, kind, arguments, actor, reason, state)
		VALUES ('set', 'p2', 'cut-over', jsonb_build_object('from', 'p1', 'to', 'p2', 'until', '2999-01-01T00:00:00Z'), 'anna', '', 'waiting')`)
	w.exec("UPDATE orchestrator_checkpoints SET hold_at = 3, hold_until = '2999-01-01T00:00:00Z' WHERE projection IN ('p1', 'p2')")
	before := w.value(changedByAct)
	require.NoError(t, a.PreviewCutOver(w.patiently(), "p1", "p2"))
	w.exec("UPDATE orchestrator_checkpoints SET hold_until = '2999-01-02T00:00:00Z' WHERE projection = 'p1'")
	require.ErrorContains(t, a.PreviewCutOver(w.patiently(), "p1", "p2"), `projection "p1" is held at position 3 until 2999-01-02T00:00:00Z`)
	w.exec("UPDATE orchestrator_checkpoints SET hold_until = '2999-01-01T00:00:00Z' WHERE projection = 'p1'")
	assert.Equal(t, before, w.value(changedByAct))
	w.exec("DELETE FROM orchestrator_operations")
	w.exec("UPDATE orchestrator_checkpoints SET hold_at = NULL, hold_until = NULL WHERE projection IN ('p1', 'p2')")
	for want, limits := range map[string]admin.Option{
		"WithCutOverLimits: apart must not be negative, got -1":              admin.WithCutOverLimits(-1, time.Second),
		"WithCutOverLimits: pause must be above 0 and at most 10m0s, got 0s": admin.WithCutOverLimits(0, 0),
		"at most 10m0s, got 10m0.000000001s":                                 admin.WithCutOverLimits(0, 10*time.Minute+1),
	} {
		_, err := w.admin("set", limits).CutOver(w.patiently(), "p1", "p2", "")
		require.ErrorContains(t, err, want)
	}
	ctx, cancel := context.WithCancel(w.patiently())
	cancel()
	_, err := w.asks(a, admin.Filter{})
	require.NoError(t, err)
	w.exec("INSERT INTO orchestrator_requests (operation, projection, bounded_context, aggregate_type, aggregate_id, kind) SELECT max(id), 'p2', '', '', '', 'retry' FROM orchestrator_operations")
	_, err = a.CutOver(w.patiently(), "p1", "p2", "")
	require.ErrorContains(t, err, "waits for one of the projections")
	_, err = a.CutOver(ctx, "p1", "p2", "")
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, r.stop())
	w.exec("DELETE FROM orchestrator_requests")
	_, err = a.CutOver(w.patiently(), "p1", "p2", "")
	require.ErrorContains(t, err, `no worker runs projection "p2"`)
}

// A version that has not taken over from its own predecessor cannot be replaced, though no worker runs it any more that could say so.
func TestAVersionThatNeverCountedIsNotReplaced(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	r := start(t, w.orchestrator("set"), oldVersion(), newVersion())
	w.append("ada", 3)
	w.awaitHandled("p1", 3)
	w.awaitHandled("p2", 3)
	require.NoError(t, r.stop())
	start(t, w.orchestrator("set"), oldVersion(), succeeding{acting{recorder{name: "p3"}}, "p2"})
	w.awaitHandled("p3", 3)
	w.await("3 3", "SELECT min(position), max(position) FROM orchestrator_checkpoints")
	_, err := w.admin("set").CutOver(w.patiently(), "p2", "p3", "")
	require.ErrorContains(t, err, `projection "p2" has not taken over from "p1" itself`)
	w.exec("DELETE FROM orchestrator_workers WHERE state = 'stopped'") // as history goes
	_, err = w.admin("set").CutOver(w.patiently(), "p2", "p3", "")
	require.ErrorContains(t, err, "run it once")
}

// A cut-over is refused while the new version is too far behind. What it has only not written down yet does not count.
func TestACutOverThatIsTooFarApart(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	next := quiet{newVersion()}
	r := start(t, w.orchestrator("set"), oldVersion(), next)
	w.awaitRunning("set", 1)
	w.append("ada", 200)
	w.awaitHandled("p1", 200)
	exact := w.admin("set", admin.WithCutOverLimits(0, time.Second))
	require.NoError(t, exact.PreviewCutOver(w.patiently(), "p1", "p2"))
	_, err := exact.CutOver(w.patiently(), "p1", "p2", "")
	require.NoError(t, err, "nothing of this is in the scope of p2, which writes that down now and then")
	require.NoError(t, r.stop())

	third := succeeding{acting{recorder{name: "p3"}}, "p2"}
	entered, release := make(chan struct{}, 1000), make(chan struct{})
	third.before = func(context.Context, es.PersistedEvent) error {
		entered <- struct{}{}
		<-release
		return nil
	}
	r = start(t, w.orchestrator("set", orchestrator.WithWorkerName("w7")), next, third)
	await(t, entered, "the handler to be called")
	_, err = w.admin("set", admin.WithCutOverLimits(100, 300*time.Millisecond)).CutOver(w.patiently(), "p2", "p3", "")
	require.ErrorContains(t, err, `waiting for the handlers of projection "p3" in partition 0/1 on worker "w7"`)
	close(release)
	w.awaitHandled("p3", 200)
	require.NoError(t, r.stop())
	w.exec("UPDATE orchestrator_checkpoints SET position = 10 WHERE projection = 'p3'")
	w.exec("UPDATE orchestrator_workers SET state = 'running' WHERE started_at = (SELECT max(started_at) FROM orchestrator_workers)")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now()")
	limited, ended := w.admin("set", admin.WithCutOverLimits(100, time.Second)), make(chan error, 1)
	go func() { ended <- limited.PreviewCutOver(w.patiently(), "p2", "p3") }()
	_, err = limited.CutOver(w.patiently(), "p2", "p3", "")
	require.ErrorIs(t, err, admin.ErrTooFarBehind)
	refusedAlike(t, await(t, ended, "the preview"), err)
	require.ErrorContains(t, err, `190 positions, and at most 100 are allowed: "p2" is at 200 to 200, and "p3" at 10 to 10`)
}

// quiet wants events of a type that there are none of.
type quiet struct{ succeeding }

func (quiet) AggregateTypes() []string { return []string{"Nothing"} }

// What was replaced handles nothing any more, whatever an operator does, and who waits for it is told.
func TestWhatWasReplacedStaysSo(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	orch := w.orchestrator("set")
	r := start(t, orch, oldVersion(), newVersion())
	w.append("ada", 3)
	w.awaitHandled("p1", 3)
	w.awaitHandled("p2", 3)
	a := w.admin("set")
	s, err := a.Snapshot(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []any{"", false, "p1", true}, []any{s.Projections[0].Replaces, s.Projections[0].Replay, s.Projections[1].Replaces, s.Projections[1].Replay})
	_, err = a.CutOver(w.patiently(), "p1", "p2", "")
	require.NoError(t, err)
	_, err = a.CutOver(w.patiently(), "p1", "p2", "")
	require.ErrorContains(t, err, `"p2" has replaced "p1" already`)

	old := admin.Target{Projection: "p1"}
	for _, err := range []error{
		a.Resume(t.Context(), old, ""), a.Pause(t.Context(), old, "", time.Time{}), a.ResetCheckpoints(t.Context(), "p1", admin.Start(), ""),
	} {
		require.ErrorContains(t, err, `"p2" has replaced it at a cut-over: it handles nothing any more`)
	}
	require.NoError(t, a.Pause(t.Context(), admin.Target{}, "", time.Now().Add(time.Hour)))
	require.NoError(t, a.Resume(t.Context(), admin.Target{}, ""))
	assert.Equal(t, "3 ", w.value("SELECT hold_at, coalesce(hold_until::text, '') FROM orchestrator_checkpoints WHERE projection = 'p1'"))
	w.exec("UPDATE orchestrator_checkpoints SET hold_at = NULL, revision = revision + 1 WHERE projection = 'p1'") // by hand
	w.append("ada", 3)
	w.await("3 3", effects)
	for _, name := range []string{"lag_events", "lag_seconds"} { // nobody has to see to it
		awaitMetric(t, orch, "0", name+`{partition="0/1",projection="p1",replica_set="set"}`)
	}
	require.NoError(t, orch.WaitFor(w.patiently(), "p1", 3))
	err = orch.WaitFor(w.patiently(), "p1", 4)
	require.ErrorIs(t, err, orchestrator.ErrProjectionReplaced)
	require.ErrorContains(t, err, `wait for "p2"`)
	require.NoError(t, r.stop())
	report, err := w.orchestrator("set").RunUntilCaughtUp(w.patiently(), []projection.Projection{oldVersion(), newVersion()})
	require.ErrorIs(t, err, orchestrator.ErrProjectionReplaced)
	assert.EqualValues(t, 3, report.Projections[0].Position)
	assert.Equal(t, "3 3", w.value(effects))

	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_dead_letters"), "a handler has failed: it had a second effect of an event")
	s, err = a.Snapshot(t.Context())
	require.NoError(t, err)
	p := s.Projections[0]
	assert.Equal(t, []any{"p2", false, int64(0), true}, []any{p.ReplacedBy, p.Paused, p.Lag, p.LagExact})
	assert.Equal(t, []any{"p1", false, ""}, []any{s.Projections[1].Replaces, s.Projections[1].Replay, s.Projections[1].ReplacedBy})
	shown := scrape(t, w.tablesOf(a))
	requireSeries(t, shown, `projection_workers{projection="p2"} 0`)
	assert.NotContains(t, shown, `"p1"`, "nobody need run it any more")
	require.NoError(t, a.ResetCheckpoints(t.Context(), "p2", admin.Position(5), ""), "which the new version handles again, as the one that counts")
}

// The manual runner refuses what it cannot cut over, and Run what makes no sense.
func TestASuccessorThatCannotBeRun(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	err := projection.NewPostgresProcessor(projection.ProcessorConfig{DB: w.db, EventStore: w.store, Projection: newVersion()}).Run(t.Context())
	require.ErrorContains(t, err, `Projection must not be a Successor: "p2" replaces "p1" at a cut-over, which the manual runner does not have`)
	err = w.orchestrator("set").Run(t.Context(), []projection.Projection{succeeding{acting{recorder{name: "p1"}}, "p1"}})
	require.ErrorIs(t, err, orchestrator.ErrInvalidProjections)
	require.ErrorContains(t, err, `its Replaces must name another projection than itself, got "p1"`)
	err = w.orchestrator("set").Run(t.Context(), []projection.Projection{succeeding{acting{recorder{name: "p2"}}, "\x00"}})
	require.ErrorContains(t, err, "the name that its Replaces returns must have between 1 and 255 bytes")
}
