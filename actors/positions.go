package actors

import (
	"maps"
	"slices"
	"sync"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

// positions is where the worker's processors believe their checkpoints to stand, and at which revision. The coordinator compares it with what a
// look shows: a checkpoint that is lower was set back by somebody, and one with a higher revision was changed in another way. Without that, a
// processor without events would notice it with the next append.
// It is safe for concurrent use.
type positions struct {
	mu         sync.Mutex
	generation int64
	sums       map[string]map[int]replicaset.CheckpointSums // of a projection's partition
}

// believe notes a partition's checkpoints.
func (b *positions) believe(f pgcoord.Fence, pieces []slot.Piece) {
	var sum replicaset.CheckpointSums
	for _, p := range pieces {
		sum.Positions += p.Position
		sum.Revisions += p.Revision
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case f.Generation < b.generation:
		return
	case f.Generation > b.generation || b.sums == nil:
		b.generation, b.sums = f.Generation, map[string]map[int]replicaset.CheckpointSums{}
	}
	if b.sums[f.Projection] == nil {
		b.sums[f.Projection] = map[int]replicaset.CheckpointSums{}
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

// believed is what a look that begins now must show for each projection: positions that are no lower, and revisions that are no higher.
type believed struct {
	generation int64
	sums       map[string]replicaset.CheckpointSums
}

func (b *positions) now() believed {
	b.mu.Lock()
	defer b.mu.Unlock()
	sums := map[string]replicaset.CheckpointSums{}
	for projection, partitions := range b.sums {
		all := replicaset.CheckpointSums{}
		for _, sum := range partitions {
			all.Positions += sum.Positions
			all.Revisions += sum.Revisions
		}
		if len(partitions) > 0 {
			sums[projection] = all
		}
	}
	return believed{b.generation, sums}
}

// changed is the projections whose checkpoints are lower than the processors believed when the look began, or have a higher revision.
func (b believed) changed(v replicaset.View) (projections []string) {
	if v.Generation.State != replicaset.Active || v.Generation.Number != b.generation {
		return nil
	}
	for _, projection := range slices.Sorted(maps.Keys(b.sums)) {
		if seen, mine := v.Checkpoints[projection], b.sums[projection]; seen.Positions < mine.Positions || seen.Revisions > mine.Revisions {
			projections = append(projections, projection)
		}
	}
	return projections
}

// noticeAbove logs checkpoints above the horizon: in its generation and epoch nobody but a person moves them there.
func (p *processor) noticeAbove(pieces []slot.Piece) {
	if p.horizon == 0 {
		return
	}
	for _, piece := range pieces {
		if piece.Position > p.horizon {
			p.worker.Metrics.DatabaseError("checkpoint")
			p.log.Error("a checkpoint was moved above the horizon: events that are appended at positions in between will never be handled; set it back to the horizon or lower",
				"position", piece.Position, "horizon", p.horizon)
			return
		}
	}
}

// showPosition sets the metrics of how far the partition is. While the horizon is
// not known the lag stays what it was.
func (p *processor) showPosition() {
	name := p.fence.Partition.String()
	p.worker.Metrics.Position(p.fence.Projection, name, p.readTo)
	if p.epoch != 0 && p.horizon == 0 {
		return
	}
	if p.succession.replacedBy != "" {
		p.worker.Metrics.NothingWaits(p.fence.Projection, name, p.horizon)
		return
	}
	p.worker.Metrics.Lag(p.fence.Projection, name, max(0, p.horizon-p.readTo))
}
