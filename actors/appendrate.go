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
	now := float64(came) * float64(time.Millisecond) / float64(over)
	r.mean -= math.Expm1(-float64(over)/float64(rateOver)) * (now - r.mean)
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
// being told: notifying commits wait for each other, and each wakes whoever listens. It is
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

// toll is what notifications cost the server: each wakes the sessions of all workers. The zero value is no cost.
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
