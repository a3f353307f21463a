package main

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"
)

// The pauses that are measured have the load's gaps in them, so no partition may be left out of a transaction.
func TestEachPartitionGetsAnEventOfEachTransaction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		load    loadOptions
		workers int
	}{{steadyLoad, 5}, {wideLoad, 12}, {restartLoad, 8}, {manyLoad, 32}} {
		width := slot.Count / c.load.buckets
		for total := 1; total <= c.workers; total++ {
			for k := range total {
				r := slot.Partition{Key: k, Total: total}.Range()
				whole := r.To/width - (r.From+width-1)/width
				assert.GreaterOrEqual(t, whole, c.load.stride, "partition %d/%d under %+v", k, total, c.load)
			}
		}
	}
}
