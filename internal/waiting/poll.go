package waiting

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/dbfault"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/health"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// The poller is the goroutine of a Hub that looks at the tables while anybody waits: how often it looks, what it asks, and what it tells the waiters. It also asks workers to write
// down how far they are, where a waiter may be waiting for nothing else.

const (
	// The time between two looks grows with the time that the youngest waiter has waited: from leastInterval to usualInterval, and then as a fiftieth of that
	// time, up to mostInterval.
	leastInterval = 5 * time.Millisecond
	usualInterval = 10 * time.Millisecond
	mostInterval  = 250 * time.Millisecond
	// leastPause is the time between two looks at least, whoever begins to wait or commits meanwhile.
	leastPause = 2 * time.Millisecond
	// lookTimeout bounds one look, and the wait for its connection.
	lookTimeout = 5 * time.Second
	// pollerRound is how long a step of the poller may take.
	pollerRound = lookTimeout + 5*time.Second

	// askAfter is how long somebody has waited before the workers are asked to write down how far they are, and askAgain when they are asked again. Workers that only poll
	// are asked sooner: they take longer to find an event, and to learn that somebody waits.
	askAfter       = 15 * time.Millisecond
	askPollersSoon = 5 * time.Millisecond
	askAgain       = 500 * time.Millisecond
	// FlushFor is how long a worker that was asked goes on to do so.
	FlushFor = time.Second
)

var failureBackoff = dbfault.Backoff{First: 20 * time.Millisecond, Max: time.Second}

// poll looks until nobody waits.
func (h *Hub) poll() {
	failures := 0
	loop := h.poller
	for {
		loop.Round()
		h.pause(time.Until(h.began.Add(leastPause)))
		looked, question := h.question()
		if looked == nil {
			return // and has ended the watch
		}
		h.began = time.Now() // only the poller uses it and outage, and one poller follows the other
		question.Outage = h.outage.since(h.began, h.database.Grace)
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		answer, err := h.database.Look(ctx, question)
		cancel()
		loop.Round()
		again := false
		if err != nil {
			failures++
			h.outage.failed(h.began, h.database.Grace)
			h.lookFailed(looked, err)
		} else {
			failures = 0
			h.outage.succeeded(h.began)
			var failed []failure
			failed, again = h.settle(looked, question, answer)
			h.fail(failed, loop)
			h.ask(answer, loop)
		}
		switch {
		case failures > 0:
			h.pause(failureBackoff.After(failures))
		case !again:
			h.rest()
		}
	}
}

// outage is the time in which looks failed. It begins with the first look that failed, and ends with the next one that succeeded. That one may come long
// after the server is back, since the poller waits longer after each failure.
type outage struct {
	from, to time.Time
	lasts    bool // no look has succeeded since
}

// failed notes a look that failed. It begins a new outage if the last one has ended more than grace ago.
func (o *outage) failed(began time.Time, grace time.Duration) {
	if o.since(began, grace) == 0 {
		o.from = began
	}
	o.lasts = true
}

// succeeded notes a look that succeeded.
func (o *outage) succeeded(at time.Time) {
	if o.lasts {
		o.to, o.lasts = at, false
	}
}

// since is how long ago the outage began; 0 if it has ended more than grace ago.
func (o *outage) since(now time.Time, grace time.Duration) time.Duration {
	if !o.lasts && now.Sub(o.to) > grace {
		return 0
	}
	return now.Sub(o.from)
}

// pause waits, whoever pokes.
func (h *Hub) pause(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// rest waits until it is time for a look, or somebody pokes.
func (h *Hub) rest() {
	timer := time.NewTimer(time.Until(h.began.Add(h.interval())))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.poked:
	}
}

// interval is the time from one look to the next.
func (h *Hub) interval() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	youngest := time.Duration(-1)
	for _, waiters := range h.waiters {
		for one := range waiters {
			if age := time.Since(one.since); youngest < 0 || age < youngest {
				youngest = age
			}
		}
	}
	return min(mostInterval, max(leastInterval, min(usualInterval, youngest/10), youngest/50))
}

