package main

import (
	"slices"
	"time"
)

// firstOf is when a worker committed its first batch, and when it had called Run.
func firstOf(batches []batch, worker string) (ran, committed time.Time, found bool) {
	for _, b := range batches {
		if b.worker == worker {
			return b.ranAt, b.committed, true
		}
	}
	return ran, committed, false
}

// recovered is when, for each bucket, a batch with an event of it was committed for which counts says yes; that is the latest
// of the buckets' first. It is false while a bucket lacks one.
func recovered(batches []batch, buckets int, counts func(batch) bool) (time.Time, bool) {
	all := uint64(1)<<buckets - 1 // for 64 the shift gives 0, and all bits
	seen := uint64(0)
	for _, b := range batches { // in the order of the commits
		if !counts(b) {
			continue
		}
		if seen |= b.buckets; seen&all == all {
			return b.committed, true
		}
	}
	return time.Time{}, false
}

// later counts batches of generations after one, by others than a worker.
func later(generation int64, than string) func(batch) bool {
	return func(b batch) bool { return b.generation > generation && b.worker != than }
}

// pause is a worker that stood still at a change of generation: from its last commit under one to its first under a later one.
type pause struct {
	worker     string
	generation int64 // the later one
	from, to   time.Time
}

// pauses are those of all workers at changes to generations after one, in the order in which they ended.
func pauses(batches []batch, after int64) []pause {
	last := map[string]batch{}
	var all []pause
	for _, b := range batches {
		before, seen := last[b.worker]
		last[b.worker] = b
		if seen && b.generation != before.generation && b.generation > after {
			all = append(all, pause{b.worker, b.generation, before.committed, b.committed})
		}
	}
	return all
}

// longestPause is the longest that one of the workers stood still, all changes after a generation together.
func longestPause(batches []batch, after int64, workers []string) (longest time.Duration) {
	sums := map[string]time.Duration{}
	for _, p := range pauses(batches, after) {
		sums[p.worker] += p.to.Sub(p.from)
	}
	for _, w := range workers {
		longest = max(longest, sums[w])
	}
	return longest
}

// summedPause adds up, over all changes to generations after one, the longest that a worker stood still. Where a worker sleeps
// through a whole generation, its pause overlaps those of several changes: for pauses that overlap, no more is counted than the
// time from the first one's beginning to the last one's end.
func summedPause(batches []batch, after int64) (sum time.Duration) {
	all := pauses(batches, after)
	slices.SortFunc(all, func(a, b pause) int { return a.from.Compare(b.from) })
	for len(all) > 0 {
		group, end := 1, all[0].to
		for group < len(all) && all[group].from.Before(end) {
			if all[group].to.After(end) {
				end = all[group].to
			}
			group++
		}
		sum += min(end.Sub(all[0].from), longestOfEachChange(all[:group]))
		all = all[group:]
	}
	return sum
}

// longestOfEachChange adds up the longest pause of each change.
func longestOfEachChange(all []pause) (sum time.Duration) {
	longest := map[int64]time.Duration{}
	for _, p := range all {
		longest[p.generation] = max(longest[p.generation], p.to.Sub(p.from))
	}
	for _, d := range longest {
		sum += d
	}
	return sum
}
