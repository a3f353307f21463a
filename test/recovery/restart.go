package main

import (
	"context"
	"fmt"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/test/pgtest"
)

const restartedWorkers = 8

// restarting measures a restart of the database under eight workers, in turn a fast one and one that recovers from the log.
func restarting() scenario {
	return scenario{
		figures: []string{"db-restart"}, repetitions: 6, options: stageOptions{load: restartLoad},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, restartedWorkers) },
		repeat:  repeatRestart,
	}
}

// aftermath is how long after a restart generations are counted: longer than the library's grace for sessions, and than its
// backoff when it connects again.
const aftermath = 8 * time.Second

func repeatRestart(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, 2*time.Second); err != nil {
		return err
	}
	mode, said := pgtest.Fast, "fast"
	if i%2 == 1 {
		mode, said = pgtest.Immediate, "immediate"
	}
	if err := s.cluster.Stop(mode); err != nil {
		return err
	}
	down := time.Now()
	if err := s.cluster.Start(); err != nil {
		return err
	}
	accepting := time.Now()
	since := func(b batch) bool { return b.committed.After(down) }
	took, err := s.awaitRecovery(ctx, accepting, since)
	if err != nil {
		return err
	}
	// Start looks whether the server is ready every few milliseconds, so a worker may have been there before.
	took = max(took, 0)
	if err := wait(ctx, time.Until(accepting.Add(aftermath))); err != nil {
		return err
	}
	after, err := s.settle(ctx, replicaSet) // it fails if a worker's process has ended
	if err != nil {
		return fmt.Errorf("after a restart (%s): %w", said, err)
	}
	s.report.addTime("db-restart", took)
	s.report.add("db-restart-generations", float64(after.generation-before.generation))
	s.tell(i, "%s (%s), %d new generations", took, said, after.generation-before.generation)
	return nil
}
