package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/workload"
)

// freezing measures one of four workers that is stopped where it is, in turn at any moment and inside a batch.
func freezing() scenario {
	return scenario{
		figures: []string{"freeze"}, repetitions: 12,
		options: stageOptions{load: steadyLoad, worker: func(spec *workload.WorkerSpec, _ int) error {
			spec.StaleWorkerTimeout, spec.HeartbeatInterval = freezeStale, freezeHeartbeat
			return nil
		}},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 4) },
		repeat:  repeatFreeze,
	}
}

func repeatFreeze(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, time.Second); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	victim, inBatch := s.draw(), i%2 == 0
	at, err := s.freeze(ctx, victim, inBatch)
	if err != nil {
		return err
	}
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	s.report.addTime("freeze", took)
	if inBatch {
		s.report.addTime("freeze-in-batch", took)
	} else {
		s.report.addTime("freeze-outside", took)
	}
	changed, rejoined, err := s.comeBack(ctx, victim, before.generation, s.workers[victim].Thaw)
	if err != nil {
		return err
	}
	s.report.add("freeze-rows", float64(changed))
	s.report.addTime("freeze-rejoin", rejoined)
	s.tell(i, "%s (leader: %t, in a batch: %t), then changed %d rows and rejoined in %s", took, victim == leader, inBatch, changed, rejoined)
	return nil
}

// freeze stops a worker, and returns when it was seen to have stopped.
func (s *stage) freeze(ctx context.Context, name string, inBatch bool) (time.Time, error) {
	p := s.workers[name]
	var err error
	if inBatch {
		err = syscall.Kill(p.PID, freezeInBatch)
	} else {
		err = p.Freeze()
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("freezing worker %s: %w", name, err)
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	limit := time.After(patience)
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
		if err != nil {
			return time.Time{}, fmt.Errorf("looking whether worker %s has stopped: %w", name, err)
		}
		if stoppedBySignal(string(status)) {
			return time.Now(), nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-limit:
			return time.Time{}, fmt.Errorf("worker %s has not stopped: it handled no batch for %s", name, patience)
		}
	}
}

// stoppedBySignal says whether /proc's status is that of a process that a signal has stopped.
func stoppedBySignal(status string) bool {
	for line := range strings.Lines(status) {
		if state, found := strings.CutPrefix(line, "State:"); found {
			return strings.HasPrefix(strings.TrimSpace(state), "T ")
		}
	}
	return false
}

const sqlRowsOf = `
SELECT count(*) FROM recovery_batches WHERE projection = $1 AND worker = $2 AND generation <= $3`

// comeBack lets a worker go on that was away, waits until it handles events again under a new generation, and returns how many
// rows it changed under the old one meanwhile, and how long it took.
func (s *stage) comeBack(ctx context.Context, name string, old int64, goOn func() error) (changed int, took time.Duration, err error) {
	var before, after int
	if err := s.pool.QueryRow(ctx, sqlRowsOf, replicaSet, name, old).Scan(&before); err != nil {
		return 0, 0, fmt.Errorf("counting the rows of worker %s: %w", name, err)
	}
	at := time.Now()
	if err := goOn(); err != nil {
		return 0, 0, err
	}
	if _, err := s.settle(ctx, replicaSet); err != nil {
		return 0, 0, err
	}
	if err := s.pool.QueryRow(ctx, sqlRowsOf, replicaSet, name, old).Scan(&after); err != nil {
		return 0, 0, fmt.Errorf("counting the rows of worker %s: %w", name, err)
	}
	batches, err := s.batches(ctx, replicaSet, at)
	if err != nil {
		return 0, 0, err
	}
	for _, b := range batches {
		if b.worker == name && b.generation > old && b.committed.After(at) {
			return after - before, b.committed.Sub(at), nil
		}
	}
	return 0, 0, fmt.Errorf("worker %s has committed nothing since it came back", name)
}
