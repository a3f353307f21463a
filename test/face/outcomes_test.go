package face

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// This file tests what operators do between an event's failure and its outcome.

// between is an error policy that has somebody act between the first failure of an event and its outcome.
func between(t *testing.T, then projection.Outcome, act func() error) orchestrator.Option {
	var once sync.Once
	return orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 1, Then: then, Classify: func(err error) projection.Class {
		once.Do(func() { assert.NoError(t, act()) })
		return projection.DefaultClass(err)
	}})
}

// A pause before the outcome of an event is not taken for the outcome, which is reported once it is committed.
func TestAPauseBeforeTheOutcomeOfAnEvent(t *testing.T) {
	for then, state := range map[projection.Outcome]string{projection.Stop: "stopped", projection.Skip: "skipped", projection.Park: "parked"} {
		t.Run(then.String(), func(t *testing.T) {
			w := newWorld(t)
			w.append("ada", 2)
			a := w.admin("set")
			var outcomes atomic.Int64
			orch := w.orchestrator("set", orchestrator.WithFailureHook(func(_ context.Context, f projection.Failure) {
				if !f.Retry {
					outcomes.Add(1)
				}
			}), between(t, then, func() error { return a.Pause(t.Context(), admin.Target{Projection: "p"}, "", time.Time{}) }))
			r := start(t, orch, recorder{name: "p", before: poisoned(errBad, 1)})
			w.logs.AwaitLine(t, "the projection is paused")
			assert.Equal(t, "1 ada retrying 1", w.value(lettersOf))
			require.NoError(t, a.Resume(t.Context(), admin.Target{Projection: "p"}, ""))
			w.await(state, "SELECT state FROM orchestrator_dead_letters WHERE global_position = 1")
			if then == projection.Skip {
				w.awaitHandled("p", 1)
				awaitMetric(t, orch, "1", `events_skipped_total{projection="p",replica_set="set"}`)
			}
			require.NoError(t, r.stop())
			assert.EqualValues(t, 1, outcomes.Load(), "it was told of the outcome so often")
		})
	}
}

// After a reset an event is handed to its handler again, though it had failed as often as it may.
func TestAResetBeforeTheOutcomeOfAnEvent(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	a := w.admin("set")
	var failed atomic.Bool
	r := start(t, w.orchestrator("set", between(t, projection.Skip, func() error { return a.ResetCheckpoints(t.Context(), "p", admin.Start(), "") })),
		recorder{name: "p", before: func(_ context.Context, e es.PersistedEvent) error {
			if e.GlobalPosition == 1 && failed.CompareAndSwap(false, true) {
				return errBad
			}
			return nil
		}})
	w.awaitHandled("p", 3)
	require.NoError(t, r.stop())
}

// A reset begins to count the attempts at an event again.
func TestAResetForgetsAttempts(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 3)
	var calls atomic.Int64
	r := start(t, w.orchestrator("set", orchestrator.WithErrorPolicy(projection.ErrorPolicy{Attempts: 3, First: time.Millisecond, Max: time.Millisecond, Then: projection.Skip})),
		recorder{name: "p", before: func(_ context.Context, e es.PersistedEvent) error {
			if e.GlobalPosition != 2 {
				return nil
			}
			switch n := calls.Add(1); {
			case n == 2:
				return projection.RetryAfter(time.Hour, errBad)
			case n <= 4:
				return errBad
			}
			return nil
		}})
	w.await("2", "SELECT attempts FROM orchestrator_dead_letters")
	w.await("1", "SELECT position FROM orchestrator_checkpoints")
	w.exec("DELETE FROM handled")
	require.NoError(t, w.admin("set").ResetCheckpoints(t.Context(), "p", admin.Start(), ""))
	w.awaitHandled("p", 3)
	assert.EqualValues(t, 5, calls.Load())
	require.NoError(t, r.stop())
}

// While a batch waits for as long as its handler has asked for, what people ask for is done.
func TestABatchThatIsRetriedLaterHoldsUpNobody(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	var repaired atomic.Bool
	r := start(t, w.orchestrator("set", parkAtOnce), inBatches{recorder{name: "p", before: func(_ context.Context, e es.PersistedEvent) error {
		switch {
		case e.GlobalPosition == 1 && !repaired.Load():
			return errBad
		case e.AggregateID == "grace":
			return projection.RetryAfter(time.Hour, errBad)
		}
		return nil
	}}})
	w.await("1", "SELECT letters FROM orchestrator_parked_aggregates")
	repaired.Store(true)
	w.append("alan", 30) // so that batches grow again
	w.awaitHandled("p", 30)
	w.append("grace", 8)
	w.logs.AwaitLine(t, "a batch failed, trying a smaller one")
	result, err := w.admin("set").Retry(w.patiently(), admin.Filter{}, "")
	require.NoError(t, err)
	assert.Equal(t, 1, result.Succeeded)
	assert.Equal(t, "31", w.value("SELECT count(*) FROM handled"))
	require.NoError(t, r.stop())
}
