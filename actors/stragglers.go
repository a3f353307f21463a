package actors

import "time"

// stragglerBudget is how long reading may wait for stragglers: processors that are about
// to fall out of the window, or have just done so, and must then read alone. A processor
// that is as fast as the others and stood still for some milliseconds catches up
// meanwhile. The budget refills slowly, so a processor that is always slower holds the
// others back by little. It is a value of the reader's goroutine and does no I/O.
type stragglerBudget struct {
	left    time.Duration
	at      time.Time // when that was so
	waiting bool      // since then
}

const (
	// mostBudget is the longest wait.
	mostBudget = 100 * time.Millisecond
	// budgetShare is the part of the time that may be spent waiting in the long run: one in so many.
	budgetShare = 10
)

// wait is how much longer to wait, given whether a processor is about to fall out.
// After the budget has run out, no wait begins before half of it is back.
func (b *stragglerBudget) wait(crowded bool, now time.Time) time.Duration {
	passed := now.Sub(b.at)
	b.at = now
	if b.waiting {
		b.left = max(0, b.left-passed)
	} else {
		b.left = min(mostBudget, b.left+passed/budgetShare)
	}
	b.waiting = crowded && b.left > 0 && (b.waiting || b.left >= mostBudget/2)
	if !b.waiting {
		return 0
	}
	return b.left
}
