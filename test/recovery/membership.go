package main

import (
	"context"
	"errors"
	"time"
)

// membership measures a fourth worker that joins three, and one of the four that leaves.
func membership() scenario {
	return scenario{
		figures: []string{"join", "join-pause", "leave-pause", "leave-return"}, repetitions: 50,
		options: stageOptions{load: steadyLoad},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, 3) },
		repeat: func(ctx context.Context, s *stage, i int) error {
			if err := repeatJoin(ctx, s, i); err != nil {
				return err
			}
			return repeatLeave(ctx, s, i)
		},
	}
}

func repeatJoin(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	if err := s.pause(ctx, 500*time.Millisecond); err != nil {
		return err
	}
	others, since := s.names(), time.Now()
	name, err := s.start(replicaSet)
	if err != nil {
		return err
	}
	if _, err := s.settle(ctx, replicaSet); err != nil {
		return err
	}
	batches, err := s.batches(ctx, replicaSet, since)
	if err != nil {
		return err
	}
	ran, committed, found := firstOf(batches, name)
	if !found {
		return errors.New("the first batch of the worker that joined is missing")
	}
	pause := longestPause(batches, before.generation, others)
	s.report.addTime("join", committed.Sub(ran))
	s.report.addTime("join-pause", pause)
	s.tell(i, "joined in %s, others paused for %s", committed.Sub(ran), pause)
	return nil
}

func repeatLeave(ctx context.Context, s *stage, i int) error {
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
	name := s.draw()
	asked, returned, err := s.terminate(ctx, name)
	if err != nil {
		return err
	}
	if _, err := s.settle(ctx, replicaSet); err != nil {
		return err
	}
	batches, err := s.batches(ctx, replicaSet, asked)
	if err != nil {
		return err
	}
	pause := longestPause(batches, before.generation, s.names())
	s.report.addTime("leave-return", returned.Sub(asked))
	s.report.addTime("leave-pause", pause)
	s.tell(i, "left in %s (leader: %t), others paused for %s", returned.Sub(asked), name == leader, pause)
	return nil
}
