package health

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Loops is what the loops of a worker have said of their progress. It is safe for concurrent use. Its methods do nothing on nil.
type Loops struct {
	unit    time.Duration
	onRound func(loop string)
	began   time.Time

	mu  sync.Mutex
	all map[string]*Loop
}

// Loop is one of them. Its methods do nothing on nil.
type Loop struct {
	loops *Loops
	name  string
	usual time.Duration
	last  atomic.Int64 // when it ended its last round, as nanoseconds since loops.began
	// allowed is how long the round at hand may take, in nanoseconds; 0 while the loop rests.
	allowed atomic.Int64
}

// Status is how a loop is.
type Status struct {
	Name string
	// Last is when it ended its last round, and Allowed how long ago that may be. Allowed is 0 while it rests.
	Last    time.Time
	Allowed time.Duration
	OK      bool
}

// NewLoops makes a record that is empty. unit is what a second is for the loops that are watched: tests have shorter ones. onRound is called
// by a loop at the end of each of its rounds, and at its begin; it may be nil. Tests hold up a loop with it.
func NewLoops(unit time.Duration, onRound func(loop string)) *Loops {
	return &Loops{unit: unit, onRound: onRound, began: time.Now(), all: map[string]*Loop{}}
}

// Unit is how often a loop that has nothing to do is to be asked for a round.
func (l *Loops) Unit() time.Duration {
	if l == nil {
		return time.Second
	}
	return l.unit
}

// Watch begins to watch a loop, whose rounds may take so long. If there is one of the name, it goes on with that: it is another life of the same loop.
func (l *Loops) Watch(name string, allowed time.Duration) *Loop {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	loop := l.all[name]
	if loop == nil {
		loop = &Loop{loops: l, name: name, usual: l.scaled(allowed)}
		loop.last.Store(int64(time.Since(l.began)))
		loop.allowed.Store(int64(loop.usual))
		l.all[name] = loop
	}
	return loop
}

func (l *Loops) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) / float64(time.Second) * float64(l.unit))
}

// Round says that a round has ended, and another begins.
func (l *Loop) Round() {
	if l == nil {
		return
	}
	if l.loops.onRound != nil {
		l.loops.onRound(l.name)
	}
	l.allowed.Store(int64(l.usual))
	l.last.Store(int64(time.Since(l.loops.began)))
}

// Allow says that the round at hand may take so long, if that is longer than usual.
func (l *Loop) Allow(d time.Duration) {
	if l != nil {
		l.allowed.Store(int64(max(l.usual, l.loops.scaled(d))))
	}
}

// Rest says that the loop waits for something that is not the worker's, such as a handler, until its next round.
func (l *Loop) Rest() {
	if l != nil {
		l.allowed.Store(0)
	}
}

// End ends the watch.
func (l *Loop) End() {
	if l == nil {
		return
	}
	l.loops.mu.Lock()
	defer l.loops.mu.Unlock()
	if l.loops.all[l.name] == l {
		delete(l.loops.all, l.name)
	}
}

// End ends all watches.
func (l *Loops) End() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.all)
}

// Status is how the loop is.
func (l *Loop) Status() Status {
	allowed, last := time.Duration(l.allowed.Load()), l.loops.began.Add(time.Duration(l.last.Load()))
	return Status{Name: l.name, Last: last, Allowed: allowed, OK: allowed == 0 || time.Since(last) <= allowed}
}

// Status is how the loops are, ordered by name.
func (l *Loops) Status() []Status {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Status, 0, len(l.all))
	for _, loop := range l.all {
		all = append(all, loop.Status())
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
