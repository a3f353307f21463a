package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"
)

// injectedFailure is what a handler does wrong with an event.
type injectedFailure int

const (
	behave   injectedFailure = iota
	slow                     // takes its time
	hang                     // waits for the end of its context
	hangDeaf                 // waits and does not look at its context
	panics                   // after it has written
	fails                    // after it has written
	strays                   // leaves a search_path behind that leads elsewhere
	demotes                  // switches to a role that may do nothing, until the transaction ends
	poisons                  // fails again and again
	undoes                   // rolls back what it has written, and begins another transaction
)

// injectedFailures says how many events of 100,000 meet each, and how often in a row.
var injectedFailures = []struct {
	failure injectedFailure
	fault   fault
	share   uint64
	times   uint64 // at most
	least   time.Duration
	most    time.Duration
}{
	{slow, faultSlow, 250, 1, 20 * time.Millisecond, 250 * time.Millisecond},
	{hang, faultHang, 10, 1, 2 * time.Second, 6 * time.Second},
	{hangDeaf, faultHang, 10, 1, 2 * time.Second, 6 * time.Second},
	{panics, faultPanic, 80, 3, 0, 0},
	{fails, faultFail, 160, 4, 0, 0},
	{poisons, faultPoison, 150, 12, 0, 0},
	{strays, faultPath, 60, 1, 0, 0},
	{demotes, faultLocal, 60, 1, 0, 0},
	{undoes, faultRollback, 60, 1, 0, 0},
}

// failurePlan draws failures: the same for the same seed, projection and position, in whatever process.
type failurePlan struct {
	Seed   uint64
	Dir    string // where the failures that have happened are marked
	Faults []fault
}

// draw says what is to happen with an event, and for how long. A failure happens a set number of times, to whichever worker comes
// by, so that the event gets through in the end.
func (m failurePlan) draw(projection string, position int64) (injectedFailure, time.Duration, error) {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", m.Seed, projection, position)
	sum := mix(h.Sum64())
	lot := sum % 100_000
	for _, p := range injectedFailures {
		if !has(m.Faults, p.fault) {
			continue
		}
		if lot >= p.share {
			lot -= p.share
			continue
		}
		times := 1 + mix(sum+1)%p.times
		happens, err := m.mark(fmt.Sprintf("%s-%d", projection, position), times)
		if !happens || err != nil {
			return behave, 0, err
		}
		return p.failure, p.least + time.Duration(mix(sum+2)%uint64(p.most-p.least+1)), nil
	}
	return behave, 0, nil
}

// mark counts a failure in the file system, for all workers; false if it has happened times times.
func (m failurePlan) mark(name string, times uint64) (bool, error) {
	for i := range times {
		file, err := os.OpenFile(filepath.Join(m.Dir, fmt.Sprintf("%s-%d", name, i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err == nil {
			return true, file.Close()
		}
		if !errors.Is(err, os.ErrExist) {
			return false, fmt.Errorf("marking a failure: %w", err)
		}
	}
	return false, nil
}

// mix scrambles a number, as splitmix64 does.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
