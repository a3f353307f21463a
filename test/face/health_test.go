package face

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
)

// asked is what a health handler answers.
func asked(t *testing.T, handler http.Handler, target string) (status int, body string) {
	t.Helper()
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody))
	assert.Equal(t, "no-store", answer.Header().Get("Cache-Control"))
	return answer.Code, answer.Body.String()
}

// requireHealth requires what both handlers answer.
func requireHealth(t *testing.T, orch *orchestrator.Orchestrator, live, ready string) {
	t.Helper()
	codes := map[bool]int{true: http.StatusOK, false: http.StatusServiceUnavailable}
	code, body := asked(t, orch.LiveHandler(), "/live")
	require.Equal(t, live+"\n", body)
	require.Equal(t, codes[live == "live"], code)
	code, body = asked(t, orch.ReadyHandler(), "/ready")
	require.Equal(t, ready+"\n", body)
	require.Equal(t, codes[ready == "ready"], code)
}

func awaitReady(t *testing.T, orch *orchestrator.Orchestrator) {
	t.Helper()
	eventually(t, func() bool { return orch.Health().Ready }, func() string { return "ready: " + orch.Health().NotReady })
}

func TestHealthOfAWorker(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set", orchestrator.WithWorkerName("one"))
	requireHealth(t, orch, "live", "Run has not been called")

	failing := recorder{name: "fails", before: func(context.Context, es.PersistedEvent) error { return errors.New("as the test wants it") }}
	r := start(t, orch, recorder{name: "users"}, failing)
	w.append("ada", 3)
	awaitReady(t, orch)
	w.awaitHandled("users", 3)
	require.NoError(t, w.admin("set").Pause(w.patiently(), admin.Target{Projection: "users"}, "a test", time.Time{}))
	w.append("ada", 3)
	requireHealth(t, orch, "live", "ready") // an event that fails, a pause and a lag are no fault of the worker

	code, body := asked(t, orch.ReadyHandler(), "/ready?verbose")
	assert.Equal(t, http.StatusOK, code)
	var h orchestrator.Health
	require.NoError(t, json.Unmarshal([]byte(body), &h))
	assert.Equal(t, []any{true, true, "", "running", "set", "one", "running", int64(1)},
		[]any{h.Live, h.Ready, h.NotReady, h.Phase, h.ReplicaSet, h.WorkerName, h.State, h.Generation})
	assert.Equal(t, w.value("SELECT worker_id::text FROM orchestrator_workers"), h.Worker)
	loops := map[string]bool{}
	for _, l := range h.Loops {
		loops[l.Name] = l.OK && !l.LastRound.IsZero()
	}
	for _, name := range []string{"supervisor", "coordinator", "heartbeat", "horizon", "reader", "partition 0/1", "processor users 0/1", "processor fails 0/1"} {
		assert.True(t, loops[name], name)
	}

	require.NoError(t, r.stop())
	requireHealth(t, orch, "live", "Run has returned")
	assert.Empty(t, orch.Health().Loops)
}

// Run returns an error where only a person, or a new process, can help.
func TestAWorkerWhoseRunHasFailedIsNotLive(t *testing.T) {
	directOnly(t)
	w := newEmptyWorld(t)
	orch := w.orchestrator("set")
	require.ErrorIs(t, orch.Run(t.Context(), []projection.Projection{recorder{name: "users"}}), orchestrator.ErrMigrationsMissing)
	requireHealth(t, orch, "Run has returned an error", "Run has returned an error")
	assert.Equal(t, "failed", orch.Health().Phase)
}

// While the generation changes, again and again, the worker stays ready, though it handles nothing.
func TestAWorkerStaysReadyWhileTheGenerationChanges(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	start(t, orch, recorder{name: "users"})
	awaitReady(t, orch)
	done, watched := make(chan struct{}), make(chan []string, 1)
	go func() {
		var states []string
		defer func() { watched <- states }()
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-done:
				return
			case <-look.C:
			}
			h := orch.Health()
			if !h.Ready {
				states = append(states, "not ready: "+h.NotReady)
			} else if h.State != "running" {
				states = append(states, h.State)
			}
		}
	}()
	second := start(t, w.orchestrator("set"), recorder{name: "users"})
	w.awaitRunning("set", 2)
	require.NoError(t, second.stop())
	w.awaitRunning("set", 1)
	close(done)
	for _, state := range await(t, watched, "what was seen") {
		assert.Equal(t, "ready", state, "it waits for the generation")
	}
}

func TestHealthHandlersUnderstandGETOnly(t *testing.T) {
	directOnly(t)
	orch := newEmptyWorld(t).orchestrator("set")
	answer := httptest.NewRecorder()
	orch.LiveHandler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/live", http.NoBody))
	assert.Equal(t, http.StatusMethodNotAllowed, answer.Code)
	assert.Equal(t, "GET, HEAD", answer.Header().Get("Allow"))
}
