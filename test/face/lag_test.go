package face

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/metrics"
)

// seconds is the value of a series in seconds, and -1 if there is none.
func seconds(t *testing.T, orch *orchestrator.Orchestrator, series string) float64 {
	t.Helper()
	value, err := strconv.ParseFloat(metric(t, orch, series), 64)
	if err != nil {
		return -1
	}
	return value
}

// The lag in seconds is that of the oldest event, whatever the clients' clocks say, also for a worker that is new.
func TestLagInSeconds(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set")
	const users = `lag_seconds{partition="0/1",projection="users",replica_set="set"}`
	entered, free := make(chan struct{}, 100), make(chan struct{})
	first := start(t, orch, recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
		entered <- struct{}{}
		<-free
		return nil
	}})
	w.awaitRunning("set", 1)
	assert.LessOrEqual(t, seconds(t, orch, users), 0.0, "there are no events")
	began := time.Now()
	w.append("ada", 1)
	await(t, entered, "the handler")
	w.append("grace", 1)
	eventually(t, func() bool { return seconds(t, orch, users) > 0.2 }, func() string { return "a lag" })
	assert.LessOrEqual(t, seconds(t, orch, users), time.Since(began).Seconds())
	w.await("1", "SELECT count(*) FROM orchestrator_samples WHERE replica_set = 'set'") // the leader's
	close(free)
	w.awaitHandled("users", 2)
	eventually(t, func() bool { return seconds(t, orch, users) == 0 }, func() string { return "the lag ends" })
	require.NoError(t, first.stop())

	w.exec("UPDATE orchestrator_samples SET position = 100, sampled_at = now() - '1 hour'::interval")
	w.exec("UPDATE orchestrator_checkpoints SET position = 0")
	w.exec("DELETE FROM handled")
	w.exec("SELECT setval('events_global_position_seq', 200)")
	again, over := w.orchestrator("set"), make(chan struct{})
	start(t, again, recorder{name: "users", before: func(context.Context, es.PersistedEvent) error {
		<-over
		return nil
	}})
	t.Cleanup(func() { close(over) })
	eventually(t, func() bool { return seconds(t, again, users) > 3500 }, func() string { return "the samples of the worker before" })
}

// What a newcomer with a Prometheus wants to know: who works, who owns what, what nobody owns, what fails and how.
func TestMetricsSayWhoOwnsWhat(t *testing.T) {
	w := newWorld(t)
	orch := w.orchestrator("set", orchestrator.WithWorkerName("one"), orchestrator.WithEarlierMetricNames())
	w.exec("INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('nobodys', 0, 65536, 'set', 'public.events')")
	r := start(t, orch, recorder{name: "users", before: func(_ context.Context, e es.PersistedEvent) error {
		if e.AggregateVersion == 2 {
			return errors.New("as the test wants it")
		}
		return nil
	}})
	w.awaitRunning("set", 1)
	w.append("ada", 1)
	w.awaitHandled("users", 1)
	require.NoError(t, orch.WaitFor(w.patiently(), "users", 1))
	awaitMetric(t, orch, "65536", `unowned_slots{projection="nobodys",replica_set="set"}`)
	awaitMetric(t, orch, "0", `unowned_slots{projection="users",replica_set="set"}`)
	awaitMetric(t, orch, "0", `requests_waiting{replica_set="set",request="retry"}`)
	id := w.value("SELECT worker_id::text FROM orchestrator_workers")
	awaitMetric(t, orch, "1", `worker_info{replica_set="set",worker="`+id+`",worker_name="one"}`)
	awaitMetric(t, orch, "1", `waits_ended_total{replica_set="set",result="handled"}`)
	awaitMetric(t, orch, "0", `loop_stuck{loop="coordinator",replica_set="set"}`)
	w.append("ada", 1)
	eventually(t, func() bool {
		return seconds(t, orch, `failures_total{class="error",outcome="retry",projection="users",replica_set="set"}`) > 0
	}, func() string { return "the failure" })
	assert.Positive(t, seconds(t, orch, `wake_ups_total{cause="timer",replica_set="set"}`))
	assert.Positive(t, seconds(t, orch, `reads_total{from="window",replica_set="set"}`))
	awaitMetric(t, orch, "1", `events_processed_total{projection="users",replica_set="set"}`)
	awaitMetric(t, orch, "1", `worker_state{replica_set="set",state="running",worker_id="`+id+`"}`)
	require.NoError(t, r.stop())
	assert.NotContains(t, scrape(t, orch.MetricsHandler()), `replica_set="set"`, "the series go with the worker")
}

