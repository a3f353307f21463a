package face

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// catchUp runs projections until they have caught up.
func (w *world) catchUp(orch *orchestrator.Orchestrator, projections ...projection.Projection) (orchestrator.Report, error) {
	w.t.Helper()
	report, err := orch.RunUntilCaughtUp(w.patiently(), projections)
	assert.Positive(w.t, report.Took)
	return report, err
}

// said is a report without its times: the horizon, and for each projection its name, whether it has caught up, its position, events and letters.
func said(report orchestrator.Report) string {
	text := fmt.Sprint(report.Position)
	for _, p := range report.Projections {
		text += fmt.Sprintf(", %s %v %d %d %d", p.Projection, p.CaughtUp, p.Position, p.Events, p.Letters)
	}
	return text
}

// Everything is handled, once, and the worker is gone afterwards. A second call has nothing to do.
func TestRunUntilCaughtUp(t *testing.T) {
	for kind, of := range both {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			orch := w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3))
			projections := []projection.Projection{of(recorder{name: "p"}), of(recorder{name: "q"}), scoped{recorder: recorder{name: "r"}, types: []string{"Order"}}}
			report, err := w.catchUp(orch, projections...)
			require.NoError(t, err)
			assert.Equal(t, "0, p true 0 0 0, q true 0 0 0, r true 0 0 0", said(report))
			w.appendInTurn(10, "ada", "grace", "alan")
			report, err = w.catchUp(orch, projections...)
			require.NoError(t, err)
			assert.Equal(t, "30, p true 30 30 0, q true 30 30 0, r true 30 0 0", said(report))
			assert.LessOrEqual(t, report.Projections[0].Took, report.Took)
			assert.Equal(t, "60", w.value("SELECT count(*) FROM handled"))
			w.requireOrder("p")
			assert.Equal(t, "stopped", w.value("SELECT DISTINCT state FROM orchestrator_workers"))
			report, err = w.catchUp(orch, projections...)
			require.NoError(t, err)
			assert.Equal(t, "30, p true 30 0 0, q true 30 0 0, r true 30 0 0", said(report))
		})
	}
}

// It shares the events with those that run, and each event is handled once. What is appended meanwhile does not keep it.
func TestCatchingUpBesideOthers(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	r := start(t, w.orchestrator("set"), recorder{name: "p"})
	w.awaitRunning("set", 1)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	appended := 0
	go func() {
		defer close(ended)
		for ; ctx.Err() == nil; appended++ {
			w.append(fmt.Sprint("user ", appended%9), 1)
		}
	}()
	for range 3 {
		before := w.value("SELECT coalesce(max(global_position), 0) FROM events")
		report, err := w.catchUp(w.orchestrator("set"), recorder{name: "p"})
		require.NoError(t, err)
		assert.Equal(t, "0", w.value("SELECT count(*) FROM events e WHERE global_position <= $1 AND NOT EXISTS (SELECT FROM handled WHERE position = e.global_position)", before))
		assert.True(t, report.Projections[0].CaughtUp)
	}
	cancel()
	await(t, ended, "the appends to end")
	w.awaitHandled("p", appended)
	w.requireOrder("p")
	require.NoError(t, r.stop())
}

// Events above the horizon are not waited for: a transaction with a lower position is open.
func TestCatchingUpToTheHorizon(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	open, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = w.store.Append(t.Context(), open, es.Any(), []es.Event{{
		BoundedContext: "Identity", AggregateType: "User", AggregateID: "grace", EventType: "Something", Payload: []byte("{}"),
	}})
	require.NoError(t, err)
	w.append("alan", 1)
	report, err := w.catchUp(w.orchestrator("set"), recorder{name: "p"})
	require.NoError(t, err)
	assert.Equal(t, "3, p true 3 3 0", said(report))
	require.NoError(t, open.Commit(t.Context()))
	report, err = w.catchUp(w.orchestrator("set"), recorder{name: "p"})
	require.NoError(t, err)
	assert.Equal(t, "5, p true 5 2 0", said(report))
}

