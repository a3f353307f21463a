// Package announcement holds the message in which a worker that has found a horizon tells the others about it: its
// value, and its text in a notification. Package horizon explains what a horizon is, and why a worker can rely on
// another worker's.
package announcement

import "slices"

// News are the slots of the events between two horizons. Whoever reads other slots need not read them.
type News struct {
	// Known says that the events are known. Otherwise there may be any.
	Known bool
	// After is the lower horizon: the events are above it, and up to the higher one.
	After int64
	// Slots has the slot of each event.
	Slots []int32
}

// MostNews is of how many events the slots are kept. Where there are more, nearly every reader has some of them.
const MostNews = 256

// Then are the news from n.After up to the horizon of the later news, which follow n. Both horizons may be the same.
func (n News) Then(later News) News {
	if !n.Known || !later.Known || len(n.Slots)+len(later.Slots) > MostNews {
		return News{}
	}
	return News{Known: true, After: n.After, Slots: append(slices.Clip(n.Slots), later.Slots...)}
}
