package main

import (
	"context"
	"time"
)

const rollingWorkers = 10

// rolling measures a rolling restart of ten workers: each leaves, and its successor must handle events before the next leaves.
func rolling() scenario {
	return scenario{
		figures: []string{"rolling"}, repetitions: 50, options: stageOptions{load: wideLoad},
		prepare: func(ctx context.Context, s *stage) error { return s.startMany(ctx, rollingWorkers) },
		repeat:  repeatRolling,
	}
}

func repeatRolling(ctx context.Context, s *stage, i int) error {
	before, err := s.settle(ctx, replicaSet)
	if err != nil {
		return err
	}
	began := time.Now()
	var after situation
	for _, name := range s.names() {
		if _, _, err := s.terminate(ctx, name); err != nil {
			return err
		}
		if _, err := s.start(replicaSet); err != nil {
			return err
		}
		if after, err = s.assemble(ctx, replicaSet); err != nil {
			return err
		}
	}
	batches, err := s.batches(ctx, replicaSet, began)
	if err != nil {
		return err
	}
	paused := summedPause(batches, before.generation)
	took := allHandling(batches, s.names(), after.generation).Sub(began)
	s.report.addTime("rolling", paused)
	s.report.addTime("rolling-took", took)
	s.report.add("rolling-generations", float64(after.generation-before.generation))
	s.tell(i, "others paused for %s in %d generations, all took %s", paused, after.generation-before.generation, took)
	return nil
}
