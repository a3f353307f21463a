package face

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// beside runs both versions. The new one is slow while the flag is set.
func beside(w *world) (*running, *atomic.Bool) {
	slow := &atomic.Bool{}
	next := newVersion()
	next.before = slowly(slow.Load, 60*time.Millisecond)
	return start(w.t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), oldVersion(), next), slow
}

// held is how many checkpoints are held, and how many cut-overs wait.
const held = "SELECT (SELECT count(*) FROM orchestrator_checkpoints WHERE hold_at IS NOT NULL AND (hold_until IS NULL OR hold_until > now())), (SELECT count(*) FROM orchestrator_operations WHERE state = 'waiting')"

// A cut-over that does not come to its end takes its holds back, whatever the reason, and both projections go on. The next one gets it done.
func TestACutOverThatIsGivenUp(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	r, slow := beside(w)
	w.awaitRunning("set", 1)
	a := w.admin("set")
	total := 0
	apart := func() {
		w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints")
		slow.Store(true)
		w.appendInTurn(20, "ada", "grace", "alan", "kurt")
		total += 80
		w.awaitHandled("p1", total)
	}
	w.append("ada", 1)
	total++
	w.awaitHandled("p1", 1)
	w.awaitHandled("p2", 1)
	p1, p2 := admin.Target{Projection: "p1"}, admin.Target{Projection: "p2"}
	for name, test := range map[string]struct {
		meanwhile func(stop func()) error
		want      string
		held      string // afterwards
	}{
		"its context ends": {func(stop func()) error { stop(); return nil }, "context canceled", "0 0"},
		"a resume of one":  {func(func()) error { return a.Resume(t.Context(), p1, "") }, "the operation was cancelled: resumed", "0 0"},
		"a resume of all":  {func(func()) error { return a.Resume(t.Context(), admin.Target{}, "") }, "the operation was cancelled: resumed", "0 0"},
		"a cancel": {func(func()) error {
			s, err := a.Snapshot(t.Context())
			require.NoError(t, err)
			require.Len(t, s.Operations, 1)
			return a.Cancel(t.Context(), s.Operations[0].ID, "not today")
		}, "the operation was cancelled: not today", "0 0"},
		"a discard": {func(stop func()) error {
			_, err := a.Discard(t.Context(), admin.Filter{Projection: "p1"}, "") // ends operations that wait for nothing
			w.append("ada", 1)
			total++
			stop()
			return err
		}, "context canceled", "0 0"},
		"a pause": {func(func()) error { return a.Pause(t.Context(), p2, "", time.Time{}) }, `projection "p2" is not held as this cut-over has left it`, "2 0"},
		"a stop": {func(func()) error {
			w.exec("UPDATE orchestrator_checkpoints SET stopped_at = 100000, revision = revision + 1 WHERE projection = 'p2'")
			return nil
		}, `projection "p2" has stopped at position 100000 meanwhile`, "0 0"},
		"a parked aggregate": {func(func()) error {
			w.exec("INSERT INTO orchestrator_parked_aggregates (projection, bounded_context, aggregate_type, aggregate_id, replica_set, global_position, letters) VALUES ('p1', 'c', 't', 'x', 'set', 1, 1)")
			return nil
		}, `an aggregate of projection "p1" was parked meanwhile`, "0 0"},
	} {
		apart()
		ctx, stop := context.WithCancel(w.patiently())
		ended := make(chan error, 1)
		go func() {
			_, err := a.CutOver(ctx, "p1", "p2", name)
			ended <- err
		}()
		w.await("true", holdsBegun)
		assert.Equal(t, "4 1", w.value(held), name)
		require.ErrorContains(t, a.ResetCheckpoints(t.Context(), "p2", admin.Start(), ""), `a cut-over from "p1" to "p2" has begun`)
		require.ErrorContains(t, a.Move(t.Context(), "p1", "other", ""), `a cut-over from "p1" to "p2" has begun`)
		if name == "a cancel" { // who waits for either of them goes on waiting
			brief, end := context.WithTimeout(t.Context(), 50*time.Millisecond)
			require.ErrorIs(t, w.orchestrator("set").WaitFor(brief, "p2", int64(total+1)), context.DeadlineExceeded)
			end()
		}
		require.NoError(t, test.meanwhile(stop), name)
		require.ErrorContains(t, await(t, ended, "the cut-over"), test.want, name)
		assert.Equal(t, test.held, w.value(held), name)
		assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_successions"), name)
		stop()
		slow.Store(false)
		w.exec("DELETE FROM orchestrator_parked_aggregates")
		require.NoError(t, a.Resume(t.Context(), admin.Target{}, ""))
		w.awaitHandled("p2", total)
	}
	apart()
	brief := w.admin("set", admin.WithCutOverLimits(1000, 300*time.Millisecond))
	_, err := brief.CutOver(w.patiently(), "p1", "p2", "")
	require.ErrorContains(t, err, "300ms have passed, the longest pause that is allowed")
	assert.Equal(t, "0 0", w.value(held))
	slow.Store(false)
	result, err := a.CutOver(w.patiently(), "p1", "p2", "")
	require.NoError(t, err)
	assert.Equal(t, w.lastPosition(), w.value("SELECT $1::bigint", result.Position))
	w.appendInTurn(1, "ada", "grace", "alan", "kurt")
	w.await("4", "SELECT count(*) FROM effects WHERE by = 'p2'")
	assert.Equal(t, w.value("SELECT count(*) FROM events"), w.value("SELECT count(*) FROM effects"))
	require.NoError(t, r.stop())
}

