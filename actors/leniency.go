package actors

import "time"

// leniency is how long reading may wait for processors that are about to fall out of
// the window, from where they must read alone, or have just done so: those that are as fast as
// the others, and stood still for some milliseconds, come on meanwhile. What
// is used up comes back slowly, so that one that is slower for good holds the others
// back by little. It is a value of the reader's goroutine and does no I/O.
type leniency struct {
	left    time.Duration
	at      time.Time // when that was so
	waiting bool      // since then
}

const (
	// mostLeniency is how long at most is waited.
	mostLeniency = 100 * time.Millisecond
	// leniencyShare is the part of the time that may be waited for good: one in so many.
	leniencyShare = 10
)

// wait is how much longer to wait, now that somebody is about to fall out or not.
// After leniency has run out, none is begun with less than half of it.
func (p *leniency) wait(crowded bool, now time.Time) time.Duration {
	passed := now.Sub(p.at)
	p.at = now
	if p.waiting {
		p.left = max(0, p.left-passed)
	} else {
		p.left = min(mostLeniency, p.left+passed/leniencyShare)
	}
	p.waiting = crowded && p.left > 0 && (p.waiting || p.left >= mostLeniency/2)
	if !p.waiting {
		return 0
	}
	return p.left
}