// It ends with a failure although the application's hook hangs at an earlier one.
func TestCatchingUpEndsThoughTheHookHangs(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	hung, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	orch := w.orchestrator("set", orchestrator.WithErrorPolicyFor("p", projection.ErrorPolicy{Attempts: 1, Then: projection.Skip}),
		orchestrator.WithFailureHook(func(context.Context, projection.Failure) {
			once.Do(func() { close(hung) })
			<-release
		}))
	t.Cleanup(func() { close(release) })
	_, err := w.catchUp(orch, recorder{name: "p", before: poisoned(errBad, 1)},
		recorder{name: "q", before: func(ctx context.Context, _ es.PersistedEvent) error {
			select {
			case <-hung: // the hook was called for the failure of p
			case <-ctx.Done():
			}
			return errBad
		}})
	require.ErrorIs(t, err, errBad)
	require.ErrorContains(t, err, `projection "q" failed on event`)
}

// It ends with the first failure and names the event. What an error policy leaves out is counted.
func TestCatchingUpEndsWithAFailure(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.appendInTurn(2, "ada", "grace", "alan")
	p := recorder{name: "p", before: poisoned(errBad, 4)}
	told := make(chan projection.Failure, 10)
	hook := orchestrator.WithFailureHook(func(_ context.Context, f projection.Failure) { told <- f })
	report, err := w.catchUp(w.orchestrator("set", hook), p)
	require.ErrorIs(t, err, errBad)
	require.ErrorContains(t, err, `catching up replica set "set": projection "p" failed on event `+w.value("SELECT event_id::text FROM events WHERE global_position = 4")+
		` (Something) at position 4, of aggregate "ada" of type "User" in context "Identity": `)
	failed := report.Projections[0]
	assert.True(t, !failed.CaughtUp && failed.Position < 4 && failed.Events == failed.Position, "%v", report)
	assert.EqualValues(t, 4, await(t, told, "the hook").Event.GlobalPosition)

	policy := func(then projection.Outcome) orchestrator.Option {
		return orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 2, Then: then})
	}
	for range 2 { // it stops, and is stopped
		report, err = w.catchUp(w.orchestrator("set", policy(projection.Stop)), p)
		require.ErrorIs(t, err, orchestrator.ErrProjectionStopped)
		require.ErrorContains(t, err, "at position 4")
		require.ErrorContains(t, err, errBad.Error())
		assert.Equal(t, "6, p false 3", said(report)[:len("6, p false 3")])
	}
	require.NoError(t, w.admin("set").Resume(t.Context(), admin.Target{}, ""))
	report, err = w.catchUp(w.orchestrator("set", policy(projection.Park)), p)
	require.NoError(t, err)
	assert.Equal(t, "6, p true 6 2 1", said(report))
	w.append("ada", 1)
	report, err = w.catchUp(w.orchestrator("set", policy(projection.Skip)), p, recorder{name: "q", before: poisoned(errBad, 1)})
	require.NoError(t, err)
	assert.Equal(t, "7, p true 7 0 1, q true 7 6 1", said(report))
}