// If whoever cuts over dies, another continues. If nobody does, the holds end by themselves.
func TestACutOverWhoseProcessDies(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	r, slow := beside(w)
	w.awaitRunning("set", 1)
	var dead atomic.Bool
	config := w.db.Config()
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) {
		if dead.Load() {
			return false, errors.New("the process is dead")
		}
		return true, nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	dying, err := admin.New(pool, w.store, "set", admin.WithCutOverLimits(1000, 1500*time.Millisecond))
	require.NoError(t, err)
	dies := func() {
		w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints")
		slow.Store(true)
		w.appendInTurn(20, "ada", "grace", "alan", "kurt")
		dead.Store(false)
		ctx, cancel := context.WithCancel(w.patiently())
		ended := make(chan error, 1)
		go func() {
			_, err := dying.CutOver(ctx, "p1", "p2", "")
			ended <- err
		}()
		w.await("4 1", held)
		dead.Store(true)
		cancel()
		require.ErrorContains(t, await(t, ended, "the cut-over"), "stay held for up to 1.5s")
		assert.Equal(t, "4 1", w.value(held))
	}
	w.append("ada", 1)
	w.awaitHandled("p2", 1)
	w.awaitHandled("p1", 1)

	dies()
	slow.Store(false)
	w.await("0 1", held) // by themselves
	w.append("ada", 1)
	w.awaitHandled("p1", 82)
	w.awaitHandled("p2", 82)
	findings, err := w.admin("set").Verify(t.Context())
	require.NoError(t, err)
	require.Len(t, findings, 1)
	assert.Equal(t, "operation_without_request", findings[0].Kind)

	dies()
	slow.Store(false)
	_, err = w.admin("set").CutOver(w.patiently(), "p1", "p2", "")
	require.NoError(t, err)
	assert.Equal(t, "cancelled another attempt has taken over, cancelled another attempt has taken over, done ",
		w.value("SELECT state, coalesce(result ->> 'cancelled_because', '') FROM orchestrator_operations ORDER BY id"))
	w.append("ada", 1)
	w.await("163", "SELECT count(*) FROM effects")
	require.NoError(t, r.stop())
}

// A cut-over whose process has died, and whose holds have ended, disturbs no other. Another one ends its operation, and to end it once more takes nothing from that one.
func TestACutOverThatIsOverDisturbsNoOther(t *testing.T) {
	directOnly(t)
	w := withEffects(newWorld(t))
	slow := &atomic.Bool{}
	next := succeeding{acting{recorder{name: "p3", before: slowly(slow.Load, 60*time.Millisecond)}}, "p1"}
	orch := w.orchestrator("set")
	start(t, orch, oldVersion(), newVersion(), next)
	w.append("ada", 1)
	w.await("1 3", "SELECT min(position), count(*) FROM orchestrator_checkpoints")
	slow.Store(true)
	w.appendInTurn(20, "ada", "grace", "alan")
	w.awaitHandled("p1", 61)
	// as the process has left it
	w.exec(`INSERT INTO orchestrator_successions (projection, replaced, held_until) VALUES ('p2', 'p1', now() - interval '1 s')`)
	w.exec(`INSERT INTO orchestrator_operations (replica_set, kind, projection, actor, reason, state, arguments)
		SELECT 'set', 'cut-over', 'p2', 'somebody', '', 'waiting', jsonb_build_object('from', 'p1', 'to', 'p2', 'position', 1, 'key', 'died', 'until', held_until) FROM orchestrator_successions`)
	died := w.value("SELECT id FROM orchestrator_operations")

	ended := make(chan error, 1)
	go func() {
		_, err := w.admin("set").CutOver(w.patiently(), "p1", "p3", "")
		ended <- err
	}()
	w.await("p3", "SELECT projection FROM orchestrator_successions WHERE held_until > now()")
	assert.Equal(t, "cancelled", w.value("SELECT state FROM orchestrator_operations WHERE id = $1::text::bigint", died))
	w.exec("UPDATE orchestrator_operations SET state = 'waiting', finished_at = NULL WHERE id = $1::text::bigint", died) // as if the other had begun before
	id, err := strconv.ParseInt(died, 10, 64)
	require.NoError(t, err)
	require.NoError(t, w.admin("set").Cancel(t.Context(), id, ""))
	assert.Equal(t, "p3", w.value("SELECT projection FROM orchestrator_successions"))
	w.append("grace", 1)
	require.ErrorIs(t, orch.WaitFor(w.shortly(), "p1", 62), context.DeadlineExceeded, "a wait goes on while the cut-over does")
	slow.Store(false)
	require.NoError(t, await(t, ended, "the cut-over"))
	w.await("62", "SELECT count(*) FROM effects")
}
