package projection

import (
	"context"
	"sync"

	"github.com/jackc/pgx/v5/pgxpool"
)

// A handler may take a second connection from the pool. If the batches of several processors had all connections, each of their handlers would
// wait for another's forever. So they leave one connection for handlers, which these take in turn.

// reservedConnections is how many connections of a pool are kept from the batches of manual runners.
const reservedConnections = 1

// places are those for batches on one pool, which all manual runners of the process on that pool share.
type places struct {
	pool  *pgxpool.Pool
	taken chan struct{}
	users int // with the mutex of allPlaces
}

var allPlaces = struct {
	sync.Mutex
	of map[*pgxpool.Pool]*places
}{of: map[*pgxpool.Pool]*places{}}

// joinPlaces returns the pool's places. The caller must leave them.
func joinPlaces(pool *pgxpool.Pool) *places {
	allPlaces.Lock()
	defer allPlaces.Unlock()
	p := allPlaces.of[pool]
	if p == nil {
		p = &places{pool: pool, taken: make(chan struct{}, max(1, int(pool.Config().MaxConns)-reservedConnections))}
		allPlaces.of[pool] = p
	}
	p.users++
	return p
}

// leave ends the use of the places.
func (p *places) leave() {
	allPlaces.Lock()
	defer allPlaces.Unlock()
	if p.users--; p.users == 0 {
		delete(allPlaces.of, p.pool)
	}
}

// take waits for a place, which must be given back.
func (p *places) take(ctx context.Context) (giveBack func(), err error) {
	select {
	case p.taken <- struct{}{}:
		return func() { <-p.taken }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
