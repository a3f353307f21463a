package actors

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// A projection that was moved to another replica set while the worker started holds up none of its others.
func TestAMoveBesideAStartHoldsUpNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.exec(`INSERT INTO orchestrator_checkpoints (projection, slot_from, slot_to, replica_set, events_table) VALUES ('moved', 0, 65536, 'another', 'public.events')`)
	want := f.append("Order", 3)
	w := f.start(nil, &recorder{name: "moved"}, &recorder{name: "p"})
	f.awaitHandled("p", want)
	w.log.Await(t, "was moved to another replica set while this worker started")
	assert.Empty(t, f.handled("moved"))
}
