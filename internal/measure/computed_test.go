package measure_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

func TestWhatIsComputedAtAScrape(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	one, two := m.ReplicaSet("a"), m.ReplicaSet("a")
	since := func(position int64) time.Duration { return max(0, 10*time.Second-time.Duration(position)*time.Second) }
	one.ShowWorker(measure.Worker{
		ID: "1", Name: "one", Version: "v2.0.0", Go: "go1.26", LagSince: since, Waits: func() int { return 2 },
		Loops: func() []measure.LoopAge {
			return []measure.LoopAge{{Name: "processor users 0/2", Age: time.Second}, {Name: "processor users 1/2", Age: 3 * time.Second, Stuck: true}, {Name: "horizon"}}
		},
	})
	two.ShowWorker(measure.Worker{ID: "2", Name: "two", Version: "v2.0.0", Go: "go1.26"})
	one.Position("users", "0/2", 4)
	two.Position("users", "1/2", 10)
	two.Survey(&measure.Survey{Shown: time.Minute, Unowned: map[string]int{"users": 0, "mails": 65536}, Requests: map[string]int{"retry": 2}})
	requireSeries(t, reg, `
		build_info{go="go1.26",replica_set="a",version="v2.0.0"}=1
		lag_seconds{partition="0/2",projection="users",replica_set="a"}=6
		lag_seconds{partition="1/2",projection="users",replica_set="a"}=0
		loop_round_age_seconds{loop="horizon",replica_set="a"}=0
		loop_round_age_seconds{loop="processor",replica_set="a"}=3
		loop_stuck{loop="horizon",replica_set="a"}=0
		loop_stuck{loop="processor",replica_set="a"}=1
		requests_waiting{replica_set="a",request="reset"}=0
		requests_waiting{replica_set="a",request="retry"}=2
		requests_waiting{replica_set="a",request="try"}=0
		unowned_slots{projection="mails",replica_set="a"}=65536
		unowned_slots{projection="users",replica_set="a"}=0
		waits{replica_set="a"}=2
		worker_info{replica_set="a",worker="1",worker_name="one"}=1
		worker_info{replica_set="a",worker="2",worker_name="two"}=1
	`, strings.Fields("lag_seconds worker_info build_info loop_round_age_seconds loop_stuck waits unowned_slots requests_waiting")...)
	two.Survey(nil)
	one.Forget()
	two.ForgetPartition("users", "0/2")
	requireSeries(t, reg, `
		worker_info{replica_set="a",worker="2",worker_name="two"}=1
	`, strings.Fields("worker_info unowned_slots requests_waiting lag_seconds")...)
	two.Forget()
	require.Empty(t, labelled(t, reg, "a"))
}

// What the leader could not look up for a while is not shown as if it were so still.
func TestASurveyThatIsOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg, m := newRegistry(t)
		r := m.ReplicaSet("a")
		r.ShowWorker(measure.Worker{ID: "1", Name: "one"})
		names := strings.Fields("unowned_slots requests_waiting")
		shown := `
			requests_waiting{replica_set="a",request="reset"}=0
			requests_waiting{replica_set="a",request="retry"}=1
			requests_waiting{replica_set="a",request="try"}=0
			unowned_slots{projection="users",replica_set="a"}=7
		`
		survey := &measure.Survey{Shown: 30 * time.Second, Unowned: map[string]int{"users": 7}, Requests: map[string]int{"retry": 1}}
		r.Survey(survey)
		<-time.After(30 * time.Second)
		requireSeries(t, reg, shown, names...)
		<-time.After(time.Nanosecond)
		requireSeries(t, reg, "", names...)
		r.Survey(survey)
		requireSeries(t, reg, shown, names...)
		r.Forget()
	})
}

func TestEarlierNames(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	r.ShowWorker(measure.Worker{ID: "1", Name: "one", EarlierNames: true})
	r.OwnState("running")
	r.Generation(7)
	r.WorkerStates(map[string]int{"running": 2, "pending": 1, "stopping": 1, "dead": 5})
	r.WorkersLost(3)
	r.GenerationChanged("lost")
	r.GenerationChanged("joined")
	r.EventsHandled("users", 11)
	r.HandlerError("users", measure.KindError)
	r.HandlerError("users", measure.KindPanic)
	r.HandlerError("users", measure.KindTimeout)
	requireSeries(t, reg, `
		active_workers{replica_set="a"}=3
		events_processed_total{projection="users",replica_set="a"}=11
		generations_total{replica_set="a"}=7
		projection_errors_total{projection="users",replica_set="a"}=3
		reconfiguration_total{replica_set="a"}=2
		stale_workers_cleaned_total{replica_set="a"}=3
		worker_state{replica_set="a",state="dead",worker_id="1"}=0
		worker_state{replica_set="a",state="pending",worker_id="1"}=0
		worker_state{replica_set="a",state="ready",worker_id="1"}=0
		worker_state{replica_set="a",state="running",worker_id="1"}=1
		worker_state{replica_set="a",state="stopped",worker_id="1"}=0
		worker_state{replica_set="a",state="stopping",worker_id="1"}=0
		workers_registered_total{replica_set="a"}=1
	`, strings.Fields("generations_total workers_registered_total events_processed_total projection_errors_total active_workers worker_state reconfiguration_total stale_workers_cleaned_total")...)
}
