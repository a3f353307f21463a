package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/messages"
)

func TestCrashedCoordinatorGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 5)
	p := &recorder{name: "p"}
	first := f.start(nil, p)
	f.awaitHandled("p", want)
	f.awaitState(first, replicaset.Running)
	generation := f.active(1)

	first.system.Root.Send(first.coordinatorPID(), (*looked)(nil))
	eventually(t, func() bool { return first.count("actor_respawns_total", "actor", kindCoordinator) == 1 }, "it is not respawned")
	panicked := first.log.Await(t, "an actor panicked")
	assert.Contains(t, panicked.Attrs["stack"], "coordinator.go")
	want = append(want, f.append("Order", 5)...)
	f.awaitHandled("p", want)
	assert.Equal(t, generation, f.active(1), "a crash of the coordinator is no change of generation")
	assert.EqualValues(t, 1, first.count("actor_starts_total", "actor", kindPartition), "the partitions go on")

	// It knows what runs: it drains before it is ready for the next generation.
	second := f.start(nil, &recorder{name: "p"})
	eventually(t, func() bool { return f.active(2) > generation }, "no generation with both workers")
	f.awaitState(first, replicaset.Running)
	f.awaitState(second, replicaset.Running)
	assert.Empty(t, first.log.Find("dropped an assignment"))
	first.Leave()
	first.awaitDone()
	f.awaitState(first, replicaset.Stopped)
}

func TestLeaveWhileTheCoordinatorIsDown(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	r.system.Root.Send(r.coordinatorPID(), (*looked)(nil))
	eventually(t, func() bool { return r.count("actor_panics_total", "actor", kindCoordinator) == 1 }, "it does not crash")
	r.Leave()
	r.awaitDone()
	f.awaitState(r, replicaset.Stopped)
}

func TestPanicOfTheSupervisorEndsTheWorker(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 5)
	g := newGate(want[2])
	r := f.start(nil, &recorder{name: "p", before: g.before})
	ctx := receive(t, g.reached, "the event is never handled")
	r.system.Root.Send(r.top, (*respawn)(nil))
	r.awaitDone()
	assert.Error(t, ctx.Err(), "its handlers go on")
	assert.Contains(t, r.log.Await(t, "the supervisor panicked").Attrs["stack"], "supervisor.go")
}

func TestCrashedHeartbeatKeepsTheLease(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	want := f.append("Order", 5)
	p := &recorder{name: "p"}
	r := f.start(nil, p)
	f.awaitHandled("p", want)
	f.awaitState(r, replicaset.Running)
	r.system.Root.Send(r.heartbeatPID(), (*beaten)(nil))
	eventually(t, func() bool { return r.count("actor_respawns_total", "actor", kindHeartbeat) == 1 }, "it is not respawned")
	beats := r.count("heartbeat_duration_seconds")
	eventually(t, func() bool { return r.count("heartbeat_duration_seconds") > beats+2 }, "no heartbeats any more")
	f.awaitHandled("p", append(want, f.append("Order", 5)...))
	assert.EqualValues(t, 1, r.count("actor_starts_total", "actor", kindPartition), "the partitions go on")
	assert.Zero(t, r.count("lease_expired_total"))
}

// TestStopPartitionsIsAlwaysAnswered: to a worker on which nothing runs.
func TestStopPartitionsIsAlwaysAnswered(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(func(c *Config) { c.Timing.Observe, c.Timing.Follow = time.Hour, time.Hour }, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	answers := func() float64 {
		return r.count("actor_messages_total", "actor", kindCoordinator, "message", "PartitionsStopped")
	}
	assert.Zero(t, answers())
	r.system.Root.Send(r.top, messages.StopPartitions{Generation: 1})
	eventually(t, func() bool { return answers() == 1 }, "what runs is not reported as stopped")
}

func TestUnknownMessagesAreCountedAndLogged(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	f.awaitState(r, replicaset.Running)
	type nonsense struct{}
	for kind, pid := range map[string]func(){
		kindSupervisor:  func() { r.system.Root.Send(r.top, nonsense{}) },
		kindHeartbeat:   func() { r.system.Root.Send(r.heartbeatPID(), nonsense{}) },
		kindCoordinator: func() { r.system.Root.Send(r.coordinatorPID(), nonsense{}) },
		kindHorizon:     func() { r.system.Root.Send(r.horizonPID(), nonsense{}) },
	} {
		pid()
		eventually(t, func() bool { return r.count("actor_unknown_messages_total", "actor", kind) == 1 }, "%s does not count it", kind)
	}
	assert.Equal(t, "nonsense", r.log.Await(t, "a message that it does not know").Attrs["message"])
	assert.Zero(t, r.count("actor_panics_total"))
}

func TestDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	r := f.start(nil, &recorder{name: "p"})
	before := r.count("actor_undelivered_messages_total")
	r.system.Root.Send(r.pid(kindCoordinator, 4711), messages.Leave{})
	eventually(t, func() bool { return r.count("actor_undelivered_messages_total") > before }, "a dead letter is not counted")
}
