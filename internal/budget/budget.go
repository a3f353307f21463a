package budget

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The number of connections that are kept from batches. One is for handlers that take a second connection. Workers need another one to read events and to
// find the horizon.
const (
	KeptForWorkers    = 2
	KeptForProcessors = 1
)

// Slow is the usual time after which a place counts as taken long ago.
const Slow = 5 * time.Second

// AtOnce returns how many batches all users of a pool in the process can handle at once. It is the number of connections without those that are kept, and
// at least 1.
func AtOnce(connections int32, kept int) int {
	return max(1, int(connections)-kept)
}

// Budget is the places for batches on one pool, which all workers and manual runners of the process on that pool share. So connections are left for
// handlers that take a second one, however many there are. A manual runner is a worker here. It is safe for concurrent use.
//
// A worker that has a place gets another only if one is left for each worker that has none, and a projection only if one is left for
// each projection that has none. Otherwise handlers of one projection that hang would stop the others. Of those that wait, the
// worker with the fewest places is served first, then the projection with the fewest.
//
// If the pool has fewer places than there are projections, handlers that hang could still take all of them. So one place that was taken
// long ago does not count: another batch may use a reserved connection, as long as one remains.
type Budget struct {
	pool        *pgxpool.Pool // nil if it is in no registry
	connections int32
	// activating has room for one: an activation keeps a connection while it waits for batches, so two at once could
	// take those that handlers need.
	activating chan struct{}

	mu     sync.Mutex
	kept   int                      // connections that are kept from batches: the highest number of any share
	places map[*takenPlace]struct{} // that are taken, also by workers that have left
	shares []*Share
	queue  []*claim // in the order of arrival
}

// Share is one worker's part of a budget.
type Share struct {
	budget *Budget
	kept   int           // connections that it keeps from batches
	slow   time.Duration // after which a place was taken long ago
	// With the budget's mutex: how many places the worker has, and each of its projections.
	held int
	of   map[string]int
}

// takenPlace is a place that is taken.
type takenPlace struct {
	share      *Share
	projection string // empty if it is taken for reading
	since      time.Time
}

// claim is a batch that waits for a place.
type claim struct {
	share      *Share
	projection string
	given      chan *takenPlace // room for one
}

// budgets is the budgets of the pools that are used.
var budgets = struct {
	sync.Mutex
	of map[*pgxpool.Pool]*Budget
}{of: map[*pgxpool.Pool]*Budget{}}

// Join makes a worker share the pool's budget, which then keeps at least kept connections from batches. A place that the worker has had for the time
// slow counts as taken long ago. The caller must call Leave.
func Join(pool *pgxpool.Pool, kept int, slow time.Duration, projections ...string) *Share {
	budgets.Lock()
	defer budgets.Unlock()
	b := budgets.of[pool]
	if b == nil {
		b = New(pool.Config().MaxConns)
		b.pool = pool
		budgets.of[pool] = b
	}
	return b.Join(kept, slow, projections...)
}

// New returns a budget of its own for a pool with so many connections.
func New(connections int32) *Budget {
	return &Budget{connections: connections, activating: make(chan struct{}, 1), places: map[*takenPlace]struct{}{}}
}

// Join makes a worker share the budget. See the function Join.
func (b *Budget) Join(kept int, slow time.Duration, projections ...string) *Share {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &Share{budget: b, kept: kept, slow: slow, of: map[string]int{}}
	for _, p := range projections {
		s.of[p] = 0
	}
	b.shares = append(b.shares, s)
	b.keep()
	return s
}

// Leave ends a worker's share. Places that its batches still hold stay taken until they are given back.
func (s *Share) Leave() {
	budgets.Lock()
	defer budgets.Unlock()
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares = slices.DeleteFunc(b.shares, func(other *Share) bool { return other == s })
	b.keep()
	b.grant()
	b.forget()
}

// keep updates the number of connections that are kept from batches.
func (b *Budget) keep() {
	b.kept = 0
	for _, s := range b.shares {
		b.kept = max(b.kept, s.kept)
	}
}

// Slow is the time after which a place of the share counts as taken long ago.
func (s *Share) Slow() time.Duration { return s.slow }

// AtOnce is how many batches can be handled at once, over all that share the budget.
func (s *Share) AtOnce() int {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	return AtOnce(b.connections, b.kept)
}

// forget takes a budget that nobody uses out of the registry. The caller has both mutexes.
func (b *Budget) forget() {
	if b.pool != nil && len(b.shares) == 0 && len(b.places) == 0 {
		delete(budgets.of, b.pool)
	}
}

// Projections is how many projections the workers have together that share the budget.
func (s *Share) Projections() int {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, other := range b.shares {
		n += len(other.of)
	}
	return n
}

