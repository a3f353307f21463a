package handling

// Aside says which of n events belong to parked aggregates, where of is an event's aggregate and parked is how many letters each parked aggregate
// has. Those are put aside instead of being handled. The result ends before the first event whose aggregate would have more than most
// letters by it. It is empty if that is the first of the events.
func Aside[A comparable](parked map[A]int, most, n int, of func(i int) A) []bool {
	more := map[A]int{}
	aside := make([]bool, n)
	for i := range aside {
		a := of(i)
		letters, is := parked[a]
		if !is {
			continue
		}
		if letters+more[a] >= most {
			return aside[:i]
		}
		aside[i] = true
		more[a]++
	}
	return aside
}

// TooManyLetters is why a projection stops at the event that ends the result of [Aside].
const TooManyLetters = "its aggregate is parked, and has as many letters as its projection's error policy allows (MaxParkedEvents): retry or discard them"
