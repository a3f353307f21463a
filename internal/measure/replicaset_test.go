package measure_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

func TestWhatMethodsRecord(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		record  func(r *measure.ReplicaSet)
		metrics string
		want    string
	}{
		{"every state is shown", func(r *measure.ReplicaSet) {
			r.WorkerStates(map[string]int{"dead": 9, "pending": 1})
			r.WorkerStates(map[string]int{"running": 2, "dead": 1, "unheard of": 4})
		}, "workers", `
			workers{replica_set="a",state="pending"}=0 workers{replica_set="a",state="ready"}=0
			workers{replica_set="a",state="running"}=2 workers{replica_set="a",state="stopping"}=0
			workers{replica_set="a",state="stopped"}=0 workers{replica_set="a",state="dead"}=1`},
		{"no worker is lost", func(*measure.ReplicaSet) {}, "workers_lost_total", `workers_lost_total{replica_set="a"}=0`},
		{
			"workers are lost", func(r *measure.ReplicaSet) { r.WorkersLost(2); r.WorkersLost(0); r.WorkersLost(-1); r.WorkersLost(1) },
			"workers_lost_total", `workers_lost_total{replica_set="a"}=3`,
		},
		{"leadership is lost", func(r *measure.ReplicaSet) { r.Leader(true); r.Leader(false) }, "leader", `leader{replica_set="a"}=0`},
		{"a worker is undrained", func(r *measure.ReplicaSet) { r.Drained(true); r.Drained(false) }, "drained", `drained{replica_set="a"}=0`},
		{"changes by cause", func(r *measure.ReplicaSet) {
			r.GenerationChanged("joined")
			r.GenerationChanged("lost")
			r.GenerationChanged("joined")
		}, "generation_changes_total", `
			generation_changes_total{cause="joined",replica_set="a"}=2 generation_changes_total{cause="lost",replica_set="a"}=1
			generation_changes_total{cause="first",replica_set="a"}=0 generation_changes_total{cause="left",replica_set="a"}=0
			generation_changes_total{cause="changed",replica_set="a"}=0 generation_changes_total{cause="inconsistent",replica_set="a"}=0
			generation_changes_total{cause="abandoned",replica_set="a"}=0 generation_changes_total{cause="drained",replica_set="a"}=0`},
		{"partitions", func(r *measure.ReplicaSet) { r.Partitions(2) }, "partitions", `partitions{replica_set="a"}=2`},
		{"phases", func(r *measure.ReplicaSet) {
			r.Coordination(measure.PhaseStop, 250*time.Millisecond)
			r.Coordination(measure.PhaseStop, 250*time.Millisecond)
			r.Coordination(measure.PhaseTotal, 2*time.Second)
		}, "coordination_duration_seconds", `
			coordination_duration_seconds{phase="stop",replica_set="a"}=2/0.5
			coordination_duration_seconds{phase="prepare",replica_set="a"}=0/0 coordination_duration_seconds{phase="activate",replica_set="a"}=0/0
			coordination_duration_seconds{phase="start",replica_set="a"}=0/0
			coordination_duration_seconds{phase="total",replica_set="a"}=1/2`},
		{"pauses add up", func(r *measure.ReplicaSet) {
			r.Paused(time.Second)
			r.Paused(-time.Second)
			r.Paused(500 * time.Millisecond)
		}, "paused_seconds_total", `paused_seconds_total{replica_set="a"}=1.5`},
		{"a failed heartbeat has a duration", func(r *measure.ReplicaSet) {
			r.Heartbeat(250*time.Millisecond, true)
			r.Heartbeat(500*time.Millisecond, false)
		}, "heartbeat_duration_seconds heartbeat_failures_total", `
			heartbeat_duration_seconds{replica_set="a"}=2/0.75 heartbeat_failures_total{replica_set="a"}=1`},
		{
			"lease and backends", func(r *measure.ReplicaSet) { r.LeaseExpired(); r.BackendTerminated() },
			"lease_expired_total backends_terminated_total",
			`lease_expired_total{replica_set="a"}=1 backends_terminated_total{replica_set="a"}=1`,
		},
		{"events are handled", func(r *measure.ReplicaSet) {
			r.EventsHandled("users", 3)
			r.EventsHandled("users", 0)
			r.EventsHandled("users", -4)
			r.EventsHandled("orders", 1)
		}, "events_handled_total", `
			events_handled_total{projection="users",replica_set="a"}=3 events_handled_total{projection="orders",replica_set="a"}=1`},
		{"handlers fail", func(r *measure.ReplicaSet) {
			r.HandlerError("users", measure.KindPanic)
			r.HandlerError("users", measure.KindError)
			r.HandlerError("users", "whatever")
			r.HandlerError("users", measure.KindTimeout)
		}, "handler_errors_total", `
			handler_errors_total{kind="timeout",projection="users",replica_set="a"}=1
			handler_errors_total{kind="error",projection="users",replica_set="a"}=2
			handler_errors_total{kind="panic",projection="users",replica_set="a"}=1`},
		{"failures begin at zero", func(r *measure.ReplicaSet) { r.EventsHandled("users", 1) }, "handler_errors_total", `
			handler_errors_total{kind="error",projection="users",replica_set="a"}=0
			handler_errors_total{kind="panic",projection="users",replica_set="a"}=0`},
		{
			"a batch does not count its events", func(r *measure.ReplicaSet) { r.Batch("users", 100, 125*time.Millisecond, "") },
			"batch_duration_seconds batch_events events_handled_total", `
			batch_duration_seconds{projection="users",replica_set="a"}=1/0.125
			batch_events{projection="users",replica_set="a"}=1/100
			events_handled_total{projection="users",replica_set="a"}=0`,
		},
		{"fenced", func(r *measure.ReplicaSet) { r.Fenced() }, "fenced_batches_total", `fenced_batches_total{replica_set="a"}=1`},
		{"lag is never negative", func(r *measure.ReplicaSet) { r.Lag("users", "0/2", -3); r.Lag("users", "1/2", 8) }, "lag_events", `
			lag_events{partition="0/2",projection="users",replica_set="a"}=0
			lag_events{partition="1/2",projection="users",replica_set="a"}=8`},
		{"lag grows while a partition says nothing, unless nothing waits", func(r *measure.ReplicaSet) {
			for _, partition := range []string{"0/3", "1/3", "2/3"} {
				r.Position("users", partition, 3)
				r.Lag("users", partition, 1)
			}
			r.NothingWaits("users", "1/3", 4)
			r.NothingWaits("users", "2/3", 4)
			r.Position("users", "2/3", 11)
			r.Horizon(10, 12, 0, 0)
		}, "lag_events", `
			lag_events{partition="0/3",projection="users",replica_set="a"}=7
			lag_events{partition="1/3",projection="users",replica_set="a"}=0
			lag_events{partition="2/3",projection="users",replica_set="a"}=0`},
		{"a partition that never failed", func(r *measure.ReplicaSet) {
			r.Retrying("users", "1/2", true)
			r.ShowPartition("users", "0/2")
			r.ShowPartition("users", "1/2")
		}, "retrying handler_errors_total", `
			retrying{partition="0/2",projection="users",replica_set="a"}=0 retrying{partition="1/2",projection="users",replica_set="a"}=1
			handler_errors_total{kind="error",projection="users",replica_set="a"}=0 handler_errors_total{kind="panic",projection="users",replica_set="a"}=0`},
		{"an error policy that did nothing yet", func(r *measure.ReplicaSet) {
			r.ShowPolicy("users", "0/2")
			r.ShowHook()
		}, "stopped events_skipped_total failure_hook_dropped_total parked_aggregates events_parked_total handler_errors_total", `
			parked_aggregates{partition="0/2",projection="users",replica_set="a"}=0
			events_parked_total{projection="users",replica_set="a"}=0
			stopped{partition="0/2",projection="users",replica_set="a"}=0
			handler_errors_total{kind="timeout",projection="users",replica_set="a"}=0
			events_skipped_total{projection="users",replica_set="a"}=0 failure_hook_dropped_total{replica_set="a"}=0`},
		{"what error policies did", func(r *measure.ReplicaSet) {
			r.ShowPartition("users", "0/2")
			r.Stopped("users", "1/2", true)
			r.Stopped("users", "3/4", true)
			r.ForgetPartition("users", "3/4")
			r.Skipped("users")
			r.EventsParked("users", 2)
			r.EventsParked("users", 0)
			r.Parked("users", "1/2", 3, 3)
			r.Parked("users", "3/4", 1, 1)
			r.ForgetPartition("users", "3/4")
			r.HookDropped()
		}, "stopped events_skipped_total failure_hook_dropped_total parked_aggregates events_parked_total", `
			parked_aggregates{partition="1/2",projection="users",replica_set="a"}=3
			events_parked_total{projection="users",replica_set="a"}=2
			stopped{partition="1/2",projection="users",replica_set="a"}=1
			events_skipped_total{projection="users",replica_set="a"}=1 failure_hook_dropped_total{replica_set="a"}=1`},
		{"retrying ends", func(r *measure.ReplicaSet) {
			r.Retrying("users", "0/2", true)
			r.Retrying("users", "1/2", true)
			r.Retrying("users", "1/2", false)
		}, "retrying", `
			retrying{partition="0/2",projection="users",replica_set="a"}=1
			retrying{partition="1/2",projection="users",replica_set="a"}=0`},
		{"a forgotten partition is gone", func(r *measure.ReplicaSet) {
			for _, partition := range []string{"0/2", "1/2"} {
				r.Position("users", partition, 7)
				r.Lag("users", partition, 1)
				r.Retrying("users", partition, false)
			}
			r.ForgetPartition("users", "0/2")
			r.ForgetPartition("users", "never seen")
		}, "position lag_events retrying", `
			position{partition="1/2",projection="users",replica_set="a"}=7
			lag_events{partition="1/2",projection="users",replica_set="a"}=1
			retrying{partition="1/2",projection="users",replica_set="a"}=0`},
		{"a forgotten partition comes back", func(r *measure.ReplicaSet) {
			r.Position("users", "0/2", 7)
			r.ForgetPartition("users", "0/2")
			r.Position("users", "0/2", 8)
		}, "position", `position{partition="0/2",projection="users",replica_set="a"}=8`},
		{"no horizon before the first probe", func(*measure.ReplicaSet) {}, "horizon_position stream_last_position", ""},
		{
			"a probe", func(r *measure.ReplicaSet) { r.Horizon(10, 14, 1500*time.Millisecond, 3) },
			"horizon_position stream_last_position horizon_blocked_seconds horizon_writers", `
			horizon_position{replica_set="a"}=10 stream_last_position{replica_set="a"}=14
			horizon_blocked_seconds{replica_set="a"}=1.5 horizon_writers{replica_set="a"}=3`,
		},
		{
			"database errors", func(r *measure.ReplicaSet) { r.DatabaseError("batch"); r.DatabaseError("batch") },
			"database_errors_total", `database_errors_total{operation="batch",replica_set="a"}=2
				database_errors_total{operation="coordination",replica_set="a"}=0 database_errors_total{operation="horizon",replica_set="a"}=0
				database_errors_total{operation="checkpoint",replica_set="a"}=0 database_errors_total{operation="configuration",replica_set="a"}=0
				database_errors_total{operation="record",replica_set="a"}=0`,
		},
		{
			"the session", func(r *measure.ReplicaSet) { r.SessionReconnected(); r.SessionConnected(true) },
			"session_connected session_reconnects_total",
			`session_connected{replica_set="a"}=1 session_reconnects_total{replica_set="a"}=1`,
		},
		{"notifications", func(r *measure.ReplicaSet) {
			r.Notification("joined")
			r.NotificationProof(true)
			r.NotificationProof(false)
			r.NotificationProof(true)
		}, "notifications_total notification_proofs_total", `
			notifications_total{kind="joined",replica_set="a"}=1 notifications_total{kind="left",replica_set="a"}=0
			notifications_total{kind="ready",replica_set="a"}=0 notifications_total{kind="generation",replica_set="a"}=0 notifications_total{kind="horizon",replica_set="a"}=0
			notification_proofs_total{replica_set="a",result="arrived"}=2
			notification_proofs_total{replica_set="a",result="missing"}=1`},
		{"names that are not UTF-8", func(r *measure.ReplicaSet) {
			r.EventsHandled("us\xffers", 1)
			r.Position("us\xffers", "0/1", 1)
			r.Position("users", "0/1", 2)
			r.ForgetPartition("us\xffers", "0/1")
			r.DatabaseError("\xff")
		}, "events_handled_total database_errors_total position", `
			events_handled_total{projection="us�ers",replica_set="a"}=1 database_errors_total{operation="�",replica_set="a"}=1
			position{partition="0/1",projection="users",replica_set="a"}=2
			database_errors_total{operation="batch",replica_set="a"}=0
			database_errors_total{operation="coordination",replica_set="a"}=0 database_errors_total{operation="horizon",replica_set="a"}=0
				database_errors_total{operation="checkpoint",replica_set="a"}=0 database_errors_total{operation="configuration",replica_set="a"}=0
				database_errors_total{operation="record",replica_set="a"}=0`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			reg, m := newRegistry(t)
			tt.record(m.ReplicaSet("a"))
			requireSeries(t, reg, tt.want, strings.Fields(tt.metrics)...)
		})
	}
}

func TestWordsAreBounded(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	for i := range 150 {
		r.Notification("kind" + strconv.Itoa(i))
		r.ActorMessage("processor", "message"+strconv.Itoa(i), time.Second)
	}
	r.Notification("kind7")
	series := gathered(t, reg, "notifications_total")
	require.Len(t, series, 101, "100 kinds, the known ones among them, and the rest")
	require.Contains(t, series, `notifications_total{kind="kind7",replica_set="a"}=2`)
	require.Contains(t, series, `notifications_total{kind="other",replica_set="a"}=55`)
	require.Contains(t, gathered(t, reg, "actor_messages_total"),
		`actor_messages_total{actor="other",message="other",replica_set="a"}=50`)
}
