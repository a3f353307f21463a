package main

import (
	"sync"
	"sync/atomic"
	"time"
)

// outcome is how far a job is.
type outcome struct {
	Done    bool
	Err     string
	Events  int64 // read, handled or appended
	Began   int64 // when, in Unix nanoseconds
	Ended   int64 // of the last one
	CPU     time.Duration
	Server  time.Duration // of the server's processes, where it was measured
	Peak    int64         // bytes of resident memory
	Allocs  uint64
	Bytes   uint64
	Moments []moment // with the answer to stop only
}

// seconds is how long the job took.
func (o outcome) seconds() float64 { return float64(o.Ended-o.Began) / float64(time.Second) }

// serverTime is the server's processor time in microseconds per event.
func (o outcome) serverTime() float64 {
	return float64(o.Server) / float64(time.Microsecond) / float64(o.Events)
}

// rate is events a second.
func (o outcome) rate() float64 { return float64(o.Events) / o.seconds() }

// and is both outcomes together.
func (o outcome) and(other outcome) outcome {
	if o.Began == 0 || (other.Began != 0 && other.Began < o.Began) {
		o.Began = other.Began
	}
	o.Ended = max(o.Ended, other.Ended)
	o.Events += other.Events
	o.CPU += other.CPU
	return o
}

// moment is when something happened to the event with a number.
type moment struct {
	Number int64
	At     int64 // Unix nanoseconds
}

// progress is what a job notes down. Its methods may be called by several goroutines.
type progress struct {
	begun atomic.Int64

	mu       sync.Mutex
	counters []*counter
	moments  []moment
	allocs   uint64
	bytes    uint64
	failure  error
}

// begin notes that it begins, at the first call.
func (p *progress) begin() { p.begun.CompareAndSwap(0, time.Now().UnixNano()) }

// counter counts events up to how many are wanted; 0 if that is not known.
func (p *progress) counter(want int64) *counter {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &counter{want: want}
	p.counters = append(p.counters, c)
	return c
}

// note notes a moment, which is now.
func (p *progress) note(number int64) {
	now := time.Now().UnixNano()
	p.mu.Lock()
	p.moments = append(p.moments, moment{number, now})
	p.mu.Unlock()
}

// allocated notes what reading has allocated.
func (p *progress) allocated(allocs, bytes uint64) {
	p.mu.Lock()
	p.allocs, p.bytes = allocs, bytes
	p.mu.Unlock()
}

func (p *progress) fail(err error) {
	p.mu.Lock()
	p.failure = err
	p.mu.Unlock()
}

// outcome is how far the job is.
func (p *progress) outcome(withMoments bool) outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := outcome{Done: len(p.counters) > 0, Began: p.begun.Load(), Allocs: p.allocs, Bytes: p.bytes}
	for _, c := range p.counters {
		o.Events += c.events()
		o.Ended = max(o.Ended, c.last.Load())
		o.Done = o.Done && c.all.Load()
	}
	if p.failure != nil {
		o.Err = p.failure.Error()
	}
	if withMoments {
		o.Moments = p.moments
	}
	o.CPU, o.Peak = processorTime(), peakMemory()
	return o
}

// counter counts events.
type counter struct {
	want int64
	n    atomic.Int64
	last atomic.Int64 // when the last one was counted, or, where it is not known which is the last, one of the last 64
	all  atomic.Bool  // no more will come
}

const stampEvery = 64

// add counts some events. Not every one is worth a look at the clock.
func (c *counter) add(events int64) {
	after := c.n.Add(events)
	before := after - events
	reached := before < c.want && c.want <= after
	if reached || (c.want == 0 && (before == 0 || before/stampEvery != after/stampEvery)) {
		c.last.Store(time.Now().UnixNano())
		c.all.Store(reached)
	}
}

// events is how many of those that are wanted were counted.
func (c *counter) events() int64 {
	if n := c.n.Load(); c.want == 0 || n < c.want {
		return n
	}
	return c.want
}

// finish notes that what was counted is all.
func (c *counter) finish() {
	c.last.Store(time.Now().UnixNano())
	c.all.Store(true)
}
