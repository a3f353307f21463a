package statuspage

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/getpup/pupsourcing-orchestrator/v2/admin"
)

// A projection that was replaced is held for ever. It is not paused.
func TestABarSaysWhatIsPaused(t *testing.T) {
	held := int64(5)
	nobody := func(*uuid.UUID) (name, class string) { return "", "" }
	for replacedBy, paused := range map[string]bool{"": true, "users-2": false} {
		p := admin.Projection{Name: "users", Paused: true, ReplacedBy: replacedBy, Partitions: []admin.Partition{{
			Ranges: []admin.Range{{SlotFrom: 0, SlotTo: 65536, Position: held, HoldAt: &held}},
		}}}
		title := barOf(p, nobody).Segments[0].Title
		assert.Equal(t, paused, strings.HasSuffix(title, ", paused"), title)

		v := &view{}
		v.fillProjections(state{seen: seen{snapshot: admin.Snapshot{Projections: []admin.Projection{p}}}})
		if paused {
			assert.Contains(t, v.Projections[0].Status, "paused")
		} else {
			assert.NotContains(t, v.Projections[0].Status, "paused")
		}
	}
}
