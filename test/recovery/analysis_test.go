package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var epoch = time.Unix(1_000_000, 0)

// at is a moment, in milliseconds.
func at(ms int) time.Time { return epoch.Add(time.Duration(ms) * time.Millisecond) }

// committed is a batch.
func committed(worker string, generation int64, when int, buckets ...int) batch {
	b := batch{worker: worker, generation: generation, committed: at(when), ranAt: epoch}
	for _, k := range buckets {
		b.buckets |= 1 << k
	}
	return b
}

func TestFirstOf(t *testing.T) {
	batches := []batch{committed("a", 1, 1), committed("b", 1, 2), committed("b", 2, 3)}
	ran, when, found := firstOf(batches, "b")
	assert.True(t, found)
	assert.Equal(t, epoch, ran)
	assert.Equal(t, at(2), when)
	_, _, found = firstOf(batches, "c")
	assert.False(t, found)
}

func TestRecoveredIsTheLastBucketsFirstBatch(t *testing.T) {
	batches := []batch{
		committed("b", 4, 1, 0, 1, 2, 3), // before
		committed("v", 5, 2, 0, 1, 2, 3), // the victim itself
		committed("b", 5, 3, 0, 1),
		committed("b", 6, 4, 0),
		committed("c", 6, 5, 2),
		committed("b", 6, 6, 0, 1, 2),
	}
	_, ok := recovered(batches, 4, later(4, "v"))
	assert.False(t, ok, "bucket 3 is missing")
	batches = append(batches, committed("c", 6, 7, 3), committed("c", 6, 8, 3))
	when, ok := recovered(batches, 4, later(4, "v"))
	assert.True(t, ok)
	assert.Equal(t, at(7), when)
}

func TestRecoveredKnowsSixtyFourBuckets(t *testing.T) {
	all := make([]int, 64)
	for i := range all {
		all[i] = i
	}
	counts := later(1, "")
	_, ok := recovered([]batch{committed("a", 2, 1, all[:63]...)}, 64, counts)
	assert.False(t, ok)
	_, ok = recovered([]batch{committed("a", 2, 1, all[:63]...), committed("b", 2, 2, 63)}, 64, counts)
	assert.True(t, ok)
}

// a and b live through two changes; c comes with the second; b skips a generation.
var changes = []batch{
	committed("a", 1, 0), committed("b", 1, 5), committed("a", 1, 10), committed("b", 1, 15),
	committed("a", 2, 40), committed("a", 2, 50),
	committed("c", 3, 70), committed("a", 3, 90), committed("b", 3, 95), committed("a", 3, 300),
}

func TestPauses(t *testing.T) {
	assert.Equal(t, []pause{{"a", 2, at(10), at(40)}, {"a", 3, at(50), at(90)}, {"b", 3, at(15), at(95)}}, pauses(changes, 1))
	assert.Equal(t, []pause{{"a", 3, at(50), at(90)}, {"b", 3, at(15), at(95)}}, pauses(changes, 2), "earlier changes are none of the repetition's")
}

func TestLongestPauseIsOneWorkers(t *testing.T) {
	assert.Equal(t, 80*time.Millisecond, longestPause(changes, 1, []string{"a", "b"}))
	assert.Equal(t, 70*time.Millisecond, longestPause(changes, 1, []string{"a", "c"}))
	assert.Zero(t, longestPause(nil, 1, []string{"a"}))
}

func TestSummedPauseAddsTheLongestOfEachChange(t *testing.T) {
	apart := []batch{
		committed("a", 1, 0), committed("b", 1, 10), committed("b", 2, 25), committed("a", 2, 30),
		committed("a", 2, 80), committed("b", 2, 95), committed("b", 3, 100), committed("a", 3, 130),
	}
	assert.Equal(t, (30+50)*time.Millisecond, summedPause(apart, 1))
	assert.Equal(t, 50*time.Millisecond, summedPause(apart, 2))
	assert.Zero(t, summedPause(apart, 3))
}

func TestSummedPauseCountsNoMomentTwice(t *testing.T) {
	assert.Equal(t, 85*time.Millisecond, summedPause(changes, 1), "from 10 to 95, though the longest of the two changes are 30 and 80")
}

func TestAllHandling(t *testing.T) {
	assert.Equal(t, at(95), allHandling(changes, []string{"a", "b", "c"}, 3))
	assert.True(t, allHandling(changes, []string{"a", "b", "d"}, 3).IsZero())
}

func TestASituationIsCompleteWithExactlyTheseWorkers(t *testing.T) {
	v := situation{state: "active", members: []string{"a", "b"}, handling: []string{"a", "b"}}
	assert.True(t, v.complete([]string{"a", "b"}))
	assert.False(t, v.complete([]string{"a"}), "somebody is a member who should not be")
	v.handling = []string{"b"}
	assert.False(t, v.complete([]string{"a", "b"}), "somebody does not handle events yet")
	v.handling, v.state = v.members, "preparing"
	assert.False(t, v.complete([]string{"a", "b"}))
}

func TestStoppedBySignal(t *testing.T) {
	assert.True(t, stoppedBySignal("Name:\trecovery\nState:\tT (stopped)\nTgid:\t1\n"))
	assert.False(t, stoppedBySignal("Name:\tT \nState:\tS (sleeping)\n"))
	assert.False(t, stoppedBySignal(""))
}

func TestAnIDNamesItsBucket(t *testing.T) {
	for _, bucket := range []int{0, 7, 63} {
		require.Equal(t, bucket, bucketOf(aggregateID(bucket, 123)))
	}
	assert.Equal(t, 0, bucketOf("something else"))
}
