package actors

import (
	"context"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// reservedConnections is how many connections of the pool are kept from
// batches: for reading, for the horizon, and for handlers that use the pool.
const reservedConnections = 2

// BatchesAtOnce is how many batches can be handled at once on a pool that allows so many connections, over all workers of the
// process that use it.
func BatchesAtOnce(connections int32) int {
	return max(1, int(connections)-reservedConnections)
}

// budget is the places for batches on one pool, which all workers of the process on that pool share. So connections are left for
// handlers that take a second one, however many workers there are. It is safe for concurrent use.
//
// A worker that has a place gets another only if one is left for each worker that has none. Otherwise handlers of one replica set
// that hang would stop the others. Of those that wait, the worker with the fewest places is served first.
type budget struct {
	pool     *pgxpool.Pool // nil if it is in no registry
	capacity int
	// activating has room for one: an activation keeps a connection while it waits for batches, so two at once could
	// take those that handlers need.
	activating chan struct{}

	mu     sync.Mutex
	used   int // also by workers that have left
	shares []*share
	queue  []*claim // in the order of arrival
}

// share is one worker's part of a budget.
type share struct {
	budget *budget
	held   int // with the budget's mutex
}

// claim is a batch that waits for a place.
type claim struct {
	share *share
	given chan struct{} // closed when it has it
}

// budgets is the budgets of the pools that workers use.
var budgets = struct {
	sync.Mutex
	of map[*pgxpool.Pool]*budget
}{of: map[*pgxpool.Pool]*budget{}}

// joinBudget makes a worker share the pool's budget. It must leave.
func joinBudget(pool *pgxpool.Pool) *share {
	budgets.Lock()
	defer budgets.Unlock()
	b := budgets.of[pool]
	if b == nil {
		b = newBudget(BatchesAtOnce(pool.Config().MaxConns))
		b.pool = pool
		budgets.of[pool] = b
	}
	return b.join()
}

func newBudget(capacity int) *budget {
	return &budget{capacity: capacity, activating: make(chan struct{}, 1)}
}

func (b *budget) join() *share {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &share{budget: b}
	b.shares = append(b.shares, s)
	return s
}

// leave ends a worker's share. Places that its batches still hold stay taken until they are given back.
func (s *share) leave() {
	budgets.Lock()
	defer budgets.Unlock()
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shares = slices.DeleteFunc(b.shares, func(other *share) bool { return other == s })
	b.grant()
	b.forget()
}

// forget takes a budget that nobody uses out of the registry. The caller has both mutexes.
func (b *budget) forget() {
	if b.pool != nil && len(b.shares) == 0 && b.used == 0 {
		delete(budgets.of, b.pool)
	}
}

// mayTake says whether the worker may have another place now.
func (b *budget) mayTake(s *share) bool {
	free := b.capacity - b.used
	if s.held == 0 {
		return free > 0
	}
	without := 0
	for _, other := range b.shares {
		if other.held == 0 {
			without++
		}
	}
	return free > without
}

func (b *budget) take(s *share) {
	b.used++
	s.held++
}

// acquire waits for a place, which must be given back.
func (s *share) acquire(ctx context.Context) (release func(), err error) {
	b := s.budget
	b.mu.Lock()
	c := &claim{share: s, given: make(chan struct{})}
	b.queue = append(b.queue, c)
	b.grant()
	b.mu.Unlock()
	select {
	case <-c.given:
		return s.giver(), nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	waiting := slices.Index(b.queue, c)
	if waiting >= 0 {
		b.queue = slices.Delete(b.queue, waiting, waiting+1)
	}
	b.mu.Unlock()
	if waiting < 0 {
		s.giver()() // it came meanwhile
	}
	return nil, context.Cause(ctx)
}

// try takes a place if one is free that nobody waits for.
func (s *share) try() (release func(), ok bool) {
	b := s.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || !b.mayTake(s) {
		return nil, false
	}
	b.take(s)
	return s.giver(), true
}

// giver gives a place back, once.
func (s *share) giver() func() {
	return sync.OnceFunc(func() {
		b := s.budget
		budgets.Lock()
		defer budgets.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.used--
		s.held--
		b.grant()
		b.forget()
	})
}

// grant gives places to those that wait: the worker with the fewest first, then whoever came first.
func (b *budget) grant() {
	for {
		best := -1
		for i, c := range b.queue {
			if b.mayTake(c.share) && (best < 0 || c.share.held < b.queue[best].share.held) {
				best = i
			}
		}
		if best < 0 {
			return
		}
		c := b.queue[best]
		b.queue = slices.Delete(b.queue, best, best+1)
		b.take(c.share)
		close(c.given)
	}
}

// activate waits until no other worker on the pool is activating a generation. The caller must call done.
func (s *share) activate(ctx context.Context) (done func(), err error) {
	select {
	case s.budget.activating <- struct{}{}:
		return func() { <-s.budget.activating }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
