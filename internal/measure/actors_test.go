package measure_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/measure"
)

func TestActorsAreCountedByKind(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	r.ActorStarted("processor")
	r.ActorPanicked("processor")
	r.ActorRespawned("processor")
	r.ActorStarted("processor")
	r.ActorStarted("heartbeat")
	r.ActorUnknownMessage("heartbeat")
	r.ActorUndelivered()
	r.ActorMessage("processor", "RunBatch", 250*time.Millisecond)
	r.ActorMessage("processor", "RunBatch", 250*time.Millisecond)
	requireSeries(t, reg, `
		actor_starts_total{actor="processor",replica_set="a"}=2 actor_starts_total{actor="heartbeat",replica_set="a"}=1
		actor_respawns_total{actor="processor",replica_set="a"}=1 actor_respawns_total{actor="heartbeat",replica_set="a"}=0
		actor_unknown_messages_total{actor="processor",replica_set="a"}=0
		actor_unknown_messages_total{actor="heartbeat",replica_set="a"}=1
		actor_panics_total{actor="processor",replica_set="a"}=1 actor_panics_total{actor="heartbeat",replica_set="a"}=0
		actor_undelivered_messages_total{replica_set="a"}=1
		actor_messages_total{actor="processor",message="RunBatch",replica_set="a"}=2
		actor_message_seconds_total{actor="processor",replica_set="a"}=0.5`,
		"actor_starts_total", "actor_respawns_total", "actor_unknown_messages_total", "actor_panics_total",
		"actor_undelivered_messages_total", "actor_messages_total", "actor_message_seconds_total")
}

func TestMailboxesAreSummedAtScrapeTime(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	waiting := 2
	r.RegisterMailbox("processor", "p0.g1.1", func() int { return waiting })
	r.RegisterMailbox("processor", "p0.g1.2", func() int { return 5 })
	r.RegisterMailbox("coordinator", "c.1", func() int { return -1 })
	names := []string{"actors", "actor_mailbox_length"}
	requireSeries(t, reg, `
		actors{actor="processor",replica_set="a"}=2 actor_mailbox_length{actor="processor",replica_set="a"}=7
		actors{actor="coordinator",replica_set="a"}=1 actor_mailbox_length{actor="coordinator",replica_set="a"}=0`, names...)

	waiting = 9
	r.UnregisterMailbox("p0.g1.2")
	r.UnregisterMailbox("c.1")
	r.UnregisterMailbox("never registered")
	requireSeries(t, reg, `
		actors{actor="processor",replica_set="a"}=1 actor_mailbox_length{actor="processor",replica_set="a"}=9
		actors{actor="coordinator",replica_set="a"}=0 actor_mailbox_length{actor="coordinator",replica_set="a"}=0`, names...)
}

func TestMailboxKindsAreBounded(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	for i := range 130 {
		name := "actor" + strconv.Itoa(i)
		r.RegisterMailbox(name, name, func() int { return 1 })
	}
	series := gathered(t, reg, "actor_mailbox_length")
	require.Len(t, series, 101)
	require.Contains(t, series, `actor_mailbox_length{actor="other",replica_set="a"}=30`)
}

// TestMailboxMayUseTheRecorder makes sure that nothing is locked while a mailbox
// is asked for its length.
func TestMailboxMayUseTheRecorder(t *testing.T) {
	t.Parallel()
	reg, m := newRegistry(t)
	r := m.ReplicaSet("a")
	r.RegisterMailbox("processor", "p0.g1.1", func() int {
		r.UnregisterMailbox("p0.g1.1")
		r.ActorStarted("first seen during the scrape")
		m.ReplicaSet("b").Forget()
		return 1
	})
	requireSeries(t, reg, `actor_mailbox_length{actor="processor",replica_set="a"}=1`, "actor_mailbox_length")
	requireSeries(t, reg, `actor_mailbox_length{actor="processor",replica_set="a"}=0`, "actor_mailbox_length")
}

// TestHotPathsDoNotAllocate covers what is recorded for every message and batch.
func TestHotPathsDoNotAllocate(t *testing.T) {
	_, m := newRegistry(t)
	r := m.ReplicaSet("a")
	record := func() {
		r.ActorMessage("processor", "RunBatch", 3*time.Microsecond)
		r.EventsHandled("users", 10)
		r.Batch("users", 10, time.Millisecond, "")
		r.Position("users", "0/2", 10)
		r.Lag("users", "0/2", 10)
		r.Retrying("users", "0/2", false)
		r.Horizon(1, 2, 0, 0)
	}
	record()
	require.Zero(t, testing.AllocsPerRun(200, record))
}

func BenchmarkActorMessage(b *testing.B) {
	_, m := newRegistry(b)
	r := m.ReplicaSet("a")
	for _, actor := range []string{"supervisor", "coordinator", "heartbeat", "horizon", "partition", "processor"} {
		for i := range 10 {
			r.ActorMessage(actor, "Message"+strconv.Itoa(i), time.Microsecond)
		}
	}
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			r.ActorMessage("processor", "Message3", 3*time.Microsecond)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				r.ActorMessage("processor", "Message3", 3*time.Microsecond)
			}
		})
	})
	b.Run("disabled", func(b *testing.B) {
		var none *measure.ReplicaSet
		for b.Loop() {
			none.ActorMessage("processor", "Message3", 3*time.Microsecond)
		}
	})
}

func BenchmarkBatch(b *testing.B) {
	_, m := newRegistry(b)
	r := m.ReplicaSet("a")
	b.ReportAllocs()
	for b.Loop() {
		r.Batch("users", 100, time.Millisecond, "")
		r.EventsHandled("users", 100)
		r.Position("users", "0/2", 100)
		r.Lag("users", "0/2", 0)
	}
}
