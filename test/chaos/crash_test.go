package main

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	orchestrator "github.com/getpup/pupsourcing-orchestrator/v2"
	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/projection"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// counted counts outside of the transaction how often each event was handled.
type counted struct {
	projection.Projection
	mu    sync.Mutex
	times map[int64]int
}

func newCounted() *counted {
	return &counted{Projection: workload.NewRecorder(recorded[0], workerName(0)), times: map[int64]int{}}
}

func (c *counted) Handle(ctx context.Context, tx pgx.Tx, event es.PersistedEvent) error {
	c.mu.Lock()
	c.times[event.GlobalPosition]++
	c.mu.Unlock()
	return c.Projection.Handle(ctx, tx, event)
}

// seen is how many events were handled, and how many of them more than once.
func (c *counted) seen() (events, repeated int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, times := range c.times {
		if times > 1 {
			repeated++
		}
	}
	return len(c.times), repeated
}

// The server crashes while batches that it has acknowledged are not on its disk. Read model and checkpoint are lost together, so
// the events are handled again, and in the tables once.
func TestCrashTakesAsynchronousCommitsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"wal_writer_delay": "10s", "wal_writer_flush_after": "0"})
	w.append(60)
	p := newCounted()
	// Heartbeats are durable, and take what was committed before them to the disk: let them be rare.
	w.start(w.dsn, workerName(0), p, orchestrator.WithHeartbeatInterval(10*time.Second), orchestrator.WithBatchSize(10))
	total, err := strconv.Atoi(w.value("SELECT count(*) FROM events"))
	require.NoError(t, err)
	for crashes := 1; ; crashes++ {
		before, _ := p.seen()
		require.Eventually(t, func() bool { events, _ := p.seen(); return events > min(before, total-1) }, patience, time.Millisecond)
		w.restart(func() error { return w.cluster.Restart(pgtest.Immediate) })
		w.awaitDrained()
		if _, repeated := p.seen(); repeated > 0 {
			t.Logf("after %d crashes %d of %d events were handled again", crashes, repeated, total)
			break
		}
		require.Less(t, crashes, 10, "no crash took a batch back")
		w.append(60)
	}
	w.prove()
}

// A replica takes over that has not got the end of the log: events, read model and checkpoints are those of a while ago, and the
// worker, which has seen more, must neither skip the events that get the lost ones' positions nor handle the lost ones again.
func TestFailoverToAReplicaThatLostTheTail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.start(w.dsn, workerName(0), newCounted())
	w.append(20)
	w.awaitDrained()
	data := w.value("SELECT current_setting('data_directory')")
	replica := filepath.Join(filepath.Dir(data), "replica")
	require.NoError(t, w.cluster.Stop(pgtest.Fast))
	run := func(program string, arguments ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	run("cp", "-a", data, replica)
	w.restart(w.cluster.Start)
	old := w.value("SELECT max(global_position) FROM events")
	w.append(20)
	w.awaitDrained()
	lost := w.value("SELECT max(global_position) FROM events")
	require.NotEqual(t, old, lost)

	require.NoError(t, w.cluster.Stop(pgtest.Immediate))
	run("rm", "-r", data)
	run("mv", replica, data)
	w.restart(w.cluster.Start)
	require.Equal(t, old, w.value("SELECT max(global_position) FROM events"))
	w.append(40)
	w.awaitDrained()
	w.prove()
}

// The events table comes from a backup that is older than the checkpoints: positions that a checkpoint has passed are given
// again. Handling would skip those events, so nothing is handled, and the log says why, until a person decides.
func TestPositionsBelowACheckpointStopTheProjectionLoudly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	p := newCounted()
	log := w.start(w.dsn, workerName(0), p)
	w.append(20)
	w.awaitDrained()
	reached := w.value("SELECT max(position) FROM orchestrator_checkpoints")
	w.execute(`BEGIN; LOCK TABLE events;
DELETE FROM events WHERE global_position > 10;
DELETE FROM aggregate_heads AS h WHERE NOT EXISTS (SELECT FROM events AS e
    WHERE (e.bounded_context, e.aggregate_type, e.aggregate_id) = (h.bounded_context, h.aggregate_type, h.aggregate_id));
UPDATE aggregate_heads AS h SET aggregate_version = (SELECT max(e.aggregate_version) FROM events AS e
    WHERE (e.bounded_context, e.aggregate_type, e.aggregate_id) = (h.bounded_context, h.aggregate_type, h.aggregate_id));
SELECT setval(pg_get_serial_sequence('events', 'global_position'), 10); COMMIT`)
	log.await(t, "level=ERROR", "checkpoint="+reached, "last_position=10")
	handled, _ := p.seen()
	w.append(1)
	low := w.value("SELECT last_value FROM " + w.value("SELECT pg_get_serial_sequence('events', 'global_position')"))
	log.await(t, "level=ERROR", "checkpoint="+reached, "last_position="+low)
	now, _ := p.seen()
	assert.Equal(t, handled, now, "events were handled though positions went back")
	assert.Equal(t, reached, w.value("SELECT max(position) FROM orchestrator_checkpoints"))

	w.execute(`SELECT setval(pg_get_serial_sequence('events', 'global_position'), ` + reached + `)`)
	w.append(5)
	w.awaitDrained()
	assert.Equal(t, w.value("SELECT count(*) FROM events WHERE global_position > "+reached),
		w.value("SELECT count(*) FROM workload_log WHERE global_position > "+reached))
}