// left is how many places can be taken.
func (b *Budget) left() int {
	slow := 0
	for p := range b.places {
		if time.Since(p.since) >= p.share.slow {
			slow++
		}
	}
	return AtOnce(b.connections, b.kept) - len(b.places) + min(slow, max(0, b.kept-1))
}

// mayTake says whether the worker may have another place now, for a batch of the projection.
func (b *Budget) mayTake(s *Share, projection string) bool {
	left := b.left()
	workers, projections := 0, 0
	for _, other := range b.shares {
		if other.held == 0 {
			workers++
		}
		for _, held := range other.of {
			if held == 0 {
				projections++
			}
		}
	}
	switch {
	case left <= 0 || (s.held > 0 && left <= workers):
		return false
	case projection == "" || s.of[projection] == 0: // a statement that reads ends by itself
		return true
	}
	return left > projections
}

func (b *Budget) take(s *Share, projection string) *takenPlace {
	p := &takenPlace{share: s, projection: projection, since: time.Now()}
	b.places[p] = struct{}{}
	s.held++
	if projection != "" {
		s.of[projection]++
	}
	return p
}

// Acquire waits for a place for a batch of the projection, which must be given back. Now and then while it waits, waiting is told for how long
// and who has the places.
func (s *Share) Acquire(ctx context.Context, projection string, waiting func(time.Duration, []string)) (release func(), err error) {
	b, began := s.budget, time.Now()
	b.mu.Lock()
	c := &claim{share: s, projection: projection, given: make(chan *takenPlace, 1)}
	b.queue = append(b.queue, c)
	b.grant()
	b.mu.Unlock()
	select {
	case p := <-c.given:
		return p.giver(), nil
	default:
	}
	waiting(0, nil)
	again := time.NewTicker(max(s.slow/2, time.Millisecond))
	defer again.Stop()
	for {
		select {
		case p := <-c.given:
			return p.giver(), nil
		case <-again.C:
			b.mu.Lock()
			b.grant() // what was taken may be long ago now
			holders := b.holders()
			b.mu.Unlock()
			waiting(time.Since(began), holders)
		case <-ctx.Done():
			s.giveUp(c)
			return nil, context.Cause(ctx)
		}
	}
}

// giveUp ends a claim.
func (s *Share) giveUp(c *claim) {
	b := s.budget
	b.mu.Lock()
	b.queue = slices.DeleteFunc(b.queue, func(other *claim) bool { return other == c })
	b.mu.Unlock()
	select {
	case p := <-c.given: // it came meanwhile
		p.giver()()
	default:
	}
}

// holders describes the batches that have the places, the oldest first.
func (b *Budget) holders() []string {
	taken := slices.SortedFunc(maps.Keys(b.places), func(p, q *takenPlace) int {
		return cmp.Or(p.since.Compare(q.since), cmp.Compare(p.projection, q.projection))
	})
	texts := make([]string, len(taken))
	for i, p := range taken {
		texts[i] = fmt.Sprintf("%s for %s", cmp.Or(p.projection, "reading"), time.Since(p.since).Round(time.Millisecond))
	}
	return texts
}

// Try takes a place for reading if one is free that nobody waits for.
func (s *Share) Try() (release func(), ok bool) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || len(b.places) >= AtOnce(b.connections, b.kept) || !b.mayTake(s, "") {
		return nil, false
	}
	return b.take(s, "").giver(), true
}

// giver gives a place back, once.
func (p *takenPlace) giver() func() {
	return sync.OnceFunc(func() {
		b := p.share.budget
		budgets.Lock()
		defer budgets.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.places, p)
		p.share.held--
		if p.projection != "" {
			p.share.of[p.projection]--
		}
		b.grant()
		b.forget()
	})
}

// grant gives places to those that wait: the worker with the fewest first, then the projection with the fewest, then the oldest claim.
func (b *Budget) grant() {
	for {
		best := -1
		for i, c := range b.queue {
			if b.mayTake(c.share, c.projection) && (best < 0 || c.before(b.queue[best])) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		c := b.queue[best]
		b.queue = slices.Delete(b.queue, best, best+1)
		c.given <- b.take(c.share, c.projection)
	}
}

// before says whether the claim is served before one that came first.
func (c *claim) before(other *claim) bool {
	return cmp.Or(cmp.Compare(c.share.held, other.share.held), cmp.Compare(c.share.of[c.projection], other.share.of[other.projection])) < 0
}

// Activate waits until no other worker on the pool is activating a generation. The caller must call done.
func (s *Share) Activate(ctx context.Context) (done func(), err error) {
	select {
	case s.budget.activating <- struct{}{}:
		return func() { <-s.budget.activating }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
