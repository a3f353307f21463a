package face

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
)

// During a deployment that shortens the timeouts, old and new workers run side by side. A new worker must not declare an old one dead between two of its
// heartbeats.
func TestWorkersWithDifferentTimeoutsShareAReplicaSet(t *testing.T) {
	w := newWorld(t)
	w.append("ada", 1)
	fast := start(t, w.orchestrator("set", orchestrator.WithHeartbeatInterval(300*time.Millisecond), orchestrator.WithStaleWorkerTimeout(time.Second)), recorder{name: "p"})
	w.awaitRunning("set", 1)
	slow := start(t, w.orchestrator("set", orchestrator.WithWorkerName("slow"), orchestrator.WithHeartbeatInterval(3*time.Second),
		orchestrator.WithStaleWorkerTimeout(time.Minute)), recorder{name: "p"})
	w.awaitRunning("set", 2)
	const generation = "SELECT max(number) FROM orchestrator_generations"
	before := w.value(generation)
	const beat = "SELECT extract(epoch FROM last_heartbeat) FROM orchestrator_heartbeats JOIN orchestrator_workers USING (worker_id) WHERE name = 'slow'"
	for range 2 { // 3 s each, which is three times the shorter timeout
		last := w.value(beat)
		eventually(t, func() bool { return w.value(beat) != last }, func() string { return "a heartbeat after " + last })
	}
	assert.Equal(t, before, w.value(generation), "nobody came or went")
	assert.Equal(t, "00:01:00", w.value("SELECT stale_timeout::text FROM orchestrator_workers WHERE name = 'slow'"))
	require.NoError(t, slow.stop())
	require.NoError(t, fast.stop())
}

func TestAMoveDoesNotTakeAProjectionFromAWorkerWithALongHeartbeatInterval(t *testing.T) {
	w := newWorld(t)
	r := start(t, w.orchestrator("set", orchestrator.WithHeartbeatInterval(2*time.Minute), orchestrator.WithStaleWorkerTimeout(10*time.Minute)), recorder{name: "p"})
	w.awaitRunning("set", 1)
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '90 s'") // as it is for a quarter of the time
	require.ErrorContains(t, w.admin("set").Move(w.patiently(), "p", "other", ""), "still run it")
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '11 minutes'")
	require.NoError(t, w.admin("set").Move(w.patiently(), "p", "other", ""))
	require.NoError(t, r.stop())
}

// A process that waits for another one's worker has settings of its own.
func TestAWaitForAWorkerWithALongHeartbeatInterval(t *testing.T) {
	w := newWorld(t)
	g := make(chan struct{})
	r := start(t, w.orchestrator("set", orchestrator.WithHeartbeatInterval(time.Minute), orchestrator.WithStaleWorkerTimeout(5*time.Minute)),
		recorder{name: "p", before: func(ctx context.Context, _ es.PersistedEvent) error {
			select {
			case <-g:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
	w.awaitRunning("set", 1)
	result := w.appends("ada", 1)
	w.exec("UPDATE orchestrator_heartbeats SET last_heartbeat = now() - interval '40 s'") // as it is for a third of the time
	web := w.elsewhere()
	require.ErrorIs(t, web.WaitForAppend(w.shortly(), "p", result), context.DeadlineExceeded, "the wait goes on")
	close(g)
	require.NoError(t, web.WaitForAppend(w.patiently(), "p", result))
	require.NoError(t, r.stop())
}
