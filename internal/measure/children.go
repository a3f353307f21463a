package measure

import (
	"maps"
	"sync/atomic"
)

// children are the metrics of one replica set that differ in further labels,
// made when a key is first asked for. Reading takes no lock and does not
// allocate; a new key copies the map, so keys must be few.
type children[K comparable, M any] struct {
	owner *series
	// create makes the metrics of a key. It runs with the owner locked.
	create func(K) M
	// limit bounds the number of keys, where they come from outside the process
	// or could, by a mistake, be texts: all keys that come later share the
	// metrics of the key overflow. 0 means no limit.
	limit    int
	overflow K

	cached atomic.Pointer[map[K]M]
}

// get returns the metrics of a key; ok is false if the replica set has been
// forgotten.
func (c *children[K, M]) get(key K) (m M, ok bool) {
	if known := c.cached.Load(); known != nil {
		if m, ok = (*known)[key]; ok {
			return m, true
		}
	}
	return c.add(key)
}

func (c *children[K, M]) add(key K) (m M, ok bool) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	if len(c.owner.recorders) == 0 {
		return m, false
	}
	known := c.known()
	if m, ok = known[key]; ok {
		return m, true
	}
	if c.limit > 0 && len(known) >= c.limit {
		key = c.overflow
		if m, ok = known[key]; ok {
			return m, true
		}
	}
	m = c.create(key)
	more := maps.Clone(known)
	more[key] = m
	c.cached.Store(&more)
	return m, true
}

// remove forgets a key and calls then before another goroutine can create its
// metrics again. It does nothing if the replica set has been forgotten: another
// owner may use the name by now.
func (c *children[K, M]) remove(key K, then func()) {
	c.owner.mu.Lock()
	defer c.owner.mu.Unlock()
	if len(c.owner.recorders) == 0 {
		return
	}
	less := maps.Clone(c.known())
	delete(less, key)
	c.cached.Store(&less)
	then()
}

// known is every key so far, not nil and not to be changed.
func (c *children[K, M]) known() map[K]M {
	if known := c.cached.Load(); known != nil {
		return *known
	}
	return map[K]M{}
}
