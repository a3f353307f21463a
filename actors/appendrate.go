package actors

import (
	"math"
	"time"
)

// appendRate is how fast positions are allocated, as probes see it. It is an
// exponentially weighted mean over about rateOver. Over a shorter time, events that were
// held up for an instant and then come together would look like a stream. The zero value
// is a rate of zero.
type appendRate struct {
	mean float64 // positions a millisecond
	fast bool    // they are a stream: see streams
}

const (
	rateOver = 50 * time.Millisecond
	// rateFast positions a millisecond are a stream, until they are rateSlow.
	rateFast = 2
	rateSlow = 0.75
)

// add takes in that so many positions came over a time.
func (r *appendRate) add(came int64, over time.Duration) {
	if over <= 0 {
		return
	}
	r.mean = approach(r.mean, came, over, rateOver)
	switch {
	case r.mean >= rateFast:
		r.fast = true
	case r.mean < rateSlow:
		r.fast = false
	}
}

// streams says whether events come so fast that handling many together, at the
// horizon's own interval, is better than being told of each.
func (r *appendRate) streams() bool { return r.fast }

// crowd is whether appends are notified so fast that looking often is better than
// being told: notifying commits wait for each other, and each wakes all listeners. It is
// noticed by a leaky bucket, within milliseconds, where an appendRate takes tens of them: events that were
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

// measure takes in how fast positions were allocated lately. A crowd is not notified
// any more, so only the rate shows that it has ended.
func (c *crowd) measure(r appendRate, now time.Time) {
	if now.Sub(c.since) >= crowdLeast && r.mean < rateSlow {
		c.since = time.Time{}
	}
}

// is says whether there is one.
func (c *crowd) is() bool { return !c.since.IsZero() }

// approach is an exponentially weighted mean, over about a time, of positions a millisecond, after so many more came.
func approach(mean float64, came int64, in, over time.Duration) float64 {
	now := float64(came) * float64(time.Millisecond) / float64(in)
	return mean - math.Expm1(-float64(in)/float64(over))*(now-mean)
}

// pace says how often to look for events without waiting for a notification. The zero value means that events are rare.
type pace struct {
	mean  float64 // positions a millisecond
	often bool    // looking less often finds several at once, which costs less
	high  bool    // looking costs less than being notified: a notification wakes the sessions of all workers
}

const (
	// paceOver is over how long the mean is taken.
	paceOver = time.Second
	// paceOften positions a millisecond come often, until they are paceSeldom.
	paceOften  = 0.07
	paceSeldom = 0.05
	// wokenHigh sessions woken a millisecond are too many, until they are wokenLow.
	wokenHigh = 1
	wokenLow  = 0.5
)

// add takes in that so many positions came over a time, with so many workers.
func (p *pace) add(came int64, over time.Duration, workers int) {
	if over <= 0 {
		return
	}
	p.mean = approach(p.mean, came, over, paceOver)
	p.often = p.mean >= paceOften || p.often && p.mean >= paceSeldom
	woken := p.mean * float64(workers-1)
	p.high = woken >= wokenHigh || p.high && woken >= wokenLow
}
