package face

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// mostSeries is how many series a worker with five projections may have.
const mostSeries = 360

// TestSeriesOfAWorker counts the series of a worker that has handled events, failed, and seen others come and go.
func TestSeriesOfAWorker(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	names := []string{"one", "two", "three", "four", "five"}
	first := start(t, orch, recorder{name: names[0]}, recorder{name: names[1]}, recorder{name: names[2]}, recorder{name: names[3]}, recorder{name: names[4]})
	w.awaitRunning("set", 1)
	w.append("ada", 20)
	for _, name := range names {
		w.awaitHandled(name, 20)
	}
	second := start(t, w.orchestrator("set"), recorder{name: names[0]})
	w.awaitRunning("set", 2)
	require.NoError(t, second.stop())
	w.awaitRunning("set", 1)

	text := ""
	eventually(t, func() bool { // the worker says that it runs, and then starts what it runs
		response := httptest.NewRecorder()
		orch.MetricsHandler().ServeHTTP(response, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		text = response.Body.String()
		return strings.Contains(text, `retrying{partition="0/1",projection="five",replica_set="set"} 0`)
	}, func() string { return text })
	series := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	assert.LessOrEqual(t, series, mostSeries)
	t.Logf("%d series", series)
	for _, shown := range []string{
		`actor_messages_total{actor="processor",message="HorizonAdvanced"`, `actor_message_seconds_total{actor="processor",`,
		`actor_mailbox_length{actor="processor"`, `generation_changes_total{cause="lost",replica_set="set"} 0`,
		`workers_lost_total{replica_set="set"} 0`, `retrying{partition="0/1",projection="five",replica_set="set"} 0`,
	} {
		assert.Contains(t, text, shown)
	}
	require.NoError(t, first.stop())
}
