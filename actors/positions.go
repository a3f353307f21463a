package actors

import (
	"maps"
	"slices"
	"sync"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// positions is where the worker's processors believe their checkpoints to stand. The coordinator compares it with what a look shows: a
// checkpoint that is lower was set back by somebody. Without that, a processor without events would notice it with the next append.
// It is safe for concurrent use.
type positions struct {
	mu         sync.Mutex
	generation int64
	sums       map[string]map[int]int64 // of a projection's partition
}

// believe notes a partition's checkpoints.
func (b *positions) believe(f pgcoord.Fence, pieces []slot.Piece) {
	sum := int64(0)
	for _, p := range pieces {
		sum += p.Position
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case f.Generation < b.generation:
		return
	case f.Generation > b.generation || b.sums == nil:
		b.generation, b.sums = f.Generation, map[string]map[int]int64{}
	}
	if b.sums[f.Projection] == nil {
		b.sums[f.Projection] = map[int]int64{}
	}
	b.sums[f.Projection][f.Partition.Key] = sum
}

// forget says that nobody knows any more where a partition's checkpoints stand.
func (b *positions) forget(f pgcoord.Fence) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if f.Generation == b.generation {
		delete(b.sums[f.Projection], f.Partition.Key)
	}
}

// believed is what a look that begins now must show at least, for each projection.
type believed struct {
	generation int64
	least      map[string]int64
}

func (b *positions) now() believed {
	b.mu.Lock()
	defer b.mu.Unlock()
	least := map[string]int64{}
	for projection, partitions := range b.sums {
		for _, sum := range partitions {
			least[projection] += sum
		}
	}
	return believed{b.generation, least}
}

// setBack is the projections whose checkpoints are lower than the processors believed when the look began.
func (b believed) setBack(v replicaset.View) (projections []string) {
	if v.Generation.State != replicaset.Active || v.Generation.Number != b.generation {
		return nil
	}
	for _, projection := range slices.Sorted(maps.Keys(b.least)) {
		if v.Positions[projection] < b.least[projection] {
			projections = append(projections, projection)
		}
	}
	return projections
}