func TestCatchingUpThatCannotEnd(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	orch := w.orchestrator("set", orchestrator.WithShutdownTimeout(time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	report, err := orch.RunUntilCaughtUp(ctx, []projection.Projection{recorder{name: "p", before: func(ctx context.Context, _ es.PersistedEvent) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}})
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, "1, p false 0 0 0", said(report))

	require.NoError(t, w.admin("set").Pause(t.Context(), admin.Target{Projection: "p"}, "a reason", time.Time{}))
	_, err = w.catchUp(orch, recorder{name: "p"})
	require.ErrorIs(t, err, orchestrator.ErrProjectionPaused)
	require.NoError(t, w.admin("set").Resume(t.Context(), admin.Target{Projection: "p"}, ""))

	_, err = orch.RunUntilCaughtUp(t.Context(), nil)
	require.ErrorIs(t, err, orchestrator.ErrInvalidProjections)
	_, err = orch.RunUntilCaughtUp(nil, nil) //nolint:staticcheck // that is the point
	require.ErrorContains(t, err, "ctx must not be nil")
	r := start(t, orch, recorder{name: "p"})
	w.awaitRunning("set", 1)
	_, err = orch.RunUntilCaughtUp(t.Context(), []projection.Projection{recorder{name: "p"}})
	require.ErrorIs(t, err, orchestrator.ErrAlreadyRunning)
	require.NoError(t, r.stop())
	_, err = w.orchestrator("other").RunUntilCaughtUp(t.Context(), []projection.Projection{recorder{name: "p"}})
	require.ErrorIs(t, err, orchestrator.ErrProjectionClaimed)
	w.exec("ALTER SEQUENCE events_global_position_seq RESTART WITH 1")
	_, err = w.catchUp(orch, recorder{name: "p"})
	require.ErrorContains(t, err, "sequence")
}

// A worker that somebody has drained handles nothing. So catching up fails, as a wait in its process does, unless another worker runs the projection.
func TestCatchingUpWhileDrained(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	job := w.named("job")
	_, err := w.catchUp(job, recorder{name: "p"})
	require.NoError(t, err)
	result := w.appends("ada", 1)
	w.exec("INSERT INTO orchestrator_drains (replica_set, worker, actor, reason) VALUES ('set', 'job', 'anna', 'its host is patched')")
	report, err := w.catchUp(job, recorder{name: "p"})
	require.ErrorIs(t, err, orchestrator.ErrNotRunning)
	require.ErrorContains(t, err, `catching up replica set "set": projection "p": no worker runs the projection; it is at position 0: worker job is drained by anna: its host is patched`)
	assert.Equal(t, "1, p false 0 0 0", said(report))

	r := start(t, job, recorder{name: "p"})
	w.await("true", "SELECT drained FROM orchestrator_workers WHERE state = 'running'")
	require.ErrorIs(t, job.WaitForAppend(w.patiently(), "p", result), orchestrator.ErrNotRunning)
	other := start(t, w.named("other"), recorder{name: "p"})
	w.awaitHandled("p", 1)
	require.NoError(t, job.WaitForAppend(w.patiently(), "p", result))
	require.NoError(t, r.stop())
	w.append("ada", 1)
	report, err = w.catchUp(job, recorder{name: "p"})
	require.NoError(t, err)
	assert.Equal(t, "2, p true 2 0 0", said(report))
	require.NoError(t, other.stop())

	r = start(t, job, recorder{name: "p"})
	w.awaitRunning("set", 1)
	require.NoError(t, a.Undrain(t.Context(), "job", ""))
	result = w.appends("ada", 1)
	ctx := w.patiently()
	eventually(t, func() bool { err = job.WaitForAppend(ctx, "p", result); return err == nil }, func() string { return err.Error() }) // it is drained until it has looked
	require.NoError(t, r.stop())
}

// The application is told how far it is while it runs, also after it has panicked once, and not when it has returned.
func TestCatchingUpTellsHowFarItIs(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	w.append("grace", 2)
	told, returned := make(chan orchestrator.Report, 1), make(chan struct{})
	calls := 0
	progress := func(_ context.Context, report orchestrator.Report) {
		select {
		case <-returned:
			t.Error("it was told after the call had returned")
		default:
		}
		if calls++; calls == 1 {
			panic("once")
		}
		select {
		case told <- report:
		default:
		}
	}
	waiting := recorder{name: "p", before: func(ctx context.Context, event es.PersistedEvent) error {
		if event.GlobalPosition != 4 {
			return nil
		}
		select {
		case report := <-told:
			assert.Equal(t, "5, p false 3 3 0", said(report))
			assert.Positive(t, report.Took)
			assert.Equal(t, report.Took, report.Projections[0].Took)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	report, err := w.catchUp(w.orchestrator("set", orchestrator.WithProgress(progress), orchestrator.WithBatchSize(1)), waiting)
	close(returned)
	require.NoError(t, err)
	assert.Equal(t, "5, p true 5 5 0", said(report))
	w.logs.AwaitLine(t, "the function of WithProgress panicked")
}
