package main

import (
	"context"
	"fmt"
	"time"
)

// killing measures the death of one of four workers. Without sessions only heartbeats tell, so that each takes half a minute.
func killing(env settings) scenario {
	repetitions := 50
	if env.pollOnly {
		repetitions = 10
	}
	return scenario{
		figures: []string{"kill"}, repetitions: repetitions, options: stageOptions{load: steadyLoad},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 3) },
		repeat:  repeatKill,
	}
}

func repeatKill(ctx context.Context, s *stage, i int) error {
	if _, err := s.start(replicaSet); err != nil {
		return err
	}
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	victim := s.draw()
	at, err := s.kill(victim)
	if err != nil {
		return err
	}
	took, err := s.awaitRecovery(ctx, at, later(before.generation, victim))
	if err != nil {
		return err
	}
	detected, err := s.detected(ctx, victim, at)
	if err != nil {
		return err
	}
	s.report.addTime("kill", took)
	s.report.addTime("kill-detected", detected)
	if victim == leader {
		s.report.addTime("kill-leader", took)
	} else {
		s.report.addTime("kill-follower", took)
	}
	s.tell(i, "%s (leader: %t), declared dead after %s", took, victim == leader, detected)
	return nil
}

// detected is how long after at the worker was declared dead.
func (s *stage) detected(ctx context.Context, worker string, at time.Time) (time.Duration, error) {
	var when time.Time
	err := s.pool.QueryRow(ctx, "SELECT max(state_changed_at) FROM orchestrator_workers WHERE name = $1 AND state = 'dead'", worker).Scan(&when)
	if err != nil {
		return 0, fmt.Errorf("reading when worker %s was declared dead: %w", worker, err)
	}
	return when.Sub(at), nil
}

// awaitRecovery waits until every bucket has been handled by a batch that counts, and returns how long after at that was.
func (s *stage) awaitRecovery(ctx context.Context, at time.Time, counts func(batch) bool) (took time.Duration, err error) {
	err = s.until(ctx, "everything is handled again", func() (bool, error) {
		batches, err := s.batches(ctx, replicaSet, at)
		if err != nil {
			return false, err
		}
		when, ok := recovered(batches, s.options.load.buckets, counts)
		took = when.Sub(at)
		return ok, nil
	})
	return took, err
}
