package actors

import (
	"sync"
	"time"
)

// notices keeps what goes on from being logged all the time. It is safe for concurrent use.
type notices struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due says whether it is time to log a thing: not if it was less than the interval ago.
func (n *notices) due(thing string, interval time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if last, is := n.last[thing]; is && now.Sub(last) < interval {
		return false
	}
	if n.last == nil {
		n.last = map[string]time.Time{}
	}
	n.last[thing] = now
	return true
}
