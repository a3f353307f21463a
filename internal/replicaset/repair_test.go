package replicaset

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

func TestRepairLeavesAloneWhatNobodyRuns(t *testing.T) {
	t.Parallel()
	half := Checkpoint{Projection: "letters", Piece: slot.Piece{Range: slot.Range{From: 0, To: 10}, Position: 7}}
	all, Handling, noticed := Repair([]Checkpoint{half}, []Member{{Projections: []string{"orders"}}}, map[string]string{"letters": "other"})
	assert.Equal(t, []Checkpoint{half, {Projection: "orders", Piece: slot.Piece{Range: slot.All()}}}, all)
	assert.Equal(t, []Member{{Projections: []string{"orders"}}}, Handling)
	assert.Len(t, noticed, 1)
}
