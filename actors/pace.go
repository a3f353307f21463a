package actors

import (
	"math"
	"time"
)

// pace is how fast positions are drawn, as probes see it: a mean over about
// paceOver, in which what was long ago weighs less. Over less, events that were held
// up for an instant and come together would pass for a stream. The zero value is that
// of events that do not come.
type pace struct {
	mean float64 // positions a millisecond
	fast bool    // they are a stream: see streams
}

const (
	paceOver = 50 * time.Millisecond
	// paceFast positions a millisecond are a stream, until they are paceSlow.
	paceFast = 2
	paceSlow = 0.75
)

// add takes in that so many positions came over a time.
func (p *pace) add(came int64, over time.Duration) {
	if over <= 0 {
		return
	}
	now := float64(came) * float64(time.Millisecond) / float64(over)
	p.mean -= math.Expm1(-float64(over)/float64(paceOver)) * (now - p.mean)
	switch {
	case p.mean >= paceFast:
		p.fast = true
	case p.mean < paceSlow:
		p.fast = false
	}
}

// streams says whether events come so fast that handling many together, at the
// horizon's own pace, is better than being told of each.
func (p *pace) streams() bool { return p.fast }
