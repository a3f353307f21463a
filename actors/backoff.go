package actors

import (
	"math/rand/v2"
	"time"
)

// backoff is a capped exponential delay.
type backoff struct {
	First, Max time.Duration
}

// after is the delay after so many failures in a row, counted from 1, with
// jitter: between half of First·2^(failures-1), or of Max, and the whole.
func (b backoff) after(failures int) time.Duration {
	whole := b.ceiling(failures)
	return whole/2 + rand.N(whole/2+1)
}

// ceiling is the longest delay after so many failures in a row.
func (b backoff) ceiling(failures int) time.Duration {
	whole := b.First
	for range failures - 1 {
		if whole *= 2; whole >= b.Max {
			return b.Max
		}
	}
	return min(whole, b.Max)
}

// crashes counts the crashes of one child within a window, so that the backoff
// grows with a crash loop and is forgotten after health.
type crashes struct {
	window time.Duration
	at     []time.Time
}

// add counts a crash at now and returns how many there were within the window.
func (c *crashes) add(now time.Time) int {
	for len(c.at) > 0 && now.Sub(c.at[0]) > c.window {
		c.at = c.at[1:]
	}
	c.at = append(c.at, now)
	return len(c.at)
}
