package actors

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

// Where nothing is in scope, a checkpoint stays behind until somebody waits for it, in this process or elsewhere.
func TestWhoWaitsHasTheCheckpointWritten(t *testing.T) {
	f := newFixture(t)
	hub := waiting.Join(f, waiting.Database{})
	defer hub.Leave()
	r := f.start(func(c *Config) { c.Batch.FlushAfter, c.Waits = time.Hour, hub }, &scopedRecorder{recorder: recorder{name: "p"}, aggregateType: "order"})
	passed := func() int64 {
		positions := f.append("user", 3)
		last := positions[len(positions)-1]
		eventually(t, func() bool { return r.count("position", "projection", "p") == float64(last) }, "position %d is not passed", last)
		return last
	}
	last := passed()
	assert.Zero(t, f.checkpoint("p"))
	hub.Flush("q")
	hub.Flush("p")
	eventually(t, func() bool { return f.checkpoint("p") == last }, "the checkpoint is not written")
	if pgtest.BehindPooler() {
		return
	}
	<-time.After(waiting.FlushFor) // it is not written for a while
	last = passed()
	assert.Less(t, f.checkpoint("p"), last)
	require.NoError(t, f.store.AskToFlush(t.Context(), f.pool, "main", "p"))
	eventually(t, func() bool { return f.checkpoint("p") == last }, "the checkpoint is not written")
}

func TestCheckpointsStayBehindUnlessSomebodyWaits(t *testing.T) {
	p := &processor{worker: &worker{Config: Config{Batch: BatchConfig{FlushAfter: time.Second}}}}
	assert.Equal(t, time.Second, p.flushAfter())
	p.waits.until = time.Now().Add(time.Hour)
	assert.Equal(t, flushAtOnce, p.flushAfter())
	p.waits.until = time.Now().Add(-time.Hour)
	assert.Equal(t, time.Second, p.flushAfter())
}
