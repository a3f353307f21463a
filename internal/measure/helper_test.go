package measure_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

// newRegistry returns metrics on a registry of their own. It is a pedantic one,
// which finds metrics that are not as they were described.
func newRegistry(t testing.TB) (*prometheus.Registry, *measure.Metrics) {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	m, err := measure.New(reg)
	require.NoError(t, err)
	return reg, m
}

// recordEverything calls every method that records.
func recordEverything(r *measure.ReplicaSet) {
	r.WorkerStates(map[string]int{"running": 2})
	r.Leader(true)
	r.Drained(true)
	r.Generation(1)
	r.GenerationChanged("joined")
	r.Partitions(1)
	r.Coordination(measure.PhaseStop, time.Millisecond)
	r.Paused(time.Second)
	r.Heartbeat(time.Millisecond, true)
	r.LeaseExpired()
	r.BackendTerminated()
	r.EventsHandled("users", 1)
	r.HandlerError("users", measure.KindError)
	r.Batch("users", 1, time.Millisecond, "")
	r.Fenced()
	r.Position("users", "0/1", 1)
	r.Lag("users", "0/1", 1)
	r.Retrying("users", "0/1", true)
	r.Stopped("users", "0/1", true)
	r.Held("users", "0/1", true)
	r.Skipped("users")
	r.EventsParked("users", 1)
	r.HookDropped()
	r.Parked("users", "0/1", 1, 2)
	r.Failure("users", "error", "retry")
	r.Read(measure.FromWindow)
	r.Waited("handled", time.Second)
	r.WakeUp(measure.CauseTimer)
	r.OwnState("running")
	r.ShowWorker(measure.Worker{
		ID: "7", Name: "one", Version: "v2", Go: "go1",
		LagSince: func(position int64) time.Duration { return time.Duration(position) * time.Second },
		Loops:    func() []measure.LoopAge { return []measure.LoopAge{{Name: "reader", Age: time.Second}} },
		Waits:    func() int { return 3 },
	})
	r.Survey(&measure.Survey{Shown: time.Hour, Unowned: map[string]int{"users": 5}, Requests: map[string]int{"retry": 1}})
	r.Horizon(1, 2, time.Second, 1)
	r.HorizonFaults(nil)
	r.DatabaseError("heartbeat")
	r.SessionConnected(true)
	r.SessionReconnected()
	r.Notification("generation")
	r.NotificationProof(true)
	r.NotificationFailed()
	r.ActorMessage("processor", "RunBatch", time.Microsecond)
	r.ActorStarted("processor")
	r.ActorRespawned("processor")
	r.ActorPanicked("processor")
	r.ActorUnknownMessage("processor")
	r.ActorUndelivered()
	r.RegisterMailbox("processor", "p0.g1.1", func() int { return 1 })
}

// sample is a line of the text format: the metric's name without the prefix, its
// labels in braces, and its value.
type sample struct{ name, labels, value string }

// samples are all that g gathers.
func samples(t testing.TB, g prometheus.Gatherer) []sample {
	t.Helper()
	rsp := httptest.NewRecorder()
	metrics.Handler(g).ServeHTTP(rsp, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	require.Equal(t, http.StatusOK, rsp.Code, rsp.Body)
	var all []sample
	for line := range strings.Lines(rsp.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, ok := strings.Cut(line, "{")
		labels, value, found := strings.Cut(rest, "} ")
		require.True(t, ok && found, "a sample without labels: %s", line)
		all = append(all, sample{strings.TrimPrefix(name, measure.Prefix), "{" + labels + "}", strings.TrimSpace(value)})
	}
	return all
}

// gathered are the series of the named metrics, as name{labels}=value, and
// name{labels}=count/sum for a histogram.
func gathered(t testing.TB, g prometheus.Gatherer, names ...string) []string {
	t.Helper()
	var series []string
	sums := make(map[string]string)
	for _, s := range samples(t, g) {
		base, isSum := strings.CutSuffix(s.name, "_sum")
		if isSum {
			sums[base+s.labels] = s.value
			continue
		}
		if base, isCount := strings.CutSuffix(s.name, "_count"); isCount {
			s.name, s.value = base, s.value+"/"+sums[base+s.labels]
		}
		if slices.Contains(names, s.name) {
			series = append(series, s.name+s.labels+"="+s.value)
		}
	}
	return series
}

// requireSeries makes sure that the named metrics have just the expected series,
// which are separated by white space.
func requireSeries(t testing.TB, g prometheus.Gatherer, want string, names ...string) {
	t.Helper()
	require.ElementsMatch(t, strings.Fields(want), gathered(t, g, names...))
}

// labelled counts the samples of a replica set.
func labelled(t testing.TB, g prometheus.Gatherer, replicaSet string) int {
	t.Helper()
	n := 0
	for _, s := range samples(t, g) {
		if strings.Contains(s.labels, `replica_set="`+replicaSet+`"`) {
			n++
		}
	}
	return n
}
