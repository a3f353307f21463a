package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// firstWorker measures a worker that is alone, in turn in a replica set that is new and in one that everybody has left.
func firstWorker() scenario {
	return scenario{
		figures: []string{"first-worker"}, repetitions: 50, options: stageOptions{load: steadyLoad},
		repeat: repeatFirstWorker, unchecked: true,
	}
}

func repeatFirstWorker(ctx context.Context, s *stage, i int) error {
	in := fmt.Sprintf("%s-%d", replicaSet, i/2)
	since := time.Now()
	name, err := s.start(in)
	if err != nil {
		return err
	}
	if _, err := s.settle(ctx, in); err != nil {
		return err
	}
	batches, err := s.batches(ctx, in, since)
	if err != nil {
		return err
	}
	ran, committed, found := firstOf(batches, name)
	if !found {
		return errors.New("the worker's first batch is missing")
	}
	s.report.addTime("first-worker", committed.Sub(ran))
	s.tell(i, "%s", committed.Sub(ran))
	if _, _, err := s.terminate(ctx, name); err != nil {
		return err
	}
	return s.pause(ctx, 500*time.Millisecond)
}
