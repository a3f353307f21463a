package actors

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/getpup/pupsourcing-orchestrator/v2/es"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/handling"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/packed"
	"github.com/getpup/pupsourcing-orchestrator/v2/internal/replicaset"
)

// positionsOf is the positions of events.
func positionsOf(events packed.Events) []int64 {
	all := []int64{}
	for i := range events.Len() {
		all = append(all, events.Position(i))
	}
	return all
}

// Whether a retry's batch was the last one shows in what is known of the aggregate, also if the batch was as full as it may be.
func TestARetryThatLeavesNoLetter(t *testing.T) {
	t.Parallel()
	ada := replicaset.Aggregate{Type: "User", ID: "ada"}
	known := parked{ada: firstLetters + 1}
	assert.True(t, known.retried(ada, firstLetters))
	assert.False(t, known.retried(ada, 1))
	assert.False(t, parked{ada: firstLetters}.retried(ada, firstLetters))
	assert.False(t, parked(nil).retried(ada, 1))
}

// Of each event it is clear whether it is handled, put aside or left for the next batch, wherever the batch is cut.
func TestAPortionIsCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 40).Draw(t, "events")
		events := make([]es.PersistedEvent, n)
		for i := range events {
			events[i] = es.PersistedEvent{GlobalPosition: int64(3 * (i + 1)), AggregateType: "User", AggregateID: fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "aggregate"))}
		}
		most := rapid.IntRange(1, 12).Draw(t, "most")
		p := &processor{policy: handling.Policy{MaxParkedEvents: most}, parked: parked{}}
		for _, id := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"0", "1", "2"}), rapid.ID).Draw(t, "parked") {
			p.parked[replicaset.Aggregate{Type: "User", ID: id}] = rapid.IntRange(1, 12).Draw(t, "letters")
		}
		p.size.next = rapid.IntRange(1, 50).Draw(t, "size")
		p.buffer.pages = []page{{events: packed.Pack(events), upTo: int64(3*n + 2)}}
		q := p.portion()
		if q.full {
			if letters, is := p.parked[aggregateOf(events[0])]; !is || letters < most {
				t.Fatalf("%d letters of %d are not full", letters, most)
			}
			return
		}
		if q.handle.Len() > 0 {
			q = q.upToHandled(rapid.IntRange(1, q.handle.Len()).Draw(t, "handled"))
		}
		var handle, aside []int64
		counts := map[replicaset.Aggregate]int{}
		for _, e := range events {
			of := aggregateOf(e)
			switch letters, is := p.parked[of]; {
			case e.GlobalPosition > q.upTo:
			case !is:
				handle = append(handle, e.GlobalPosition)
			default:
				aside = append(aside, e.GlobalPosition)
				if counts[of]++; letters+counts[of] > most {
					t.Fatalf("%v has %d letters of %d", of, letters+counts[of], most)
				}
			}
		}
		assert.ElementsMatch(t, handle, positionsOf(q.handle))
		assert.ElementsMatch(t, aside, positionsOf(q.aside))
		assert.Equal(t, len(handle)+len(aside), q.all.Len())
	})
}

// An outcome that nobody has taught the processor is not taken for another one.
func TestAnUnknownOutcomeIsNotPerformed(t *testing.T) {
	t.Parallel()
	p := &processor{failing: failing{outcome: handling.Park + 1}}
	p.buffer.pages = []page{{events: packed.Pack([]es.PersistedEvent{{GlobalPosition: 1}}), upTo: 1}}
	assert.PanicsWithValue(t, "the outcome 4 of an event that failed cannot be performed", func() { _, _ = p.perform(t.Context()) })
}
