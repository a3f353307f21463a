package actors

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/waiting"
)

// Where nothing is in scope, a checkpoint stays behind until somebody waits for it, in this process or elsewhere, whether the worker gets notifications or not.
func TestWhoWaitsHasTheCheckpointWritten(t *testing.T) {
	for kind, pollOnly := range map[string]bool{"notified": false, "poll only": true} {
		t.Run(kind, func(t *testing.T) {
			f := newFixture(t)
			var looks atomic.Int64
			hub := waiting.Join(f, waiting.Database{Waited: func(ctx context.Context, projections []string) ([]string, error) {
				looks.Add(1)
				return f.store.Waited(ctx, f.pool, projections)
			}})
			defer hub.Leave()
			r := f.start(func(c *Config) {
				if c.Batch.FlushAfter, c.Waits = time.Hour, hub; pollOnly {
					c.Connect, c.Membership.HasSession = nil, false
				}
			}, &scopedRecorder{recorder: recorder{name: "p"}, aggregateType: "order"})
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
			<-time.After(waiting.FlushFor) // it is not written for a while
			if !pollOnly {
				assert.Zero(t, looks.Load(), "it is notified, and looks besides")
			}
			idle := looks.Load()
			<-time.After(100 * time.Millisecond)
			assert.Equal(t, idle, looks.Load(), "it looks while no checkpoint stays behind")
			last = passed()
			assert.Less(t, f.checkpoint("p"), last)
			if pollOnly {
				require.NoError(t, f.store.NoteWait(t.Context(), f.pool, "q", time.Minute))
				require.NoError(t, f.store.NoteWait(t.Context(), f.pool, "p", -time.Minute))
				waited, err := f.store.Waited(t.Context(), f.pool, []string{"p"})
				require.NoError(t, err)
				assert.Empty(t, waited, "that was long ago")
				require.NoError(t, f.store.NoteWait(t.Context(), f.pool, "p", time.Second))
			} else {
				require.NoError(t, f.store.AskToFlush(t.Context(), f.pool, "main", "p"))
			}
			eventually(t, func() bool { return f.checkpoint("p") == last }, "the checkpoint is not written")
		})
	}
}

func TestCheckpointsStayBehindUnlessSomebodyWaits(t *testing.T) {
	p := &processor{worker: &worker{Config: Config{Batch: BatchConfig{FlushAfter: time.Second}}}}
	assert.Equal(t, time.Second, p.flushAfter())
	p.waits.until = time.Now().Add(time.Hour)
	assert.Equal(t, flushAtOnce, p.flushAfter())
	p.waits.until = time.Now().Add(-time.Hour)
	assert.Equal(t, time.Second, p.flushAfter())
	p.fence.Partition.Total = manyFlush
	assert.Equal(t, 2*time.Second, p.flushAfter(), "many partitions would write for one event of one of them")
	p.waits.until = time.Now().Add(time.Hour)
	assert.Equal(t, flushAtOnce, p.flushAfter())
}

// A batch writes the checkpoint too, so nothing is written between batches that come often enough.
func TestCheckpointsAreFlushedSoLongAfterABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &processor{worker: &worker{Config: Config{Batch: BatchConfig{FlushAfter: time.Second}}}}
		assert.Equal(t, time.Second, p.flushIn(), "there was no batch")
		p.committed = time.Now().Add(-300 * time.Millisecond)
		assert.Equal(t, 700*time.Millisecond, p.flushIn())
		p.committed = time.Now().Add(-time.Hour)
		assert.Equal(t, time.Second, p.flushIn())
	})
}