// question returns those that wait, and what to ask for them. If nobody waits the poller has ended.
func (h *Hub) question() ([]*waiter, Question) {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.poked: // what it was for is seen by this look
	default:
	}
	var looked []*waiter
	var q Question
	for projection, waiters := range h.waiters {
		q.Projections = append(q.Projections, projection)
		for one := range waiters {
			looked = append(looked, one)
		}
	}
	if looked == nil {
		h.polling, h.failed = false, nil
		h.poller.End() // before there is another
		return nil, q
	}
	slices.SortStableFunc(looked, func(a, b *waiter) int { return order(b.examine) - order(a.examine) })
	for _, one := range looked {
		if one.examine {
			q.Examine = append(q.Examine, one.Wait)
		}
	}
	return looked, q
}

func order(first bool) int {
	if first {
		return 1
	}
	return 0
}

// failure is a waiter that waits in vain.
type failure struct {
	one *waiter
	err error
}

// settle ends the waits for what was handled, and returns those that failed. again says that some must be examined.
func (h *Hub) settle(looked []*waiter, q Question, answer Answer) (failed []failure, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = nil
	for i, one := range looked {
		var examined *Examined
		if i < len(q.Examine) {
			examined = &answer.Examined[i]
			if one.Aggregate != nil {
				one.slot = examined.Slot
			}
		}
		standing := answer.Standings[one.Projection]
		verdict, err := Decide(one.Wait, standing, one.slot, examined, answer.Events, h.runs[one.Projection] > 0)
		switch verdict {
		case Done:
			h.end(one, nil)
		case Failed:
			failed = append(failed, failure{one, err})
		case Unclear:
			one.examine, again = true, true
		case Behind:
			one.examine = standing.Parked && !one.Letters
			if behind, _ := standing.behind(one.Wait, one.slot); len(behind) > 0 {
				one.at = slot.Lowest(behind)
			}
		}
	}
	return failed, again
}

// mostWhys is how many reasons are looked up after one look.
const mostWhys = 8

// fail ends waits, and says why they failed. Where many fail for the same reason it is looked up once.
func (h *Hub) fail(failed []failure, loop *health.Loop) {
	whys := map[string]string{}
	for _, f := range failed {
		key := f.one.Projection + "\x00" + f.err.Error()
		why, known := whys[key]
		if !known && len(whys) < mostWhys {
			ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
			why = h.database.Why(ctx, f.one.Wait, f.err)
			cancel()
			loop.Round()
			whys[key] = why
		}
		if why != "" {
			f.err = fmt.Errorf("%w: %s", f.err, why)
		}
		h.mu.Lock()
		h.end(f.one, f.err)
		h.mu.Unlock()
	}
}

// lookFailed ends the waits if the look will never succeed.
func (h *Hub) lookFailed(looked []*waiter, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
	if h.database.MayPass(err) {
		return
	}
	for _, one := range looked {
		h.end(one, fmt.Errorf("looking at the checkpoints: %w", err))
	}
}

// ask asks the workers to write down how far they are, where somebody has waited for a while. Where nothing is in scope of a projection they do so seldom.
func (h *Hub) ask(answer Answer, loop *health.Loop) {
	for _, projection := range h.toAsk(answer) {
		h.Flush(projection)
		ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
		h.database.Ask(ctx, projection, answer.Standings[projection])
		cancel()
		loop.Round()
	}
}

// toAsk is the projections whose workers are to be asked now.
func (h *Hub) toAsk(answer Answer) (projections []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for projection, waiters := range h.waiters {
		if time.Since(h.asked[projection]) < askAgain {
			continue
		}
		after := askAfter
		if answer.Standings[projection].PollOnly {
			after = askPollersSoon
		}
		for one := range waiters {
			if time.Since(one.since) >= after {
				h.asked[projection] = time.Now()
				projections = append(projections, projection)
				break
			}
		}
	}
	return projections
}
