package actors

import "time"

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
