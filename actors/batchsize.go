package actors

import (
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
)

// batchSize finds how many events a processor's batches may have, by how long those
// before took: such that the events of a batch take at most BatchConfig.Time, and about
// half of it at least. What a batch takes whatever its events (a call of a remote service,
// a slow commit) does not count, since smaller batches would not take less of it, and
// where it takes longer than that time the events may take as long.
type batchSize struct {
	most  int
	time  time.Duration
	whole bool // the handler gets the batch as a whole, which is not cut when it takes long

	next   int                      // events of the next batch, at most
	again  time.Time                // the next batch is not begun before: the handler of a larger one has asked for a delay
	fixed  [estimates]time.Duration // what a batch takes whatever its events, by each of the last estimates
	stable int                      // batches since the last estimate, or try
	last   struct {                 // the batch that others are compared with
		events int
		took   time.Duration
	}
}

const (
	// firstBatch is the most events of the first call of a HandleBatch.
	firstBatch = 16
	// estimateEvery batches of about one size are followed by one that is larger, or
	// smaller, by half of it, to be compared with: what a batch takes whatever its events
	// may have changed.
	estimateEvery = 8
	// estimates is of how many in a row the lowest counts, since one is as uncertain
	// as the two batches that it is made of.
	estimates = 3
)

// newBatchSize is the size of a processor's first batch.
func newBatchSize(b BatchConfig, handler handling.Projection) batchSize {
	s := batchSize{most: b.Size, time: b.Time, next: b.Size, stable: estimateEvery}
	if _, s.whole = handler.(handling.BatchHandler); s.whole {
		s.next = min(firstBatch, b.Size)
	}
	return s
}

// learn sizes the next batch by one that took so long, of which offered events were
// at hand and handled were handled.
func (s *batchSize) learn(handled, offered int, took time.Duration) {
	s.estimate(handled, took)
	fixed := min(took, slices.Min(s.fixed[:]))
	ofEvents, may := took-fixed, max(s.time, fixed)
	fit := s.most // so many events would take as long as they may
	if ofEvents > 0 {
		fit = int(min(float64(s.most), max(1, float64(handled)*float64(may)/float64(ofEvents))))
	}
	compare := s.stable >= estimateEvery
	switch {
	case handled < offered:
		s.next = handled // it was cut
	case ofEvents > may && compare && handled > 1:
		s.next = min(fit, 2*handled/3)
	case ofEvents > may && !compare:
		s.next = fit
	case handled < s.next:
		if s.whole { // few were at hand, which show less of many
			s.next = min(s.next, max(handled, fit))
		}
		return
	case ofEvents < may/2:
		s.next = min(2*s.next, s.most)
		return
	case compare:
		s.next = min(s.next+(s.next+1)/2, s.most)
	}
	if compare {
		s.last.events, s.last.took, s.stable = handled, took, 0
	}
}

// estimate finds what a batch takes whatever its events: where the line through this
// batch and an earlier one, by events and time, begins. Batches of about the same size
// would say more of the machine's moods.
func (s *batchSize) estimate(events int, took time.Duration) {
	s.stable++
	larger, smaller := max(events, s.last.events), min(events, s.last.events)
	if events != s.last.events && 2*larger < 3*smaller {
		return
	}
	if smaller > 0 && larger != smaller {
		each := max(0, float64(took-s.last.took)/float64(events-s.last.events))
		copy(s.fixed[1:], s.fixed[:])
		s.fixed[0], s.stable = max(0, took-time.Duration(each*float64(events))), 0
	}
	s.last.events, s.last.took = events, took
}
