package face

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// A paused projection handles nothing, whoever restarts and however many workers there are. Others go on. Resumed, it misses nothing.
func TestAPauseOutlivesRestartsAndPartitions(t *testing.T) {
	w := newWorld(t)
	w.appendInTurn(1, "ada", "grace", "alan")
	orch := w.orchestrator("set")
	r := start(t, orch, recorder{name: "p"}, recorder{name: "q"})
	w.awaitHandled("p", 3)
	a := w.admin("set")
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "the mail server is down", time.Time{}))
	w.appendInTurn(1, "ada", "grace", "alan")
	w.awaitHandled("q", 6)
	awaitMetric(t, orch, "1", `held{partition="0/1",projection="p",replica_set="set"}`)
	w.logs.AwaitLine(t, "the projection is paused")
	require.NoError(t, r.stop())
	for partitions := 3; partitions > 1; partitions-- {
		r = start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(partitions)), recorder{name: "p"}, recorder{name: "q"})
		w.appendInTurn(1, "ada", "grace", "alan")
		w.await(w.lastPosition(), "SELECT min(position) FROM orchestrator_checkpoints WHERE projection = 'q'")
		assert.Equal(t, fmt.Sprint("3 ", partitions), w.value("SELECT DISTINCT hold_at, count(*) OVER () FROM orchestrator_checkpoints WHERE projection = 'p'"))
		if partitions > 2 {
			require.NoError(t, r.stop())
		}
	}
	assert.Equal(t, "3", w.value("SELECT count(*) FROM handled WHERE projection = 'p'"))
	require.NoError(t, a.Resume(t.Context(), admin.Target{}, "it is up again"))
	w.awaitHandled("p", 12)
	w.requireOrder("p")
	require.NoError(t, r.stop())
	assert.Equal(t, "pause p anna the mail server is down done, resume  anna it is up again done",
		w.value("SELECT kind, projection, actor, reason, state FROM orchestrator_operations ORDER BY id"))
}

// A pause ends by itself at its time, though nothing is appended.
func TestAPauseEnds(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	w.append("ada", 1)
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), recorder{name: "p"})
	w.awaitHandled("p", 1)
	until := time.Now().Add(1500 * time.Millisecond)
	require.NoError(t, w.admin("set").Pause(t.Context(), admin.Target{Projection: "p"}, "", until))
	w.append("ada", 1)
	require.NoError(t, r.stop())
	r = start(t, w.orchestrator("set"), recorder{name: "p"}) // another number of partitions keeps the end
	assert.Equal(t, "1", w.value("SELECT count(*) FROM handled WHERE position <= 1 OR now() > $1", until))
	w.awaitHandled("p", 2)
	assert.Equal(t, "true", w.value("SELECT now() > $1", until))
	require.NoError(t, r.stop())
}

// When Pause has returned, nothing commits, whoever joins and leaves meanwhile.
func TestNothingCommitsAfterPause(t *testing.T) {
	w := newWorld(t)
	ids := make([]string, 20)
	for i := range ids {
		ids[i] = fmt.Sprint("user ", i)
	}
	r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(2)), recorder{name: "p"})
	total := 0
	a := w.admin("set")
	w.append("ada", 1)
	w.awaitHandled("p", 1)
	for range 6 {
		other := start(t, w.orchestrator("set"), recorder{name: "p"})
		w.appendInTurn(3, ids...)
		total += 3 * len(ids)
		require.NoError(t, a.Pause(t.Context(), admin.Target{}, "", time.Time{}))
		before := w.value("SELECT count(*) FROM handled")
		w.append("ada", 1)
		total++
		require.NoError(t, other.stop())
		w.awaitRunning("set", 1)
		assert.Equal(t, before, w.value("SELECT count(*) FROM handled"))
		assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_checkpoints WHERE position > hold_at OR hold_at IS NULL"))
		require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
	}
	w.awaitHandled("p", total+1)
	w.requireOrder("p")
	require.NoError(t, r.stop())
}

