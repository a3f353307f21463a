package actors

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
	"github.com/getpup/pupsourcing-orchestrator/v2/pgcoord"
)

func TestCheckpointsThatWereSetBack(t *testing.T) {
	t.Parallel()
	view := func(number int64, positions map[string]int64) replicaset.View {
		return replicaset.View{Generation: replicaset.Generation{Number: number, State: replicaset.Active}, Positions: positions}
	}
	fence := func(projection string, key int, generation int64) pgcoord.Fence {
		return pgcoord.Fence{Projection: projection, Partition: slot.Partition{Key: key, Total: 2}, Generation: generation}
	}
	at := func(positions ...int64) (pieces []slot.Piece) {
		for _, p := range positions {
			pieces = append(pieces, slot.Piece{Position: p})
		}
		return pieces
	}
	var b positions
	assert.Empty(t, b.now().setBack(view(3, nil)), "nothing is known")
	b.believe(fence("a", 0, 3), at(4))
	b.believe(fence("a", 0, 3), at(4, 5))
	b.believe(fence("a", 1, 3), at(1))
	b.believe(fence("b", 0, 3), at(20))
	before := b.now()
	assert.Empty(t, before.setBack(view(3, map[string]int64{"a": 10, "b": 30, "c": 0})))
	assert.Equal(t, []string{"b"}, before.setBack(view(3, map[string]int64{"a": 11, "b": 19})))
	assert.Equal(t, []string{"a", "b"}, before.setBack(view(3, nil)), "deleted")
	assert.Empty(t, before.setBack(view(4, nil)), "another generation has others")
	preparing := view(3, nil)
	preparing.Generation.State = replicaset.Preparing
	assert.Empty(t, before.setBack(preparing))

	b.forget(fence("a", 0, 3))
	b.forget(fence("a", 1, 2))
	assert.Equal(t, map[string]int64{"a": 1, "b": 20}, b.now().least)
	b.believe(fence("a", 0, 4), at(7))
	b.believe(fence("b", 0, 3), at(99))
	assert.Equal(t, believed{4, map[string]int64{"a": 7}}, b.now(), "those of before have ended")
}
