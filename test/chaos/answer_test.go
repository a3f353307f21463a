package main

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/wire"
	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// The connection breaks between a COMMIT and its answer, again and again, on two workers: each finds out from the checkpoint
// what happened, and nothing is done twice.
func TestLostCommitAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	var lost atomic.Int64
	stop := make(chan struct{})
	stopped := make(chan struct{}, 2)
	var ways []*wire.Proxy
	for i := range 2 {
		way, dsn := w.through()
		ways = append(ways, way)
		// So that each batch's text stands in the message that executes it. COMMIT follows in the same message.
		w.start(dsn+"&default_query_exec_mode=exec", workerName(i), workload.NewRecorder(recorded[0], workerName(i)))
	}
	w.append(1)
	w.awaitDrained() // a start takes several transactions
	for _, way := range ways {
		go func() {
			defer func() { stopped <- struct{}{} }()
			for lost.Load() < 100 { // or a slow machine has no time for anything else
				select {
				case <-way.LoseAnswer([]byte("orchestrator_checkpoints SET position = greatest("), nil):
					lost.Add(1)
				case <-stop:
					return
				}
				select {
				case <-time.After(50 * time.Millisecond):
				case <-stop:
					return
				}
			}
		}()
	}
	w.append(100)
	w.awaitDrained()
	close(stop)
	<-stopped
	<-stopped
	assert.Greater(t, lost.Load(), int64(5), "hardly an answer was lost")
	w.append(10) // with a trap at most on each wire
	w.awaitDrained()
	w.prove()
}
