// Package lag computes how long events have waited. It remembers which position the stream had reached at which time.
// Everything except its clock is pure.
package lag

import (
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// Resolution is the least time between a sample that is kept and the next but one.
	Resolution = 100 * time.Millisecond
	// share is the part of a sample's age that lies at most between it and the next one, once it is old enough: one in so many.
	share = 16
	// most is how many samples there may be before they are thinned. One in 16 of each age, over 30 days, are some 270.
	most = 1024
	// Longest is how long a sample is kept.
	Longest = 30 * 24 * time.Hour
)

// Sample says that the stream went up to a position at a time, on a clock of the caller's.
type Sample struct {
	At       time.Duration
	Position int64
}

// History is the samples of one stream. The zero value is empty. It is safe for concurrent use.
type History struct {
	mu      sync.Mutex
	samples []Sample // in order: both times and positions rise
}

// Add takes in a sample. A position that is lower than one before means that the stream was set back: what lies above it is forgotten.
func (h *History) Add(s Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = slices.DeleteFunc(h.samples, func(old Sample) bool { return old.Position > s.Position })
	n := len(h.samples)
	switch {
	case n > 0 && h.samples[n-1].Position == s.Position:
		return // by the earlier one, events wait for longer
	case n > 1 && s.At-h.samples[n-2].At < Resolution:
		h.samples[n-1] = s // the last of a burst counts, since there may be no other for long
		return
	}
	h.samples = append(h.samples, s)
	if len(h.samples) > most {
		h.samples = thin(h.samples, s.At)
	}
}

// Precede takes in samples from before the first one, in order, as they were stored.
func (h *History) Precede(stored []Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.samples) > 0 {
		first := h.samples[0]
		stored = slices.DeleteFunc(slices.Clone(stored), func(old Sample) bool { return old.Position >= first.Position || old.At >= first.At })
	}
	h.samples = append(slices.Clone(stored), h.samples...)
}

// Since is how long an event above the position has been there, at least; 0 if none is known. It may have been there for as much longer as passed between two
// samples: Resolution, or a sixteenth of the answer.
func (h *History) Since(position int64, now time.Duration) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := sort.Search(len(h.samples), func(i int) bool { return h.samples[i].Position > position })
	if i == len(h.samples) {
		return 0
	}
	return max(0, now-h.samples[i].At)
}

// thin leaves out samples that are too close to the one before for their age, and those that are too old.
func thin(all []Sample, now time.Duration) []Sample {
	kept := all[:0:0]
	for i, s := range all {
		age := now - s.At
		old := age > Longest && i < len(all)-1
		if !old && (len(kept) == 0 || s.At-kept[len(kept)-1].At >= age/share) {
			kept = append(kept, s)
		}
	}
	return kept
}

var began = time.Now()

// Now is the time on the clock of this process, which is monotonic.
func Now() time.Duration { return time.Since(began) }
