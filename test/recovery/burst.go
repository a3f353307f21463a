package main

import (
	"context"
	"slices"
	"time"
)

const burstWorkers = 10

// bursting measures ten workers that are started within a second in a replica set that everybody has left.
func bursting() scenario {
	return scenario{
		figures: []string{"burst"}, repetitions: 50, options: stageOptions{load: wideLoad},
		repeat: repeatBurst,
	}
}

func repeatBurst(ctx context.Context, s *stage, i int) error {
	before, err := s.observe(ctx, replicaSet)
	if err != nil {
		return err
	}
	delays := make([]time.Duration, burstWorkers)
	for k := range delays {
		delays[k] = time.Duration(s.random.Int64N(int64(time.Second)))
	}
	slices.Sort(delays)
	began := time.Now()
	var last time.Time
	for _, d := range delays {
		if err := wait(ctx, time.Until(began.Add(d))); err != nil {
			return err
		}
		last = time.Now()
		if _, err := s.start(replicaSet); err != nil {
			return err
		}
	}
	after, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	batches, err := s.batches(ctx, replicaSet, began)
	if err != nil {
		return err
	}
	settled := allHandling(batches, s.names(), after.generation).Sub(last)
	s.report.add("burst", float64(after.generation-before.generation))
	s.report.addTime("burst-settled", settled)
	s.tell(i, "%d generations, all settled %s after the last start", after.generation-before.generation, settled)
	return s.terminateAll(ctx)
}

// allHandling is when the last of the workers had committed its first batch of the generation; the zero time if one has not.
func allHandling(batches []batch, workers []string, generation int64) time.Time {
	missing := map[string]bool{}
	for _, w := range workers {
		missing[w] = true
	}
	for _, b := range batches {
		if b.generation == generation {
			if delete(missing, b.worker); len(missing) == 0 {
				return b.committed
			}
		}
	}
	return time.Time{}
}
