package main

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// scene is a replica set with a worker of each kind.
func scene() view {
	id := func(last byte) uuid.UUID { return uuid.UUID{15: last} }
	return view{
		Elapsed:   17400 * time.Millisecond,
		WriteRate: 412.4,
		Writers:   workload.WriterStats{Committed: 90, RolledBack: 11, Events: 321},
		Snapshot: workload.Snapshot{
			Latest:      1234,
			Generations: []workload.GenerationStatus{{Number: 1}, {Number: 2, State: "active", Cause: "lost", Reason: "worker w2 was lost"}},
			Workers: []workload.WorkerStatus{
				{
					ID: id(1), Name: "w1", PID: 4711, State: "running", Heartbeat: 320 * time.Millisecond,
					Assignments: []workload.Assignment{
						{Projection: "deliveries", Partition: "0/1", Position: 1234, Lag: 0, Rate: 7},
						{Projection: "everything", Partition: "0/1", Position: 34, Lag: 1200, Rate: 101.6},
					},
				},
				{ID: id(2), Name: "w2", PID: 4712, State: "dead", Heartbeat: time.Hour},
				{ID: id(3), Name: "w3", PID: 13, State: "pending", Heartbeat: 1100 * time.Millisecond},
			},
		},
	}
}

func TestTheTableHasARowForEachWorkerAndProjection(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{
		"",
		" 17.4 s  generation 2 is active (lost: worker w2 was lost)",
		"         writers: 412 events/s, 321 events in 90 transactions, 11 rolled back; latest position 1234",
		"",
		"  WORKER  ID         PID   STATE    HEARTBEAT  PROJECTION  PARTITION  POSITION   LAG  EVENTS/S",
		"  w1      …00000001  4711  running  0.3 s ago  deliveries  0/1            1234     0         7",
		"                                               everything  0/1              34  1200       102",
		"  w2      …00000002  4712  dead     -          -",
		"  w3      …00000003  13    pending  1.1 s ago  -",
	}, scene().table())
}

func TestTheTableOfNothing(t *testing.T) {
	t.Parallel()
	lines := view{}.table()
	assert.Contains(t, lines[1], "no generation yet")
	assert.Len(t, lines, 5, "only the headings")
}

func TestTheStatusIsTheTableInOneLine(t *testing.T) {
	t.Parallel()
	assert.Contains(t, view{}.status(), "status: no generation yet; workers: none;")
	assert.Equal(t, " 17.4 s  status: generation 2 active; workers: 1 pending, 1 running, 1 dead; "+
		"writing 412 events/s, handling 109/s by all projections; lag at most 1200 positions", scene().status())
}

func TestTheRateIsTakenOverItsWindow(t *testing.T) {
	t.Parallel()
	var r rate
	begin := time.Unix(0, 0)
	at := func(seconds float64) time.Time { return begin.Add(time.Duration(seconds * float64(time.Second))) }
	assert.Zero(t, r.update(at(0), 100))
	assert.InDelta(t, 50, r.update(at(1), 150), 0.01)
	assert.InDelta(t, 75, r.update(at(2), 250), 0.01)
	assert.InDelta(t, 50, r.update(at(3), 250), 0.01)
	assert.InDelta(t, 0, r.update(at(9), 250), 0.01)
}
