package dbfault

import (
	"math/rand/v2"
	"time"
)

// Backoff is an exponential delay with an upper bound.
type Backoff struct {
	// First is the longest delay after the first failure. Each further failure doubles it, up to Max.
	First, Max time.Duration
}

// After returns the delay after so many failures in a row, counted from 1. It is random between a half and the whole of
// First·2^(failures-1), or of Max.
func (b Backoff) After(failures int) time.Duration {
	whole := b.Ceiling(failures)
	return whole/2 + rand.N(whole/2+1)
}

// Ceiling returns the longest delay after so many failures in a row.
func (b Backoff) Ceiling(failures int) time.Duration {
	whole := b.First
	for range failures - 1 {
		if whole *= 2; whole >= b.Max {
			return b.Max
		}
	}
	return min(whole, b.Max)
}
