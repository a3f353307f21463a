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

// crowd is whether appends are notified so fast that looking often is better than
// being told: notifying commits wait for each other, and each wakes whoever listens. It is
// noticed by a leaky bucket, within milliseconds, where a pace takes tens: events that were
// held up for an instant may pass for a crowd too, which costs little, since they are looked
// for as often as they would be told of. The zero value is that nothing is notified.
type crowd struct {
	bucket float64   // notifications
	last   time.Time // when one came
	since  time.Time // when there were last too many; zero if not, or not any more
}

const (
	// crowdLeak notifications a millisecond, and crowdBucket more, are a crowd.
	crowdLeak   = 1
	crowdBucket = 6
	// crowdLeast is how long at least it is one.
	crowdLeast = 25 * time.Millisecond
)

// add takes in a notification.
func (c *crowd) add(now time.Time) {
	leaked := float64(now.Sub(c.last)) / float64(time.Millisecond) * crowdLeak
	c.bucket, c.last = max(0, c.bucket-leaked)+1, now
	if c.bucket >= crowdBucket {
		c.since = now
	}
}

// measure takes in how fast positions were drawn lately. Who is a crowd is not
// notified any more, so this is what shows that it went.
func (c *crowd) measure(p pace, now time.Time) {
	if now.Sub(c.since) >= crowdLeast && p.mean < paceSlow {
		c.since = time.Time{}
	}
}

// is says whether there is one.
func (c *crowd) is() bool { return !c.since.IsZero() }

// toll is what it costs the server that appends are notified: each wakes the sessions of all workers. The zero value is that of none.
type toll struct {
	mean float64 // positions a millisecond
	high bool    // looking often costs less
}

const (
	// tollOver is over how long the mean is taken.
	tollOver = time.Second
	// tollHigh sessions woken a millisecond are too many, until they are tollLow.
	tollHigh = 1
	tollLow  = 0.5
)

// add takes in that so many positions came over a time, with so many workers.
func (t *toll) add(came int64, over time.Duration, workers int) {
	if over <= 0 {
		return
	}
	now := float64(came) * float64(time.Millisecond) / float64(over)
	t.mean -= math.Expm1(-float64(over)/float64(tollOver)) * (now - t.mean)
	woken := t.mean * float64(workers-1)
	t.high = woken >= tollHigh || t.high && woken >= tollLow
}
