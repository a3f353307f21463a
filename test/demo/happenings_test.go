package main

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

func TestEachHappeningIsToldOnce(t *testing.T) {
	t.Parallel()
	w := newWatcher()
	worker := workload.WorkerStatus{ID: uuid.New(), Name: "w1", State: "pending"}
	at := func(state, detail string, generations ...workload.GenerationStatus) workload.Snapshot {
		worker.State, worker.Detail = state, detail
		return workload.Snapshot{Workers: []workload.WorkerStatus{worker}, Generations: generations}
	}
	first := workload.GenerationStatus{Number: 1, State: "preparing", Cause: "first", Reason: "w1 joined"}
	assert.Empty(t, w.news(at("ready", "", first)))

	first.Activated, first.Took, first.Members = true, 31415*time.Microsecond, []uuid.UUID{worker.ID}
	assert.Equal(t, []string{"generation 1 is active with 1 worker after a pause of 31ms (first: w1 joined)"}, w.news(at("running", "", first)))
	assert.Empty(t, w.news(at("running", "", first)))

	assert.Equal(t, []string{"w1 was declared dead: it was silent"}, w.news(at("dead", "it was silent", first)))
	assert.Empty(t, w.news(at("dead", "it was silent", first)))

	second := workload.GenerationStatus{Number: 2, Activated: true, Cause: "joined", Reason: "w1 joined", Members: []uuid.UUID{worker.ID, uuid.New()}}
	assert.Equal(t, []string{
		"w1 is back: running",
		"generation 2 is active with 2 workers after a pause of 0s (joined: w1 joined)",
	}, w.news(at("running", "", first, second)))

	assert.Equal(t, []string{"w1 has stopped: left gracefully"}, w.news(at("stopped", "left gracefully", first, second)))
}