// Pause waits for handlers that run. If one hangs it says which, and nothing is paused.
func TestPauseNamesWhatItWaitsFor(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	entered, release := make(chan struct{}), make(chan struct{})
	r := start(t, w.orchestrator("set", orchestrator.WithWorkerName("w7")), recorder{name: "p", before: func(ctx context.Context, _ es.PersistedEvent) error {
		close(entered)
		<-release
		return nil
	}})
	await(t, entered, "the handler to be called")
	err := w.givesUp("true", waitsForLock, func(ctx context.Context) error {
		return w.admin("set").Pause(ctx, admin.Target{Projection: "p"}, "", time.Time{})
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, `projection "p" in partition 0/1 on worker "w7"`)
	assert.Equal(t, "0 0", w.value("SELECT (SELECT count(*) FROM orchestrator_checkpoints WHERE hold_at IS NOT NULL), (SELECT count(*) FROM orchestrator_operations)"))
	close(release)
	w.awaitHandled("p", 1)
	require.NoError(t, r.stop())
}

// Resume ends a stop too, and what was asked for while the projection was paused is done afterwards.
func TestResumeEndsStopsAndLetsRequestsBeServed(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 2)
	broken := &gate{position: 1, fail: func() error { return errBad }}
	stop := orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: projection.Stop})
	r := start(t, w.orchestrator("set", stop), recorder{name: "p", before: broken.check})
	w.await("1", "SELECT stopped_at FROM orchestrator_checkpoints")
	broken.opened.Store(true)
	a := w.admin("set")
	require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
	w.awaitHandled("p", 2)
	require.NoError(t, r.stop())

	w.append("grace", 2)
	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p", before: poisoned(errBad, 3)})
	w.await("2", "SELECT letters FROM orchestrator_parked_aggregates")
	require.NoError(t, r.stop())
	require.NoError(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}))
	r = start(t, w.orchestrator("set", parkAtOnce), recorder{name: "p"}, recorder{name: "q"})
	_, err := w.asks(a, admin.Filter{})
	require.ErrorIs(t, err, context.Canceled)
	w.append("alan", 1)
	w.awaitHandled("q", 5)
	assert.Equal(t, "waiting", w.value("SELECT state FROM orchestrator_requests"))
	require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
	w.await("succeeded", "SELECT state FROM orchestrator_requests")
	w.awaitHandled("p", 5)
	require.NoError(t, r.stop())
}

// Nothing beyond a hold is handled, and everything up to it.
func TestAHoldAhead(t *testing.T) {
	directOnly(t)
	for kind, of := range both {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			r := start(t, w.orchestrator("set", orchestrator.WithPartitionsPerWorker(3)), of(recorder{name: "p"}))
			w.awaitRunning("set", 1)
			w.exec("UPDATE orchestrator_checkpoints SET hold_at = 10 + partition_key, revision = revision + 1")
			w.appendInTurn(10, "ada", "grace", "alan", "kurt")
			w.await("10 11 12", "SELECT string_agg(position::text, ' ' ORDER BY position) FROM orchestrator_checkpoints")
			own := w.value(`SELECT count(*) FROM events e JOIN orchestrator_checkpoints c ON e.global_position <= c.hold_at
				AND (hashtextextended(e.aggregate_id, 0) & 65535) >= c.slot_from AND (hashtextextended(e.aggregate_id, 0) & 65535) < c.slot_to`)
			assert.Equal(t, own, w.value("SELECT count(*) FROM handled"))
			require.NoError(t, w.admin("set").Resume(t.Context(), admin.Target{}, ""))
			w.awaitHandled("p", 40)
			w.requireOrder("p")
			require.NoError(t, r.stop())
		})
	}
}

func TestPauseRefusesWhatItCannotDo(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	require.ErrorContains(t, a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}), `pausing projection "p" of replica set "set": it has no checkpoints`)
	require.ErrorContains(t, a.Resume(t.Context(), admin.Target{}, ""), "it has no checkpoints")
	require.ErrorContains(t, a.Pause(t.Context(), admin.Target{}, "", time.Now().Add(-time.Second)), "until must be in the future")
	require.ErrorContains(t, a.Pause(t.Context(), admin.Target{Projection: "\x00"}, "", time.Time{}), "Target.Projection must not contain NUL")
	assert.Equal(t, "0", w.value("SELECT count(*) FROM orchestrator_operations"))
}

// A time that cannot be stored is refused, and not taken for another.
func TestAPauseUntilWhenNobodyCanRead(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	a := w.admin("set")
	require.ErrorContains(t, a.Pause(t.Context(), admin.Target{}, "", time.Date(35680317, 1, 1, 0, 0, 0, 0, time.UTC)), "until must be before the year 10000")
	require.ErrorContains(t, a.ResetCheckpoints(t.Context(), "p", admin.Time(time.Date(35680317, 1, 1, 0, 0, 0, 0, time.UTC)), ""), "the point must be a time between the years 0 and 9999")
}
