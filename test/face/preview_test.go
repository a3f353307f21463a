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
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/manual"
)

// refusedAlike requires that a preview has refused what the act refuses, for the same reason.
func refusedAlike(t *testing.T, preview, act error) {
	t.Helper()
	require.Error(t, act)
	require.EqualError(t, preview, act.Error())
}

const changedByAct = `SELECT (SELECT string_agg(concat_ws(' ', projection, replica_set, position, hold_at, stopped_at, revision, updated_at), ', ' ORDER BY projection, slot_from) FROM orchestrator_checkpoints),
	(SELECT count(*) FROM orchestrator_operations), (SELECT count(*) FROM orchestrator_requests), (SELECT count(*) FROM orchestrator_successions)`

// What a preview says is what the act itself would say, and it changes nothing.
func TestPreviewsRefuseWhatTheActRefuses(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 3)
	a, start0 := w.admin("set"), admin.Start()
	refused := func(projection string, point admin.Point) {
		t.Helper()
		refusedAlike(t, a.PreviewReset(t.Context(), projection, point), a.Reset(t.Context(), projection, point, ""))
	}
	aside := func(projection string, point admin.Point) {
		t.Helper()
		refusedAlike(t, a.PreviewResetCheckpoints(t.Context(), projection, point), a.ResetCheckpoints(t.Context(), projection, point, ""))
	}
	moves := func(projection, to string) {
		t.Helper()
		refusedAlike(t, a.PreviewMove(t.Context(), projection, to), a.Move(t.Context(), projection, to, ""))
	}
	refused("p", start0)
	aside("p", start0)
	moves("p", "other")
	moves("p", "set")
	moves("p", "")
	refused("", start0)
	aside("p", admin.Position(-1))
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("old")), recorder{name: "p"})
	w.awaitHandled("p", 3)
	refused("p", start0)
	other := start(t, w.orchestrator("set", orchestrator.WithWorkerName("new")), rebuildable{recorder: recorder{name: "p"}})
	w.awaitRunning("set", 2)
	refused("p", start0)
	moves("p", "other")
	require.NoError(t, r.stop())
	w.awaitRunning("set", 1)
	refused("p", admin.Position(4))
	aside("p", admin.Position(4))
	aside("p", admin.Time(time.Now().Add(time.Hour)))
	w.exec("INSERT INTO orchestrator_successions (projection, replaced, cut_over_at) VALUES ('p2', 'p', now())")
	refused("p", start0)
	aside("p", start0)
	w.exec("DELETE FROM orchestrator_successions")
	w.exec(`INSERT INTO orchestrator_operations (replica_set, projection, kind, arguments, actor, reason, state)
		VALUES ('set', 'p2', 'cut-over', jsonb_build_object('from', 'p', 'to', 'p2', 'until', '2999-01-01T00:00:00Z'), 'anna', '', 'waiting')`)
	refused("p", start0)
	aside("p", start0)
	moves("p", "other")
	w.exec("DELETE FROM orchestrator_operations")

	before := w.value(changedByAct)
	require.NoError(t, a.PreviewReset(t.Context(), "p", start0))
	require.NoError(t, a.PreviewResetCheckpoints(t.Context(), "p", admin.Position(1)))
	require.NoError(t, other.stop())
	require.NoError(t, a.PreviewMove(t.Context(), "p", "other"))
	assert.Equal(t, before, w.value(changedByAct))
}

// A preview waits for no handler, and for no row that another transaction has locked.
func TestPreviewsWaitForNobody(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	w.append("ada", 3)
	release, entered := make(chan struct{}), make(chan struct{}, 100)
	busy := rebuildable{recorder: recorder{name: "p", before: func(context.Context, es.PersistedEvent) error {
		entered <- struct{}{}
		<-release
		return nil
	}}}
	next := newVersion()
	next.before = busy.before
	r := start(t, w.orchestrator("set"), busy, oldVersion(), next)
	w.awaitHandled("p1", 3)
	for range 2 {
		await(t, entered, "a handler to be called")
	}
	w.exec("INSERT INTO projection_checkpoints (projection_name, last_global_position) VALUES ('by hand', 3)")
	tx, err := w.db.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "UPDATE projection_checkpoints SET last_global_position = 2")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), manual.SerializeSQL("'projection_checkpoints'"), "by hand")
	require.NoError(t, err)

	before := w.value(changedByAct)
	a := w.admin("set")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, a.PreviewReset(ctx, "p", admin.Start()))
	require.NoError(t, a.PreviewResetCheckpoints(ctx, "p", admin.Start()))
	require.ErrorContains(t, a.PreviewMove(ctx, "p", "other"), "still run it")
	require.NoError(t, a.PreviewCutOver(ctx, "p1", "p2"))
	planned, err := a.PreviewImport(ctx, "by hand")
	require.NoError(t, err)
	assert.EqualValues(t, 3, planned.Position)
	assert.Equal(t, before, w.value(changedByAct))
	close(release)
	require.NoError(t, r.stop())
}