// An autoscaler must not start workers for what more workers would not do sooner.
func TestNothingThatStandsStillScalesOut(t *testing.T) {
	w := newWorld(t)
	lag := func() string {
		return w.value("SELECT projection, lag FROM orchestrator_scalable_lag WHERE replica_set = 'set' ORDER BY projection")
	}
	failing := recorder{name: "fails", before: func(context.Context, es.PersistedEvent) error { return errors.New("as the test wants it") }}
	r := start(t, w.orchestrator("set"), recorder{name: "users"}, failing)
	w.awaitRunning("set", 1)
	require.NoError(t, w.admin("set").Pause(w.patiently(), admin.Target{Projection: "users"}, "a test", time.Time{}))
	w.append("ada", 5)
	w.await("retrying", "SELECT state FROM orchestrator_dead_letters")
	assert.Equal(t, "fails 0, users 0", lag(), "one waits for an event that fails, the other is paused")
	require.NoError(t, r.stop())

	require.NoError(t, w.admin("set").Resume(w.patiently(), admin.Target{Projection: "users"}, "a test"))
	assert.Equal(t, "fails 0, users 5", lag(), "without a worker nobody stores a horizon, and the autoscaler starts the first")
	w.exec("UPDATE orchestrator_dead_letters SET state = 'handled'")
	assert.Equal(t, "fails 5, users 5", lag())
	w.exec("UPDATE orchestrator_checkpoints SET stopped_at = position + 1 WHERE projection = 'fails'")
	assert.Equal(t, "fails 0, users 5", lag())
	w.exec("UPDATE orchestrator_checkpoints SET hold_at = 3 WHERE projection = 'users'")
	assert.Equal(t, "fails 0, users 3", lag(), "up to a hold there is work")
	w.exec("UPDATE orchestrator_checkpoints SET hold_until = now() - '1 s'::interval WHERE projection = 'users'")
	assert.Equal(t, "fails 0, users 5", lag(), "the hold has ended")
	w.exec("UPDATE orchestrator_checkpoints SET position = 1000, hold_at = NULL, hold_until = NULL WHERE projection = 'users'")
	assert.Equal(t, "fails 0, users 0", lag(), "never below 0")
	w.exec("DELETE FROM orchestrator_horizons")
	assert.Equal(t, "fails 0, users 0", lag(), "what is not known is no reason")
}

// The examples ask what there is.
func TestTheExampleOfTheAutoscalerAsksForALag(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	text, err := os.ReadFile("../../deploy/keda/postgresql.yaml")
	require.NoError(t, err)
	match := regexp.MustCompile(`(?m)^ +query: "(.*)"$`).FindSubmatch(text)
	require.NotNil(t, match)
	assert.Equal(t, "0", w.value(string(match[1])))
	text, err = os.ReadFile("../../deploy/keda/prometheus.yaml")
	require.NoError(t, err)
	named := regexp.MustCompile(metrics.Prefix+`\w+`).FindAllString(string(text), -1)
	assert.Len(t, named, 4)
	assert.Subset(t, metrics.Names(), named)
}

func TestNativeHistogramsStandBesideTheClassicOnes(t *testing.T) {
	directOnly(t)
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	start(t, w.orchestrator("set", orchestrator.WithMetricsRegisterer(registry)), recorder{name: "users"})
	w.append("ada", 1)
	w.awaitHandled("users", 1)
	eventually(t, func() bool {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == "pupsourcing_orchestrator_batch_duration_seconds" {
				h := f.GetMetric()[0].GetHistogram()
				return h.GetSampleCount() > 0 && len(h.GetBucket()) == 5 && len(h.GetPositiveSpan()) > 0
			}
		}
		return false
	}, func() string { return "both kinds of buckets" })
}
