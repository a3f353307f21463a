package actors

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

func TestCheckpointsThatSomebodyElseHasChanged(t *testing.T) {
	t.Parallel()
	view := func(number int64, checkpoints map[string]replicaset.CheckpointSums) replicaset.View {
		return replicaset.View{Generation: replicaset.Generation{Number: number, State: replicaset.Active}, Checkpoints: checkpoints}
	}
	sums := func(positions, revisions int64) replicaset.CheckpointSums {
		return replicaset.CheckpointSums{Positions: positions, Revisions: revisions}
	}
	fence := func(projection string, key int, generation int64) pgcoord.Fence {
		return pgcoord.Fence{Projection: projection, Partition: slot.Partition{Key: key, Total: 2}, Generation: generation}
	}
	at := func(positions ...int64) (pieces []slot.Piece) {
		for _, p := range positions {
			pieces = append(pieces, slot.Piece{Position: p, Revision: 2})
		}
		return pieces
	}
	var b positions
	assert.Empty(t, b.now().changed(view(3, nil)), "nothing is known")
	b.believe(fence("a", 0, 3), at(4))
	b.believe(fence("a", 0, 3), at(4, 5))
	b.believe(fence("a", 1, 3), at(1))
	b.believe(fence("b", 0, 3), at(20))
	before := b.now()
	assert.Empty(t, before.changed(view(3, map[string]replicaset.CheckpointSums{"a": sums(10, 6), "b": sums(30, 0), "c": sums(0, 9)})))
	assert.Equal(t, []string{"b"}, before.changed(view(3, map[string]replicaset.CheckpointSums{"a": sums(11, 6), "b": sums(19, 2)})), "set back")
	assert.Equal(t, []string{"a"}, before.changed(view(3, map[string]replicaset.CheckpointSums{"a": sums(11, 7), "b": sums(20, 2)})), "in another way")
	assert.Equal(t, []string{"a", "b"}, before.changed(view(3, nil)), "deleted")
	assert.Empty(t, before.changed(view(4, nil)), "another generation has others")
	preparing := view(3, nil)
	preparing.Generation.State = replicaset.Preparing
	assert.Empty(t, before.changed(preparing))

	b.forget(fence("a", 0, 3))
	b.forget(fence("a", 1, 2))
	assert.Equal(t, map[string]replicaset.CheckpointSums{"a": sums(1, 2), "b": sums(20, 2)}, b.now().sums)
	b.believe(fence("a", 0, 4), at(7))
	b.believe(fence("b", 0, 3), at(99))
	assert.Equal(t, believed{4, map[string]replicaset.CheckpointSums{"a": sums(7, 2)}}, b.now(), "those of before have ended")
}
