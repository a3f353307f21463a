package eventread

import "github.com/getpup/pupsourcing-orchestrator/v2/internal/slot"

// density is how many events of a scope were found in how many positions, lately, and over how many positions its statements go.
type density struct {
	events, positions float64
	byKey, byIndex    span
	bySlots           span
}

// span is the one of statements for q.
func (d *density) span(q Query) *span {
	switch {
	case q.bySlotIndex:
		return &d.bySlots
	case q.byScopeIndex:
		return &d.byIndex
	}
	return &d.byKey
}

const (
	// fewPositions are passed over as quickly by any way to read.
	fewPositions = 1000
	// densityMemory is how many positions are remembered.
	densityMemory = 100_000
	// sparseBelow is the part of the positions up to which the index is the quicker
	// way: it takes up to ten times as long for an event that it finds as the primary key for one that is passed over.
	sparseBelow = 0.1
)

// learn takes in that a read of some slots found events in so many positions.
func (d *density) learn(positions int64, events int, pieces []slot.Piece) {
	slots := 0
	for _, p := range pieces {
		slots += p.To - p.From
	}
	if positions <= 0 || slots == 0 {
		return
	}
	// The index has no slots: it must pass over the type's events in all of them.
	d.events += float64(events) * slot.Count / float64(slots)
	d.positions += float64(positions)
	if d.positions > densityMemory {
		d.events *= densityMemory / d.positions
		d.positions = densityMemory
	}
}

// sparse says whether the index is the quicker way, as far as is known. A scope that was not measured yet is read by the
// index, where a read costs little however many events are in scope.
func (d *density) sparse() bool {
	return d.positions < fewPositions || d.events < sparseBelow*d.positions
}
